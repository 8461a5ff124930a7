"""Models that FSDP2 splits over processes, and their checkpoints: each process writes its shards.

`torch.distributed.checkpoint` writes the tensors to a folder `shards-<step>`, and reads them in any
number of processes. The `.pt` file beside it holds the rest. The contents of a checkpoint have

- `tensors`, before they are written: the tensors by name, which are not in the file;
- `shards`, in the file: the name of the folder that holds them; `sums`: the checksums of its files;
- `shards_folder`, once the file is loaded: the folder's path.
"""

import copy
import math
import pickle
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field, ValidationError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.serialization import _get_layout as _layout
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from ..config import Section
from ..errors import UserError
from ..options import Config, Distributed
from . import checkpoint, distributed


class Options(Section):
    """`distributed.fsdp` of the config."""

    activation_checkpointing: Annotated[int, Field(ge=0)] = 0  # of every Nth block; 0: of none
    param_dtype: Literal["fp32", "bf16"] = "fp32"  # of the weights that a process gathers
    meta_device: bool = False  # no process ever holds all weights: see `build_model`


def read_options(options: Distributed) -> Options:
    """The options of FSDP; UserError for a wrong one."""
    try:
        return Options.model_validate(options.fsdp)
    except ValidationError as error:
        [first, *_] = error.errors()
        key = ".".join(map(str, ("distributed.fsdp", *first["loc"])))
        known = f"; there are: {', '.join(Options.model_fields)}"
        raise UserError(f"{key}: {first['msg']}, got {first['input']!r}{known}") from error


# --- models ---
def build_model(task: Any, config: Config, device: torch.device) -> nn.Module:
    """The model on the device; with `meta_device`, its parameters have no values yet.

    `split` gives them values by the model's own method `init_weights`, which must set them all.
    Buffers have values already. Raises UserError if the model or the config doesn't allow this.
    """
    options, key = config.distributed, "distributed.fsdp.meta_device"
    on_meta = read_options(options).meta_device and options.strategy == "fsdp"
    if not (on_meta and dist.is_initialized()):
        return task.build_model().to(device)
    if config.train.ema:
        raise UserError(f"{key}: train.ema starts as a copy of the whole model; set it to null")
    with _parameters_on_meta(), warnings.catch_warnings():
        warnings.filterwarnings("error", ".*non-meta parameter in the checkpoint.*")
        try:
            model: nn.Module = task.build_model()
        except UserWarning as error:  # of load_state_dict
            raise UserError(f"{key}: the model reads pretrained weights; use false") from error
    if not hasattr(model, "init_weights"):
        raise UserError(f"{key}: the model has no method init_weights (docs/fsdp.md)")
    if names := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        raise UserError(f"{key}: buffers are computed from weights, {', '.join(names)}; use false")
    return model


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules that are built in this block keep no values of parameters, only their shapes."""
    register = nn.Module.register_parameter
    known: Any = WeakIdKeyDictionary()  # a parameter of several modules stays a single one

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            empty = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
            parameter = known.setdefault(parameter, empty)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@torch.no_grad()
def _materialize(model: Any, device: torch.device) -> None:
    """Give the shards of all parameters memory and values; UserError if one gets no value."""
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.experimental import implicit_replication

    model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
    for parameter in model.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.fill_(math.nan)
    if device.type == "cpu":  # each process draws its shards from its own generator
        torch.manual_seed(torch.initial_seed() + distributed.rank())
    whole: Any = _WholeWeights
    with implicit_replication(), whole():  # so weights can be set from whole tensors
        model.init_weights()
    empty = [
        name
        for name, p in model.named_parameters()
        if not isinstance(p, DTensor) or p.to_local().isnan().any()
    ]
    if names := sorted({name for each in distributed.gather(empty) for name in each}):
        raise UserError(f"model: init_weights sets no value of {', '.join(names)}")


class _WholeWeights(TorchDispatchMode):
    """Raises UserError where a write to a DTensor would be lost: a slice of it can be a copy."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alias = args and func._schema.arguments[0].alias_info
        if not alias or not hasattr(args[0], "_local_tensor"):
            return func(*args, **(kwargs or {}))
        lost = vars(args[0]).get("lost", False)
        if alias.is_write and lost:
            do = "set the whole of it, for example with weight.mul_(mask)"
            raise UserError(f"model: init_weights sets a part of a weight, which is split; {do}")
        found = func(*args, **(kwargs or {}))
        storage = args[0]._local_tensor.untyped_storage()._cdata
        for view in found if isinstance(found, list | tuple) else [found]:
            copied = view._local_tensor.untyped_storage()._cdata != storage
            view.lost = lost or copied
        return found


def split(
    model: nn.Module, options: Distributed, device: torch.device, ema: nn.Module | None = None
) -> None:
    """Split a model and its EMA over the processes of the group, if any. Raises UserError."""
    own = read_options(options)
    if own.activation_checkpointing:
        recompute(model, own.activation_checkpointing)
    if not dist.is_initialized():
        return
    from torch.distributed.tensor.experimental import implicit_replication  # slow to import

    shard(model, device, own.param_dtype)
    if any(parameter.is_meta for parameter in model.parameters()):
        _materialize(model, device)
    if ema:
        shard(ema, device)  # in fp32, as `test` and `run` use it
    model.no_sync = partial(_no_sync, model)  # type: ignore[assignment]
    distributed.mixed_tensors = implicit_replication  # a loss is not split
    distributed.take = _take_together
    distributed.even_batches = _even_batches


def recompute(model: nn.Module, every: int) -> None:
    """Keep no activations of every Nth block: its forward pass runs again in the backward pass."""
    from torch.utils.checkpoint import checkpoint as checkpointed

    # A batch norm that runs twice would count each batch twice; a single layer keeps its input.
    blocks = [unit for unit in _units(model) if any(True for _ in unit.children())]
    blocks = [b for b in blocks if not any(isinstance(m, _BatchNorm) for m in b.modules())]
    if not blocks:
        reason = "the model has no block of several modules without batch norm"
        raise UserError(f"distributed.fsdp.activation_checkpointing: {reason}; set it to 0")
    for block in blocks[::every]:
        block.forward = partial(checkpointed, block.forward, use_reentrant=False)


def shard(model: nn.Module, device: torch.device, dtype: str = "fp32") -> None:
    """Split each weight over all processes; FSDP2 gathers a block when it is called, as `dtype`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if scalars := [name for name, p in model.named_parameters() if p.dim() == 0]:
        do = "give it a dimension: torch.ones(1)"
        raise UserError(f"model: fsdp splits no scalar, {', '.join(scalars)}; {do}")
    mesh = init_device_mesh(device.type, (distributed.world(),))
    policy = outer = MixedPrecisionPolicy()
    if dtype == "bf16":  # gradients are summed in fp32, and outputs are fp32
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        outer = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32)
        for module in model.modules():
            if isinstance(module, _BatchNorm):  # its statistics are fp32, so are its weights
                fully_shard(module, mesh=mesh)
    units = [unit for unit in _units(model) if any(True for _ in unit.parameters())]
    units = [unit for unit in units if type(unit).forward is not nn.Module.forward]
    uses = Counter(p for unit in units for p in unit.parameters())
    within = {module for unit in units for module in unit.modules()}
    beside = [module for module in model.modules() if module not in within]
    uses.update(p for module in beside for p in module.parameters(recurse=False))
    for unit in units:
        if isinstance(unit, FSDPModule):  # a batch norm
            continue
        if all(uses[p] == 1 for p in unit.parameters()):  # tied weights belong to the root
            unit.register_forward_hook(_no_view)
            fully_shard(unit, mesh=mesh, mp_policy=policy)
    model.register_forward_hook(_no_view)
    fully_shard(model, mesh=mesh, mp_policy=outer)


def _no_view(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy an output that is a view: FSDP2 would not notice an in-place operation on it."""
    view = isinstance(output, torch.Tensor) and output._base is not None
    return output.clone() if view else output


def _units(model: nn.Module) -> list[nn.Module]:
    """The modules to split: items of lists and dicts of modules, else the model's children."""
    return [*_items(model)] or [*model.children()]


def _items(module: nn.Module) -> Iterator[nn.Module]:
    """Items of the outermost lists and dicts; FSDP2 can't split those, which have no `forward`."""
    for child in module.children():
        lists = (nn.ModuleList, nn.ModuleDict)
        if isinstance(module, lists) and not isinstance(child, lists):
            yield child
        else:
            yield from _items(child)


@contextmanager
def _no_sync(model: Any) -> Iterator[None]:
    """Exchange no gradients, as DDP's `no_sync`: more batches of the step follow."""
    model.set_requires_gradient_sync(False)
    model.set_is_last_backward(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
        model.set_is_last_backward(True)


def _take_together(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """At most `count` batches, equally many in each process: a forward pass needs all processes."""
    for _ in range(count):
        batch = next(batches, None)
        if distributed.all_sum(batch is None) != [0]:
            return
        yield batch


def _even_batches(batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it counts: a process with fewer batches repeats its last one.

    A forward pass gathers weights from all processes. UserError if a process has no batch.
    """
    iterator, last = iter(batches), None
    while distributed.all_sum((batch := next(iterator, None)) is not None) != [0]:
        last = last if batch is None else batch
        if last is None:
            raise UserError("data: a split has fewer samples than there are processes; add some")
        yield last, batch is not None


# --- checkpoints ---
def _with_loss(model: nn.Module, loss: nn.Module) -> nn.Module:
    """A module with the model's parameters, and those of a loss that is trained."""
    if not any(parameter.requires_grad for parameter in loss.parameters()):
        return model
    both = copy.copy(model)
    both._modules = {**model._modules, "loss_function": loss}
    return both


def state_dicts(model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> dict[str, Any]:
    """The plain values for the `.pt` file, and under `tensors` those for `save_shards`."""
    from torch.distributed.checkpoint import state_dict as states

    roots: list[Any] = [model, ema]
    for root in roots:  # after an evaluation, weights are still gathered: no backward pass
        if hasattr(root, "reshard"):
            root.reshard()
    optimizer_state: Any = states.get_optimizer_state_dict(_with_loss(model, loss), optimizer)
    weights = states.get_model_state_dict(model)
    parts: dict[str, Any] = {"model": weights, "optimizer": optimizer_state.pop("state")}
    if ema:
        parts["ema"] = states.get_model_state_dict(ema)
    return {"model": {}, "optimizer": optimizer_state, "tensors": parts}


class Writer(checkpoint.Writer):
    """Writes the shards of a state before its file, and removes those that no state needs."""

    group: Any = None  # of the threads that write shards in the background

    def save(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        tensors = contents.pop("tensors", None)
        if not tensors:
            super().save(contents, replaced_step, old_best)
            return
        self.wait()
        folder = self.run / f"shards-{contents['step']:08d}"
        contents["shards"] = folder.name
        known = replaced_step == contents["step"] and (folder / ".metadata").is_file()
        known = all(distributed.gather(known))
        if self.thread:
            self.group = self.group or dist.new_group(backend="gloo")
            shards = None if known else save_shards(tensors, folder, self.group)
            arguments = checkpoint.cpu_copy(contents), replaced_step, old_best, shards
            self.writing = self.thread.submit(self._write_shards, *arguments)
        else:
            if not known:
                save_shards(tensors, folder)
            self._write_shards(contents, replaced_step, old_best)
        distributed.all_sum()

    def _write_shards(
        self, contents: dict[str, Any], replaced_step: int, old_best: str, shards: Any = None
    ) -> None:
        """Write the file of a state, on rank 0, once its shards are on the disk."""
        folder = self.run / contents["shards"]
        if shards:
            with write_errors(folder):
                shards.result()
        if distributed.rank() == 0:
            with write_errors(folder):
                checkpoint.sync(folder)
                contents["sums"] = _checksums(folder)
            self._write(contents, replaced_step, old_best)

    def _write(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        super()._write(contents, replaced_step, old_best)
        folders, best = {path.name for path in self.run.glob("shards-*")}, contents["best"]["file"]
        if not folders:
            return
        names = [checkpoint.LAST, *([best] if best else [])]
        states = [*(self.run / name for name in names), *checkpoint.earlier(self.run)]
        try:
            used = {checkpoint.read(path).get("shards") for path in states if path.is_file()}
            for name in folders - used:
                shutil.rmtree(self.run / name)
        except (OSError, RuntimeError) as error:
            print(f"warning: {self.run}: old shards are kept ({error})", file=sys.stderr)


def find_shards(contents: dict[str, Any], path: Path) -> None:
    """Add the folder of the shards to the contents of a file; UserError if they are not intact."""
    run = path.parent.parent if path.parent.name == checkpoint.EARLIER else path.parent
    folder = run / Path(str(contents["shards"])).name
    if not (folder / ".metadata").is_file():
        raise UserError(f"{path}: not loaded: its tensors are missing, {folder}")
    if contents.get("sums", found := _checksums(folder)) != found:  # v0.7 saves none
        raise UserError(f"{path}: not loaded: its tensors are damaged, {folder}")
    contents["shards_folder"] = folder


def _checksums(folder: Path) -> dict[str, int]:
    return {path.name: checkpoint.checksum(path) for path in sorted(folder.iterdir())}


def save_shards(parts: Any, folder: Path, group: Any = None) -> Any:
    """Write tensors; all processes must call this. UserError if the folder can't be written.

    With a group, a copy is written in the background; returns a future.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save, save

    with write_errors(folder):
        writer = FileSystemWriter(folder)
        if group:
            return async_save(parts, storage_writer=writer, process_group=group)
        return save(parts, storage_writer=writer)


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Raise UserError for any error in the block that writes to a folder."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (Exception, CheckpointException) as error:  # the latter is a BaseException
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder}: cannot be written ({reason})") from error


def restore(saved: Any, model: nn.Module, ema: Any, optimizer: Any, loss: nn.Module) -> None:
    """Load a checkpoint into a model and an optimizer; either may be sharded. Raises UserError."""
    from torch.distributed.checkpoint import state_dict as states

    both, in_shards = _with_loss(model, loss), "shards" in saved
    if in_shards:
        parts = state_dicts(model, ema, optimizer, loss)["tensors"]
        _read(parts, saved["shards_folder"])
        optimizer_state = {"state": parts["optimizer"], **saved["optimizer"]}
    else:
        parts, optimizer_state = saved, _by_name(saved["optimizer"], both, optimizer)
    options = states.StateDictOptions(full_state_dict=not in_shards)
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
    _read({name: weights}, saved["shards_folder"])
    set_model_state_dict(model, weights)


def _read(parts: dict[str, Any], folder: Path) -> None:
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
        with open(folder / ".metadata", "rb") as file:
            described = _MetadataUnpickler(file).load()
        kinds = {type(item) for item in described.state_dict_metadata.values()}
        if kinds != {TensorStorageMetadata}:
            raise UserError("holds more than tensors, which could run code")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.distributed is disabled.*")
            load(parts, storage_reader=Reader(folder))
    except (Exception, CheckpointException) as error:
        raise UserError(f"{folder}: not loaded: {str(error).splitlines()[-1].strip()}") from error


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
