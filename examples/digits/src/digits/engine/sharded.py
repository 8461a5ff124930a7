"""Checkpoints of models that are split over processes: each writes its part of every weight.

A folder `shards-<step>` holds the tensors, `torch.distributed.checkpoint` puts them together for
any number of processes; the file beside it, all else.
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
    """Whether fully_shard has split its weights."""
    return any(hasattr(parameter, "device_mesh") for parameter in model.parameters())


def _with_loss(model: nn.Module, loss: nn.Module) -> nn.Module:
    """One module of all that is trained: the names of the model's own parameters stay."""
    if not any(parameter.requires_grad for parameter in loss.parameters()):
        return model
    both = copy.copy(model)
    both._modules = {**model._modules, "loss_function": loss}
    return both


def _tensors(model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> tuple[Any, Any]:
    """All tensors by name, and the optimizer's settings."""
    from torch.distributed.checkpoint import state_dict as states

    of_optimizer: Any = states.get_optimizer_state_dict(_with_loss(model, loss), optimizer)
    weights = states.get_model_state_dict(model)
    parts: dict[str, Any] = {"model": weights, "optimizer": of_optimizer["state"]}
    if ema:
        parts["ema"] = states.get_model_state_dict(ema)
    return parts, of_optimizer["param_groups"]


def describe(model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> dict[str, Any]:
    """What the file says in the place of tensors, and, until it is written, the tensors."""
    parts, groups = _tensors(model, ema, optimizer, loss)
    return {"model": {}, "optimizer": {"param_groups": groups}, "shards": parts}


def save_shards(parts: Any, folder: Path) -> None:
    """Write the tensors; all processes must call this. UserError if they can't be written."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(parts, storage_writer=FileSystemWriter(folder))
    except (Exception, CheckpointException) as error:  # torch's are of several kinds
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder}: cannot be written ({reason})") from error


def load_shards(saved: Any, model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> None:
    """Read the tensors into a model, split or whole, and its optimizer.

    Raises UserError if the folder is missing, damaged or holds more than tensors.
    """
    from torch.distributed.checkpoint import state_dict as states

    parts, _ = _tensors(model, ema, optimizer, loss)
    _read(parts, saved["shards"])
    of_optimizer: Any = {"state": parts["optimizer"], **saved["optimizer"]}
    states.set_model_state_dict(model, parts["model"])
    states.set_optimizer_state_dict(_with_loss(model, loss), optimizer, of_optimizer)
    if ema:
        states.set_model_state_dict(ema, parts["ema"])


def load_weights(saved: dict[str, Any], model: nn.Module) -> None:
    """Read what `run` and `test` use, the mean of the weights if there is one; errors as above."""
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
            described = _Plain(file).load()
        kinds = {type(item) for item in described.state_dict_metadata.values()}
        if kinds != {TensorStorageMetadata}:
            raise UserError("holds more than tensors, which could run code")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.distributed is disabled.*")
            load(parts, storage_reader=Reader(shards))
    except (Exception, CheckpointException) as error:  # torch's are of several kinds
        raise UserError(f"{shards}: not loaded: {str(error).splitlines()[-1].strip()}") from error


def load_whole(saved: Any, model: nn.Module, ema: Any, opt: Any, loss: nn.Module) -> None:
    """Split what one process, or each of several, had as a whole."""
    from torch.distributed.checkpoint import state_dict as states

    both = _with_loss(model, loss)
    names = {parameter: name for name, parameter in both.named_parameters()}
    ordered = [names[p] for group in opt.param_groups for p in group["params"]]
    groups = [
        {**group, "params": [ordered[i] for i in group["params"]]}
        for group in saved["optimizer"]["param_groups"]
    ]
    by_name = {ordered[i]: state for i, state in saved["optimizer"]["state"].items()}
    whole = states.StateDictOptions(full_state_dict=True)
    optimizer: Any = {"state": by_name, "param_groups": groups}
    states.set_model_state_dict(model, saved["model"], options=whole)
    states.set_optimizer_state_dict(both, opt, optimizer, options=whole)
    if ema:
        states.set_model_state_dict(ema, saved.get("ema") or saved["model"], options=whole)


class _Plain(pickle.Unpickler):
    """Reads what describes the shards: names, shapes and places, of these types alone."""

    def find_class(self, module: str, name: str) -> Any:
        described = [f"torch.distributed.checkpoint.{n}" for n in ("metadata", "filesystem")]
        found = super().find_class(module, name) if "." not in name else None
        if module in described and isinstance(found, type) and found.__module__ == module:
            return found
        if isinstance(found, torch.dtype) or found in (torch.Size, Path, type(Path()), _layout):
            return found
        raise UserError(f"its description names {module}.{name}, which could run code")
