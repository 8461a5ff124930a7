"""A multilayer perceptron for spectra, beside a linear map."""

from torch import Tensor, nn


class Spectrum(nn.Module):
    """The sum of a linear map and of a network with two hidden layers."""

    def __init__(self, inputs: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.deep = nn.Sequential(
            nn.Linear(inputs, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, outputs),
        )

    def forward(self, spectra: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return self.linear(spectra) + self.deep(spectra)


def spectrum(inputs: int, outputs: int, width: int = 64, dropout: float = 0.0) -> Spectrum:
    """A model with hidden layers of `width` units."""
    return Spectrum(inputs, outputs, width, dropout)
