"""A small detector with one grid: the first thing to try."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ..boxes import Predictions
from .head import Head
from .layers import conv
from .utils import init_weights


class CenterNet(nn.Module):
    """Objects as points of one grid, a quarter of the image's size (Zhou et al., 2019).

    The encoder ends at a sixteenth; the decoder returns to a quarter, and adds the encoder's maps.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        widths = [2 * width, 4 * width, 8 * width]
        self.stem = nn.Sequential(
            *(conv(in_channels, width, stride=2), nn.ReLU(inplace=True)),
            *(conv(width, 2 * width, stride=2), nn.ReLU(inplace=True)),
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                *(conv(a, b, stride=2), nn.ReLU(inplace=True)),
                *(conv(b, b), nn.ReLU(inplace=True)),
            )
            for a, b in pairwise(widths)
        )
        self.across = nn.ModuleList(nn.Conv2d(channels, 4 * width, 1) for channels in widths)
        self.head = Head(4 * width, num_classes, dropout)
        self.apply(init_weights)
        self.head.start()

    def forward(self, images: Tensor) -> Predictions:
        """Images (N, C, H, W), float from 0 to 1."""
        maps = [self.stem(images * 2 - 1)]
        for block in self.down:
            maps.append(block(maps[-1]))
        merged = self.across[-1](maps[-1])
        for layer, features in zip(self.across[1::-1], maps[1::-1], strict=True):
            merged = layer(features) + F.interpolate(merged, features.shape[2:])
        return self.head([F.relu(merged)], [4])


def centernet(
    num_classes: int, in_channels: int = 1, width: int = 12, dropout: float = 0.1
) -> CenterNet:
    """A small detector; its first layer has `width` channels."""
    return CenterNet(num_classes, in_channels, width, dropout)
