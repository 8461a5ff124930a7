"""The U-Net (Ronneberger et al., 2015), small by default: the first thing to try."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .utils import init_weights


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions that keep the size, each with batch norm."""

    def __init__(self, in_channels: int, channels: int) -> None:
        layers: list[nn.Module] = []
        for c in (in_channels, channels):
            layers.append(nn.Conv2d(c, channels, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """An encoder to small maps with a large receptive field, a decoder, and skip connections."""

    def __init__(
        self, num_classes: int, in_channels: int, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        down = pairwise([in_channels, *widths])
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in down)
        self.up = nn.ModuleList(DoubleConv(a + b, a) for a, b in reversed([*pairwise(widths)]))
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of any size, float from 0 to 1, to logits (N, num_classes, H, W)."""
        x, skips = images * 2 - 1, list[Tensor]()
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2, ceil_mode=True) if level else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for block in self.up:
            skip = skips.pop()
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


def unet(
    num_classes: int, in_channels: int = 1, width: int = 8, dropout: float = 0.1, depth: int = 3
) -> UNet:
    """A small U-Net; the first of its `depth` + 1 levels has `width` channels."""
    return UNet(num_classes, in_channels, width, depth, dropout)
