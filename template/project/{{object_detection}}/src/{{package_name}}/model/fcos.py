"""A larger detector: a residual network, a feature pyramid, and points of several grids.

He et al., 2015; Lin et al., 2017 (Feature Pyramid Networks); Tian et al., 2019 (FCOS).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ..boxes import Predictions
from .head import Head
from .layers import conv
from .utils import init_weights


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride)
        self.conv2 = conv(channels, channels, 3)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else conv(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class FCOS(nn.Module):
    """A grid of points for each size of object: one point every 4, 8, 16 … pixels."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        width: int,
        blocks: int,
        levels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels should be 1 or more, got {levels}")
        self.stem = nn.Sequential(conv(in_channels, width, 3, 2), nn.ReLU(inplace=True))
        self.stages, self.across, self.smooth = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.strides = [4 * 2**level for level in range(levels)]
        channels = width
        for level in range(levels):
            wider = width * 2 ** min(level + 1, 3)
            more = (Block(wider, wider, 1) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(Block(channels, wider, 2), *more))
            self.across.append(nn.Conv2d(wider, 4 * width, 1))
            self.smooth.append(nn.Conv2d(4 * width, 4 * width, 3, padding=1))
            channels = wider
        self.head = Head(4 * width, num_classes, dropout)
        self.apply(init_weights)
        self.head.start()

    def forward(self, images: Tensor) -> Predictions:
        """Images (N, C, H, W), float from 0 to 1."""
        features = self.stem(images * 2 - 1)
        maps: list[Tensor] = []
        for stage, across in zip(self.stages, self.across, strict=True):
            features = stage(features)
            maps.append(across(features))
        for level in reversed(range(len(maps) - 1)):  # adds a coarse map to the finer one
            finer = maps[level]
            maps[level] = finer + F.interpolate(maps[level + 1], finer.shape[2:])
        smooth = [layer(each) for layer, each in zip(self.smooth, maps, strict=True)]
        return self.head(smooth, self.strides)


def fcos(
    num_classes: int,
    in_channels: int = 1,
    width: int = 32,
    blocks: int = 2,
    levels: int = 3,
    dropout: float = 0.0,
) -> FCOS:
    """A residual network of `levels` stages of `blocks` blocks, and a pyramid on top of it.

    The grid of stride s is for objects of about 6 s pixels: three levels are for objects from a few
    pixels to about a hundred, and each further level doubles that.
    """
    return FCOS(num_classes, in_channels, width, blocks, levels, dropout)
