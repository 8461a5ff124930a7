"""The layer that both detectors are made of."""

import math

from torch import nn


def conv(in_channels: int, channels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, padded so that only its stride changes the size, and group norm.

    Detectors learn from few images at a time, too few for the statistics of batch norm
    (Wu and He, 2018).
    """
    layer = nn.Conv2d(in_channels, channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(math.gcd(channels, 8), channels))
