"""Architectures of timm with their pretrained weights, for the models of `model/timm.py`."""

import difflib
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import locate
from ..errors import UserError
from .distributed import log

WEIGHTS = "model.args.pretrained"
SHOWN = 5  # names in a message


class Normalize(nn.Module):
    """Normalizes images from 0 to 1 as the weights expect; grey ones get three equal channels.

    Mean and standard deviation are those of timm's configuration of the weights, or given. They
    are buffers, so that checkpoints and exports have them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> None:
        super().__init__()
        known: Any = backbone.pretrained_cfg
        for name, values in {"mean": mean or known["mean"], "std": std or known["std"]}.items():
            if len(values) != 3:
                raise UserError(f"model.args.{name}: should have 3 numbers: red, green, blue")
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Pyramid(nn.Module):
    """The base of models that use an architecture's feature maps, from fine to coarse.

    There is a map for each stride of the architecture from `finest` on, and for strides of 4 and
    8 in any case: those it lacks are resized from the nearest (as Li et al., 2022, do for plain
    vision transformers).
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        finest: int,
        **args: Any,
    ) -> None:
        super().__init__()
        self.backbone = create(name, pretrained, features_only=True, **args)
        self.normalize = Normalize(self.backbone, mean, std)
        about: Any = self.backbone.feature_info
        last = {stride: number for number, stride in enumerate(about.reduction())}
        self.strides = sorted({4, 8, *(stride for stride in last if stride >= finest)})
        nearest = [min(last, key=lambda own: abs(math.log(own / s))) for s in self.strides]
        self.sources = [last[stride] for stride in nearest]
        self.channels = [about.channels()[number] for number in self.sources]

    def maps(self, images: Tensor) -> list[Tensor]:
        """A map (N, channels, h, w) for each stride, of images that are padded to fit."""
        height, width = images.shape[-2:]
        down, right = -height % self.strides[-1], -width % self.strides[-1]
        images = self.normalize(F.pad(images, (0, right, 0, down)))
        found = self.backbone(images)
        if getattr(self.backbone, "output_fmt", None) == "NHWC":
            found = [features.permute(0, 3, 1, 2) for features in found]
        result = list[Tensor]()
        for stride, source in zip(self.strides, self.sources, strict=True):
            size = [-(-side // stride) for side in images.shape[-2:]]
            result.append(F.interpolate(found[source], size, mode="bilinear"))
        return result


def create(name: str, pretrained: bool | str | None = False, **args: Any) -> nn.Module:
    """A model of timm for images of three channels; UserError if it or its weights are missing.

    `pretrained` is a file of weights, or true for those that timm downloads.
    """
    try:
        timm: Any = import_module("timm")  # slow to import
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch's
        raise UserError(f"model.name=timm: {error}; see 'Install' in docs/timm.md") from error
    known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # also with their tags
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.4))
        raise UserError(f"model.args.name: timm has no model {name!r}; near it: {near or 'none'}")
    if "in_chans" in args:
        raise UserError("model.args.in_chans: grey images become three equal channels; remove it")
    if pretrained is True:
        return _download(timm, name, args)
    if not pretrained:
        return timm.create_model(name, **args)
    path = locate(pretrained)
    tensors = _read(path)
    try:
        model = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **args
        )
    except RuntimeError as error:  # a tensor of another shape
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{WEIGHTS}: {path}: does not fit {name}: {reason}") from error
    _check(model, tensors, path, name)
    return model


def _download(timm: Any, name: str, args: Mapping[str, Any]) -> nn.Module:
    """A model with the weights that timm downloads, or has downloaded before."""
    config = timm.get_pretrained_cfg(name)
    if not (config.hf_hub_id or config.url):
        raise UserError(f"{WEIGHTS}: timm has no weights of {name}; set a file, or false")
    try:
        return timm.create_model(name, pretrained=True, **args)
    except Exception as error:  # of the network: each library raises its own
        if isinstance(error, TypeError | ValueError | RuntimeError | AssertionError):
            raise
        file = config.url
        if config.hf_hub_id:
            file = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        place = f"checkpoints/{config.architecture}{Path(file).suffix}"
        what = f"the weights of {name} were not downloaded ({type(error).__name__})"
        todo = f"save {file} as {place}, and set {WEIGHTS}={place}"
        raise UserError(f"{WEIGHTS}: {what}; {todo}") from error


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"{WEIGHTS}: {path}: no such file")
    try:
        if is_zipfile(path) and ZipFile(path).testzip():
            raise ValueError("wrong checksum")  # torch doesn't compare them
        return import_module("timm.models").load_state_dict(str(path), weights_only=True)
    except Exception as error:  # each format raises its own
        reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise UserError(f"{WEIGHTS}: {path}: not loaded: {reason}") from error


def _check(model: nn.Module, tensors: Mapping[str, Any], path: Path, name: str) -> None:
    """Log how much of a model is from a file; UserError if nothing is.

    timm ignores names that do not fit, and renames some: so values are compared, not names.
    """
    found = {_start(value) for value in tensors.values() if isinstance(value, Tensor)}
    own = {key: value for key, value in model.named_parameters() if value.dim() > 1}
    new = [key for key, value in own.items() if _start(value) not in found]
    if len(new) == len(own):
        has, needs = (", ".join([*names][:SHOWN]) for names in (tensors, own))
        raise UserError(f"{WEIGHTS}: {path}: nothing fits {name}: it has {has}; needed: {needs}")
    log(f"{WEIGHTS}: {len(own) - len(new)} of {len(own)} weights of {name} are from {path}")
    if new:
        log(f"  new in this model: {', '.join(new[:SHOWN])}{' …' * (len(new) > SHOWN)}")


def _start(tensor: Tensor) -> tuple[object, ...]:
    """The shape and the first numbers of a tensor: enough to tell weights apart."""
    return tensor.shape, *tensor.detach().flatten()[:8].float().tolist()
