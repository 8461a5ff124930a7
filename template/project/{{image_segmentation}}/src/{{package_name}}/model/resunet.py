"""A U-Net of residual blocks (Zhang et al., 2018), with bilinear upsampling."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .utils import init_weights


def conv(in_channels: int, channels: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution, padded so that only its stride changes the size, and batch norm."""
    layer = nn.Conv2d(in_channels, channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels))


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut around them (He et al., 2015)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride)
        self.conv2 = conv(channels, channels, 3)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else conv(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResUNet(nn.Module):
    """An encoder of residual blocks that halves the size per level, a decoder, skip connections."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        width: int,
        depth: int,
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = conv(in_channels, width, 3)
        self.down = nn.ModuleList([self._level(width, width, 1, blocks)])
        self.down.extend(self._level(a, b, 2, blocks) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Block(a + b, a) for a, b in reversed([*pairwise(widths)]))
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.apply(init_weights)

    @staticmethod
    def _level(in_channels: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
        more = (Block(channels, channels) for _ in range(blocks - 1))
        return nn.Sequential(Block(in_channels, channels, stride), *more)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of any size, float from 0 to 1, to logits (N, num_classes, H, W)."""
        x, skips = F.relu(self.stem(images * 2 - 1)), list[Tensor]()
        for level in self.down:
            x = level(x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for block in self.up:
            skip = skips.pop()
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


def resunet(
    num_classes: int,
    in_channels: int = 1,
    width: int = 16,
    dropout: float = 0.1,
    depth: int = 4,
    blocks: int = 2,
) -> ResUNet:
    """A residual U-Net with `blocks` blocks on each of the `depth` + 1 levels of its encoder."""
    return ResUNet(num_classes, in_channels, width, depth, blocks, dropout)
