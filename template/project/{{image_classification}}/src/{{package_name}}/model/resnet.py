"""A residual network for small images (He et al., 2015, section 4.2)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .utils import init_weights


def conv(in_channels: int, channels: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution, padded so that only its stride changes the size, and batch norm."""
    layer = nn.Conv2d(in_channels, channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels))


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


class ResNet(nn.Module):
    """A convolution, three stages of residual blocks, then the mean over the image."""

    def __init__(self, num_classes: int, in_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = conv(in_channels, width, 3)
        widths = [width, *(width * 2**stage for stage in range(3) for _ in range(blocks))]
        steps = pairwise(widths)
        self.blocks = nn.Sequential(*(Block(a, b, stride=1 if a == b else 2) for a, b in steps))
        self.head = nn.Linear(widths[-1], num_classes)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float from 0 to 1, to logits (N, num_classes)."""
        features = self.blocks(F.relu(self.stem(images * 2 - 1)))
        return self.head(features.mean(dim=(2, 3)))


def resnet(num_classes: int, in_channels: int = 1, width: int = 16, blocks: int = 3) -> ResNet:
    """The CIFAR ResNet of 6 * `blocks` + 2 layers: 20 layers with the defaults."""
    return ResNet(num_classes, in_channels, width, blocks)
