"""A residual network (He et al., 2015) on spectrograms."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .spectrogram import LogMel
from .utils import init_weights


def conv(in_channels: int, channels: int, size: int, stride: int = 1) -> nn.Sequential:
    """A padded convolution, so that only its stride changes the size, and batch norm."""
    layer = nn.Conv2d(in_channels, channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels))


class Block(nn.Module):
    """Two 3x3 convolutions with a residual connection."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, 3, stride)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(channels, channels, 3)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else conv(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.conv1(x)))
        return F.relu(self.conv2(inner) + self.shortcut(x))


class ResNet(nn.Module):
    """A convolution, three stages of residual blocks, then the mean over the spectrogram."""

    def __init__(
        self, num_classes: int, sample_rate: int, mels: int, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.spectrogram = LogMel(sample_rate, mels)
        self.norm = nn.BatchNorm1d(mels)  # normalizes each band
        self.stem = conv(1, width, 3, stride=2)
        widths = [width, *(width * 2**stage for stage in range(3) for _ in range(blocks))]
        strides = [1 if a == b else 2 for a, b in pairwise(widths)]
        steps = zip(pairwise(widths), strides, strict=True)
        self.blocks = nn.Sequential(*(Block(a, b, stride, dropout) for (a, b), stride in steps))
        self.head = nn.Linear(widths[-1], num_classes)
        self.apply(init_weights)

    def forward(self, sounds: Tensor) -> Tensor:
        """Map sounds (N, T), float from -1 to 1, to logits (N, num_classes)."""
        spectrograms = self.norm(self.spectrogram(sounds))[:, None]
        features = self.blocks(F.relu(self.stem(spectrograms)))
        return self.head(features.mean(dim=(2, 3)))


def resnet(
    num_classes: int,
    sample_rate: int,
    mels: int = 64,
    width: int = 16,
    blocks: int = 2,
    dropout: float = 0.1,
) -> ResNet:
    """A residual network of 6 * `blocks` + 2 layers on `mels` bands."""
    return ResNet(num_classes, sample_rate, mels, width, blocks, dropout)
