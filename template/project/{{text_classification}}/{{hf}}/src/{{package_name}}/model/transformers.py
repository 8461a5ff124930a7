"""Any encoder of Hugging Face transformers, with its pretrained weights: docs/transformers.md."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.transformers import check_sizes, create, merge_lora
from ..errors import UserError


class Classifier(nn.Module):
    """The mean of the features of all tokens of a text, and a new last layer."""

    def __init__(self, num_classes: int, backbone: Any, dropout: float) -> None:
        super().__init__()
        self.backbone, self.dropout = backbone, nn.Dropout(dropout)
        self.padding = backbone.config.pad_token_id or 0
        self.head = nn.Linear(backbone.config.hidden_size, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of subwords plus 1 (N, L), int64, 0 for padding, to logits (N, num_classes)."""
        inside = ids != 0
        numbers = torch.where(inside, ids - 1, self.padding)
        features = self.backbone(input_ids=numbers, attention_mask=inside.long())[0]
        weights = inside[..., None].to(features.dtype)
        mean = (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return self.head(self.dropout(mean))

    def merge_adapters(self) -> None:
        """What an export does first: LoRA's adapters become part of the weights."""
        merge_lora(self.backbone)


def transformers(
    num_classes: int,
    vocab_size: int,
    max_length: int,
    name: str,
    pretrained: bool = False,
    lora: Mapping[str, Any] | None = None,
    dropout: float = 0.1,
    info: dict[str, Any] | None = None,
    **args: Any,
) -> Classifier:
    """The model `name`, a folder or ORG/NAME on the Hub; more arguments are of its config.json."""
    if info is not None and info["vocabulary"].get("unit") != "subwords":
        raise UserError("model.name=transformers: needs its tokenizer; set data.tokens=subwords")
    backbone = create("AutoModel", info, name, pretrained, lora, **args)
    check_sizes(backbone, vocab_size - 1, "data.max_length", max_length)
    return Classifier(num_classes, backbone, dropout)
