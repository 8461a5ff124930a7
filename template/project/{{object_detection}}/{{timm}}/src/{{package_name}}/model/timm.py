"""A detector on top of any architecture of timm, with its pretrained weights: docs/timm.md."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..boxes import Predictions
from ..engine.backbones import Pyramid
from .head import Head


class Detector(Pyramid):
    """A feature pyramid (Lin et al., 2017), and a grid of points for each of its strides."""

    def __init__(
        self,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        width: int,
        dropout: float,
        **args: Any,
    ) -> None:
        super().__init__(name, pretrained, mean, std, finest=4, **args)
        self.across = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in self.channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.channels)
        self.head = Head(width, num_classes, dropout)
        self.head.start()

    def forward(self, images: Tensor) -> Predictions:
        """Images (N, 1 or 3, H, W), float from 0 to 1."""
        maps = [layer(each) for layer, each in zip(self.across, self.maps(images), strict=True)]
        for level in reversed(range(len(maps) - 1)):  # adds a coarse map to the finer one
            finer = maps[level]
            maps[level] = finer + F.interpolate(maps[level + 1], finer.shape[2:])
        smooth = [layer(each) for layer, each in zip(self.smooth, maps, strict=True)]
        return self.head(smooth, self.strides)


def timm(
    num_classes: int,
    name: str,
    pretrained: bool | str | None = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 128,
    dropout: float = 0.0,
    **args: Any,
) -> Detector:
    """The architecture `name` of timm; the pyramid and the head have `width` channels.

    Further arguments are timm's own.
    """
    return Detector(num_classes, name, pretrained, mean, std, width, dropout, **args)
