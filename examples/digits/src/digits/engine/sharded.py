"""Checkpoints of models that FSDP2 has split: each process writes its shards.

`torch.distributed.checkpoint` writes the tensors to a folder `shards-<step>`, and reads them in any
number of processes. The `.pt` file beside it holds the rest.
"""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.serialization import _get_layout as _layout

from ..errors import UserError


def is_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` has split the weights of a model."""
    return any(hasattr(parameter, "device_mesh") for parameter in model.parameters())


def _with_loss(model: nn.Module, loss: nn.Module) -> nn.Module:
    """A module with the model's parameters, and those of a loss that is trained."""
    if not any(parameter.requires_grad for parameter in loss.parameters()):
        return model
    both = copy.copy(model)
    both._modules = {**model._modules, "loss_function": loss}
    return both


def state_dicts(model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> dict[str, Any]:
    """The plain values for the `.pt` file, and under `shards` the tensors for `save_shards`."""
    from torch.distributed.checkpoint import state_dict as states

    optimizer_state: Any = states.get_optimizer_state_dict(_with_loss(model, loss), optimizer)
    weights = states.get_model_state_dict(model)
    parts: dict[str, Any] = {"model": weights, "optimizer": optimizer_state.pop("state")}
    if ema:
        parts["ema"] = states.get_model_state_dict(ema)
    return {"model": {}, "optimizer": optimizer_state, "shards": parts}


def save_shards(parts: Any, folder: Path) -> None:
    """Write tensors; all processes must call this. UserError if the folder can't be written."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(parts, storage_writer=FileSystemWriter(folder))
    except (Exception, CheckpointException) as error:  # the latter is a BaseException
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder}: cannot be written ({reason})") from error


def restore(saved: Any, model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> None:
    """Load a checkpoint into a model and an optimizer; either may be sharded. Or UserError."""
    from torch.distributed.checkpoint import state_dict as states

    both, split = _with_loss(model, loss), "shards" in saved
    if split:
        parts = state_dicts(model, ema, optimizer, loss)["shards"]
        _read(parts, saved["shards"])
        optimizer_state = {"state": parts["optimizer"], **saved["optimizer"]}
    else:
        parts, optimizer_state = saved, _by_name(saved["optimizer"], both, optimizer)
    options = states.StateDictOptions(full_state_dict=not split)
    states.set_model_state_dict(model, parts["model"], options=options)
    states.set_optimizer_state_dict(both, optimizer, optimizer_state, options=options)
    if ema:
        states.set_model_state_dict(ema, parts.get("ema") or parts["model"], options=options)


def _by_name(saved: Any, both: nn.Module, optimizer: Any) -> dict[str, Any]:
    """An optimizer's state dict with the parameters' names in place of their numbers."""
    name_of = {parameter: name for name, parameter in both.named_parameters()}
    names = [name_of[p] for group in optimizer.param_groups for p in group["params"]]
    groups = [{**g, "params": [names[i] for i in g["params"]]} for g in saved["param_groups"]]
    return {"state": {names[i]: s for i, s in saved["state"].items()}, "param_groups": groups}


def load_weights(saved: dict[str, Any], model: nn.Module) -> None:
    """Load the weights that `test` and `run` use: the EMA if there is one. Raises UserError."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    name = "ema" if saved["config"]["train"]["ema"] else "model"
    weights = get_model_state_dict(model)
    _read({name: weights}, saved["shards"])
    set_model_state_dict(model, weights)


def _read(parts: dict[str, Any], shards: str) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import StorageMeta, TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            described.storage_meta = described.storage_meta or StorageMeta()
            described.storage_meta.load_id = self.load_id
            return described

    try:
        with open(Path(shards, ".metadata"), "rb") as file:
            described = _MetadataUnpickler(file).load()
        kinds = {type(item) for item in described.state_dict_metadata.values()}
        if kinds != {TensorStorageMetadata}:
            raise UserError("holds more than tensors, which could run code")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.distributed is disabled.*")
            load(parts, storage_reader=Reader(shards))
    except (Exception, CheckpointException) as error:
        raise UserError(f"{shards}: not loaded: {str(error).splitlines()[-1].strip()}") from error


class _MetadataUnpickler(pickle.Unpickler):
    """Reads the metadata of shards, and refuses every type that it does not need."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = [f"torch.distributed.checkpoint.{n}" for n in ("metadata", "filesystem")]
        found = super().find_class(module, name) if "." not in name else None
        if module in allowed and isinstance(found, type) and found.__module__ == module:
            return found
        if isinstance(found, torch.dtype) or found in (torch.Size, Path, type(Path()), _layout):
            return found
        raise UserError(f"its metadata names {module}.{name}, which could run code")
