"""A small convolutional network: the first thing to try."""

from torch import Tensor, nn

from .utils import init_weights


class CNN(nn.Module):
    """Three blocks of two 3x3 convolutions, then the mean over the image."""

    def __init__(self, num_classes: int, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width):
            for c in (in_channels, channels):
                layers.append(nn.Conv2d(c, channels, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers.append(nn.MaxPool2d(2))
            in_channels = channels
        self.features = nn.Sequential(*layers[:-1])  # the mean follows the last block
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(in_channels, num_classes)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float from 0 to 1, to logits (N, num_classes)."""
        features = self.features(images * 2 - 1).mean(dim=(2, 3))
        return self.head(self.dropout(features))


def cnn(num_classes: int, in_channels: int = 1, width: int = 16, dropout: float = 0.1) -> CNN:
    """A small CNN; `width` is the number of channels of its first block."""
    return CNN(num_classes, in_channels, width, dropout)
