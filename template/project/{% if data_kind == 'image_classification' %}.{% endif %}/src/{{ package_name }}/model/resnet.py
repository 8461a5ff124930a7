"""A residual network for small images (He et al., 2015, section 4.2)."""

from torch import Tensor, nn
from torch.nn import functional as F

from .utils import init_weights


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A convolution, three stages of residual blocks, then the mean over the image."""

    def __init__(
        self, num_classes: int, in_channels: int, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                stages.append(Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        self.apply(init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float from 0 to 1, to logits (N, num_classes)."""
        features = self.stages(self.stem(images * 2 - 1)).mean(dim=(2, 3))
        return self.head(self.dropout(features))


def resnet(
    num_classes: int, in_channels: int = 1, width: int = 16, blocks: int = 3, dropout: float = 0.0
) -> ResNet:
    """The CIFAR ResNet of 6 * `blocks` + 2 layers: 20 layers with the defaults."""
    return ResNet(num_classes, in_channels, width, blocks, dropout)
