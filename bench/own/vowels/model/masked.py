"""A convolutional network on sequences of any length."""

from torch import Tensor, nn


class Masked(nn.Module):
    """Two convolutions over time, and the mean over the real steps."""

    def __init__(self, channels: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.last = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, steps: Tensor, real: Tensor) -> Tensor:
        """Map steps (N, T, channels) and the mask of the real ones (N, T) to logits (N, classes)."""
        mask = real[:, None]
        hidden = self.first(steps.transpose(1, 2)).relu() * mask
        hidden = self.second(hidden).relu() * mask
        return self.last(hidden.sum(dim=2) / mask.sum(dim=2))


def masked(num_classes: int, width: int = 64, dropout: float = 0.2) -> Masked:
    """A model with layers of `width` channels."""
    return Masked(12, num_classes, width, dropout)
