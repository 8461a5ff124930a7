"""A U-Net whose encoder is any architecture of timm, with pretrained weights: docs/timm.md."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine.backbones import Pyramid


class Segmenter(Pyramid):
    """An architecture of timm as the encoder, a decoder, and skip connections."""

    def __init__(
        self,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        width: int,
        **args: Any,
    ) -> None:
        super().__init__(name, pretrained, mean, std, finest=2, **args)
        self.up, below = nn.ModuleList(), self.channels[-1]
        for channels in self.channels[-2::-1]:
            self.up.append(_double_conv(below + channels, width))
            below = width
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1 or 3, H, W) from 0 to 1, to logits (N, num_classes, H, W)."""
        maps = self.maps(images)
        x = maps.pop()
        for block in self.up:
            skip = maps.pop()
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear")
            x = block(torch.cat([skip, x], dim=1))
        logits = F.interpolate(self.head(x), scale_factor=float(self.strides[0]), mode="bilinear")
        return logits[..., : images.shape[-2], : images.shape[-1]]


def _double_conv(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c in (in_channels, channels):
        layers.append(nn.Conv2d(c, channels, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def timm(
    num_classes: int,
    name: str,
    pretrained: bool | str | None = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 64,
    **args: Any,
) -> Segmenter:
    """The architecture `name` of timm; `width` is the number of channels of the decoder.

    Further arguments are timm's own.
    """
    return Segmenter(num_classes, name, pretrained, mean, std, width, **args)
