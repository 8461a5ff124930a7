"""An exported model: traced, compared with the model itself, and loaded again without it."""

import contextlib
import importlib
import inspect
import logging
import os
import warnings
from collections import namedtuple
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, JsonValue, ValidationError
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from . import task as yours
from .config import load as load_config
from .engine.contract import Batch, Task
from .errors import UserError
from .options import Config

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or ONNX Runtime reports to its maker
FILES = {"onnx": "model.onnx", "pt2": "model.pt2"}
TOLERANCE = 1e-4  # of the largest output: sums in another order differ by some 1e-6
Sizes = Set[tuple[int, int]]  # dimensions, each with its size


class About(BaseModel):
    """`export.json`: what it takes to use the files beside it, in plain values."""

    model: str
    suffix: str  # of most files of the training data
    inputs: dict[str, str]  # what the model is called with: names and types
    outputs: list[str]  # names of the tensors of its tuple; none if it gives one tensor
    info: dict[str, JsonValue]  # what the task knows of the training data
    versions: dict[str, str]


# --- writing: all on the CPU ---


class Flat(nn.Module):
    """A model as both formats know one: tensors in by their place, a tuple of tensors out."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(**dict(zip(self.names, tensors, strict=True)))
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@torch.no_grad()
def write(
    folder: Path, task: Task, model: nn.Module, batch: Batch, formats: Sequence[str]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Write `model` in these formats; returns inputs and outputs as in `About`, and what was tried.

    The batch is what it is traced with and tried on. Raises UserError if a format cannot be made,
    or does not give what the model gives.
    """
    inputs, outputs = observe(task, model, batch)
    names, flat, tried = list(inputs), Flat(model, list(inputs)).eval(), list[str]()
    tensors = [torch.cat([each, each]) for each in inputs.values()]  # a single one would be fixed
    logging.disable(logging.WARNING)
    try:
        varying = sizes_that_vary(flat, tensors)
        with warnings.catch_warnings(action="ignore"):
            program = trace(flat, tensors, varying)
            for format in formats:
                save = to_onnx if format == "onnx" else torch.export.save
                save(program, folder / FILES[format])
        for format in formats:
            exported = Exported(folder / FILES[format], names, outputs or ["output"])
            tried += [compare(flat, exported, tensors), compare(flat, exported, cut(tensors, 1))]
            if varying:
                shorter = cut(tensors, 2, varying, 0.5)
                tried.append(compare(flat, exported, shorter, may_refuse=True))
    except Exception as error:  # of a dozen kinds
        raise UserError(f"{_reason(error)}\nnothing is exported; see docs/export.md") from error
    finally:
        logging.disable(logging.NOTSET)
    types = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()}
    return types, outputs, tried


def observe(task: Task, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], list[str]]:
    """What `task.forward` calls the model with, by name, and names for what the model gives."""
    calls: list[tuple[Any, Any, Any]] = []
    hook = model.register_forward_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    task.forward(model, batch)
    hook.remove()
    if len(calls) != 1:
        raise UserError(f"task.forward calls the model {len(calls)} times; to export it, once")
    args, kwargs, given = calls[0]
    inputs = dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
    outputs = given if isinstance(given, tuple | list) else [given]
    if not all(isinstance(each, Tensor) for each in [*inputs.values(), *outputs]):
        raise UserError("the model takes or gives other things than tensors; it can't be exported")
    numbered = [f"output_{number}" for number in range(len(outputs))]
    return inputs, list(getattr(given, "_fields", numbered)) if outputs is given else []


def sizes_that_vary(model: Flat, tensors: Sequence[Tensor]) -> Sizes:
    """The dimensions, but for that of the samples, that the model also takes shorter."""
    found = {(d, size) for t in tensors for d, size in enumerate(t.shape) if d and size > 2}
    for each in sorted(found):
        try:
            model(*cut(tensors, 2, {each}, 0.75))
        except Exception:  # each model refuses in its own way
            found.remove(each)
    return found


def cut(
    tensors: Sequence[Tensor], count: int, sizes: Sizes = frozenset(), part: float = 1
) -> list[Tensor]:
    """The first `count` samples, and of the dimensions `sizes` the first `part`."""
    short = list[Tensor]()
    for tensor in tensors:
        ends = [max(2, int(part * n)) if (d, n) in sizes else n for d, n in enumerate(tensor.shape)]
        short.append(tensor[tuple(map(slice, [count, *ends[1:]]))].contiguous())
    return short


def trace(model: Flat, tensors: Sequence[Tensor], varying: Sizes) -> ExportedProgram:
    """The model as torch.export sees it, which also finds out what sizes are free."""
    shapes = (tuple(dict.fromkeys(range(tensor.dim()), Dim.AUTO) for tensor in tensors),)
    # Short, since a slice up to the largest size would be taken for the whole; but nn.GRU fixes the
    # length that it is traced with, which then has to be that of the data.
    for part in (0.75, 1):
        example = tuple(cut(tensors, 3, varying, part))
        program = torch.export.export(model, example, dynamic_shapes=shapes)
        with contextlib.suppress(Exception):
            program.module(check_guards=False)(*tensors)
            break
    return program


def to_onnx(program: ExportedProgram, path: Path) -> None:
    """As ONNX, in one file up to 2 GB."""
    package("onnxscript")
    converted: Any = torch.onnx.export(program, (), verbose=False)
    for node in converted.model.graph:  # the runtime infers them anew; these may be of the example
        for value in node.outputs:
            value.shape = None
    converted.save(path)


def compare(
    model: Flat, exported: "Exported", tensors: list[Tensor], may_refuse: bool = False
) -> str:
    """Call both, and say in a line how far they differ; UserError if that is too far."""
    what, difference = f"{exported.file} for {sizes_of(tensors)}", 0.0
    try:
        theirs = exported(*tensors)
    except UserError:
        if may_refuse:
            return f"{what}: refused"
        raise
    for own, their in zip(model(*tensors), theirs, strict=True):
        allowed = TOLERANCE * float(own.double().abs().max())
        same = own.shape == their.shape and own.dtype == their.dtype
        apart = float((own.double() - their.double()).abs().max()) if same else float("inf")
        if not apart <= allowed:  # NaN is not, either
            far = f"differs from the model by {apart:.3g}, where {allowed:.3g} is allowed"
            raise UserError(f"{what}: {far}")
        difference = max(difference, apart)
    return f"{what}: {difference:.1e}"


def sizes_of(tensors: Sequence[Tensor]) -> str:
    """In words."""
    return ", ".join(" x ".join(map(str, tensor.shape)) for tensor in tensors)


def _reason(error: Exception) -> str:
    """What a page of text comes down to."""
    return str(error.__cause__ or error).strip().partition("\n")[0]


# --- reading ---


class Exported(nn.Module):
    """An exported model in place of the model: same arguments, same outputs; on the CPU.

    Args:
        path: the file; its ending says the format.
        names: of the arguments.
        outputs: names for the tensors of a tuple; none for one tensor.
    """

    def __init__(self, path: Path, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.file, self.names = path.name, names
        try:
            self.outputs: Any = namedtuple("Outputs", outputs) if outputs else None
            self.program = (open_onnx if path.suffix == ".onnx" else open_pt2)(path, names)
        except UserError:
            raise
        except Exception as error:  # of half a dozen kinds
            raise UserError(f"{path}: not loaded: {_reason(error)}") from error

    @torch.no_grad()
    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        given = dict(zip(self.names, args, strict=False)) | kwargs
        tensors = [given[name] for name in self.names]
        try:
            outputs = self.program(tensors)
        except Exception as error:  # a size that the trace has fixed, as a rule
            refused = f"{self.file}: refuses inputs {sizes_of(tensors)}"
            raise UserError(f"{refused}: {_reason(error)}") from error
        return self.outputs(*outputs) if self.outputs else outputs[0]


def open_onnx(path: Path, names: Sequence[str]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """A session of ONNX Runtime. Such a file holds no code."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it would print is raised as well
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(tensors: list[Tensor]) -> list[Tensor]:
        arrays = [tensor.numpy() for tensor in tensors]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(array) for array in outputs]

    return call


def open_pt2(path: Path, names: Sequence[str]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """A torch.export program. torch may unpickle parts of it, which can run code."""
    # Guards would refuse sizes that it can take; what it makes of such was compared.
    module = torch.export.load(path).module(check_guards=False)
    return lambda tensors: module(*tensors)


def load(folder: Path, pt2: bool = False, images: str = "") -> tuple[About, Task, nn.Module]:
    """What is known of an exported model, its task, and the model.

    `images` is the folder for its pictures, if not that of its config. Raises UserError if the
    folder holds none, or a part is damaged or of another version.
    """
    path = folder / "export.json"
    try:
        about = About.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `export` makes such a folder") from None
    except ValidationError as error:
        raise UserError(f"{path}: damaged or of another version; export the model anew") from error
    file = folder / FILES["pt2" if pt2 else "onnx"]
    if not file.is_file():
        other = "" if pt2 else "; --pt2 takes model.pt2, if you trust who made it: it can run code"
        raise UserError(f"{file}: no such file{other}")
    overrides = [f"run.images={images}"] if images else []
    config = load_config(Config, [str(folder / "config.yaml")], overrides)
    task: Task = yours.Task(config, torch.device("cpu"), about.info)
    return about, task, Exported(file, list(about.inputs), about.outputs).eval()


def package(name: str) -> Any:
    """A package of the extra `export`; UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{error}; install it: pip install -e '.[export]'") from error
