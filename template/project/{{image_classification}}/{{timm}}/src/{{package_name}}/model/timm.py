"""Any architecture of timm, with its pretrained weights: docs/timm.md."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..engine.backbones import Normalize, create


class Classifier(nn.Module):
    """An architecture of timm whose last layer is replaced by one for the classes of the data."""

    def __init__(
        self,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        **args: Any,
    ) -> None:
        super().__init__()
        self.backbone = create(name, pretrained, num_classes=0, **args)
        self.normalize = Normalize(self.backbone, mean, std)
        channels: Any = self.backbone.head_hidden_size
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1 or 3, H, W), float from 0 to 1, to logits (N, num_classes)."""
        return self.head(self.backbone(self.normalize(images)))


def timm(
    num_classes: int,
    name: str,
    pretrained: bool | str | None = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **args: Any,
) -> Classifier:
    """The architecture `name` of timm; further arguments are timm's own."""
    return Classifier(num_classes, name, pretrained, mean, std, **args)
