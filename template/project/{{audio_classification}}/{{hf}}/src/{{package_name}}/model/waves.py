"""Encoders of sound waves of Hugging Face transformers: docs/transformers.md."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.transformers import create, library, merge_lora, read
from ..errors import UserError


class Classifier(nn.Module):
    """The mean of the features of a sound, and a new last layer."""

    def __init__(self, num_classes: int, backbone: Any, normalize: bool, dropout: float) -> None:
        super().__init__()
        self.backbone, self.normalize, self.dropout = backbone, normalize, nn.Dropout(dropout)
        self.head = nn.Linear(backbone.config.hidden_size, num_classes)

    def forward(self, sounds: Tensor) -> Tensor:
        """Sounds (N, T), float from -1 to 1, to logits (N, num_classes)."""
        if self.normalize:
            variance, mean = torch.var_mean(sounds, dim=1, correction=0, keepdim=True)
            sounds = (sounds - mean) / (variance + 1e-7).sqrt()
        return self.head(self.dropout(self.backbone(sounds)[0].mean(dim=1)))

    def merge_adapters(self) -> None:
        """What an export does first: LoRA's adapters become part of the weights."""
        merge_lora(self.backbone)


def transformers(
    num_classes: int,
    sample_rate: int,
    name: str,
    pretrained: bool = False,
    lora: Mapping[str, Any] | None = None,
    dropout: float = 0.1,
    info: dict[str, Any] | None = None,
    **args: Any,
) -> Classifier:
    """The model `name`, a folder or ORG/NAME on the Hub; more arguments are of its config.json.

    Layers are not dropped, and spectra not masked, unless arguments say so: several processes
    need a gradient for each parameter, and `data.transforms` augments sounds.
    """
    args = {"layerdrop": 0.0, "apply_spec_augment": False, **args}
    backbone: Any = create("AutoModel", info, name, pretrained, lora, **args)
    assert info is not None  # `create` refuses it
    if "sounds" not in info:  # what preprocessor_config.json says
        about = read(name, library().AutoFeatureExtractor.from_pretrained)
        info["sounds"] = {"rate": about.sampling_rate, "normalize": bool(about.do_normalize)}
    about = info["sounds"]
    if sample_rate != about["rate"]:
        todo = f"set data.sample_rate={about['rate']} data.resample=true"
        raise UserError(f"data.sample_rate: the model expects {about['rate']} Hz; {todo}")
    if not backbone.config.apply_spec_augment and hasattr(backbone, "masked_spec_embed"):
        backbone.masked_spec_embed.requires_grad_(False)  # it would get no gradient
    return Classifier(num_classes, backbone, about["normalize"], dropout)
