"""A small convolutional network on spectrograms: the first thing to try."""

from torch import Tensor, nn

from .spectrogram import LogMel
from .utils import init_weights


class CNN(nn.Module):
    """Three blocks of two 3x3 convolutions, each halving the resolution, then mean pooling."""

    def __init__(
        self, num_classes: int, sample_rate: int, mels: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.spectrogram = LogMel(sample_rate, mels)
        self.norm = nn.BatchNorm1d(mels)  # normalizes each band
        layers: list[nn.Module] = []
        inputs = 1
        for channels in (width, 2 * width, 4 * width):
            for c, stride in ((inputs, 2), (channels, 1)):
                layers.append(nn.Conv2d(c, channels, 3, stride, padding=1, bias=False))
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)
        self.apply(init_weights)

    def forward(self, sounds: Tensor) -> Tensor:
        """Map sounds (N, T), float from -1 to 1, to logits (N, num_classes)."""
        spectrograms = self.norm(self.spectrogram(sounds))[:, None]
        return self.head(self.dropout(self.features(spectrograms).mean(dim=(2, 3))))


def cnn(
    num_classes: int, sample_rate: int, mels: int = 40, width: int = 16, dropout: float = 0.1
) -> CNN:
    """A small CNN on `mels` bands; `width` is the number of channels of its first block."""
    return CNN(num_classes, sample_rate, mels, width, dropout)
