"""Fine-tuning: start from the weights of a file or a run, and freeze parts of the model."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import locate
from ..errors import UserError
from . import checkpoint
from .distributed import log

WRAPPERS = ("module.", "_orig_mod.")  # what DDP and torch.compile put before each name
SHOWN = 5  # names of tensors in a message


def fine_tune(model: nn.Module, weights: str | None, patterns: list[str]) -> None:
    """Apply `model.weights` and `model.freeze` to a model."""
    if weights:
        load_weights(model, weights)
    if patterns:
        freeze(model, patterns)


def load_weights(model: nn.Module, source: str) -> None:
    """Copy the tensors that fit from a run's best checkpoint, a .pt or a .safetensors file.

    A tensor fits if its name and shape are those of the model. Prints which ones do not; UserError
    if none fits, or if the file cannot be read.
    """
    path = locate(source)
    tensors, own = read(path), model.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and t.shape == own[name].shape}
    if not fitting:
        names = f"it has {_few(tensors, tensors)}; the model has {_few(own, own)}"
        raise UserError(f"model.weights: {path}: nothing fits: {names}")
    model.load_state_dict(fitting, strict=False)
    log(f"model.weights: {len(fitting)} of {len(own)} tensors are from {path}")
    if new := [name for name in own if name not in fitting]:
        others = [name for name in new if name in tensors]
        log(f"  new in this model: {_few(new, own)}")
        if others:
            log(f"  of another shape in the file: {_few(others, tensors)}")
    if unused := [name for name in tensors if name not in own]:
        log(f"  only in the file: {_few(unused, tensors)}")


def warn_of_others(info: Mapping[str, Any], source: str) -> None:
    """Warn if the data of the run `source` had other classes or words than `info` has.

    The rows of a tensor whose shape fits may still stand for other classes or other words.
    """
    path = locate(source)
    with suppress(Exception):  # of a file without `info`; `load_weights` says what is wrong
        path = checkpoint.find(str(path), path.parent) if path.is_dir() else path
        before = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["info"]
        known = [name for name in info if name in before and name != "counts"]
        if names := [name for name in known if before[name] != info[name]]:
            what = f"that run's data had other {', '.join(names)}"
            log(f"warning: model.weights: {what}; see docs/pretrained.md, Another data set")


def _few(names: Iterable[str], tensors: Mapping[str, Tensor]) -> str:
    """The first few names, with the shapes of their tensors."""
    found = [f"{name} {tuple(tensors[name].shape)}" for name in names]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; or UserError."""
    if path.is_dir():
        path = checkpoint.find(str(path), path.parent)
    if not path.is_file():
        raise UserError(f"model.weights: {path}: no such file or run")
    try:
        if _first_bytes(path) == b"PK" and not checkpoint.intact(path):
            raise ValueError("wrong checksum")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format raises its own
        reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise UserError(f"model.weights: {path}: not loaded: {reason}") from error
    for key in ("ema", "model", "state_dict", "model_state_dict"):  # of a checkpoint
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    tensors = found.items() if isinstance(found, dict) else ()
    named = {_unwrapped(name): t for name, t in tensors if isinstance(t, Tensor)}
    if not named:
        raise UserError(f"model.weights: {path}: holds no tensors by name")
    return named


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(2)


def _unwrapped(name: Any) -> str:
    name = str(name)
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Stop training the parameters whose names match a pattern, such as `layers.0.*`.

    Batch norms without a trained parameter stay in evaluation mode, so their statistics stay too.
    UserError for a pattern that matches no parameter, or if nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        frozen = [name for name in parameters if fnmatch(name, pattern)]
        if not frozen:
            tops = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in parameters))
            raise UserError(f"model.freeze: {pattern!r} matches no parameter; try {tops}")
        for name in frozen:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("model.freeze: matches every parameter; nothing is left to train")
    model.train = MethodType(_train, model)  # type: ignore[method-assign]


def _train(model: nn.Module, mode: bool = True) -> nn.Module:
    """`nn.Module.train`, but frozen batch norms stay in evaluation mode."""
    type(model).train(model, mode)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(p.requires_grad for p in own):
            module.eval()
    return model
