"""Any causal language model of Hugging Face transformers: docs/transformers.md."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..engine.transformers import check_sizes, create, merge_lora
from ..errors import UserError


class Causal(nn.Module):
    """A model of transformers with the arguments and outputs of the other models here."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L), int64, to logits (N, L, vocab_size) of the tokens that follow."""
        return self.backbone(input_ids=tokens, use_cache=False).logits

    def step(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """As `forward`, after the tokens that are in the cache, and into it."""
        outputs = self.backbone(input_ids=tokens, cache=cache, use_cache=True)
        return outputs.logits, outputs.cache

    def merge_adapters(self) -> None:
        """What an export does first: LoRA's adapters become part of the weights."""
        merge_lora(self.backbone)


def transformers(
    vocab_size: int,
    context: int,
    name: str,
    pretrained: bool = False,
    lora: Mapping[str, Any] | None = None,
    info: dict[str, Any] | None = None,
    **args: Any,
) -> Causal:
    """The model `name`, a folder or ORG/NAME on the Hub; more arguments are of its config.json."""
    if info is not None and "subwords" not in info:
        raise UserError("model.name=transformers: needs its tokenizer; set data.tokens=subwords")
    backbone = create("AutoModelForCausalLM", info, name, pretrained, lora, **args)
    check_sizes(backbone, vocab_size, "data.context", context)
    return Causal(backbone)
