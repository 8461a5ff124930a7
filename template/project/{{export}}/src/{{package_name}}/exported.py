"""An exported model: traced, compared with the model itself, and loaded again without it."""

import contextlib
import importlib
import inspect
import logging
import os
import warnings
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, JsonValue, ValidationError
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from . import task as task_module
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
    info: dict[str, JsonValue]  # what the task knows of the training data
    versions: dict[str, str]


# --- writing: all on the CPU ---


class Flat(nn.Module):
    """A model as both formats know one: it gives a tuple of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(*tensors)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@torch.no_grad()
def write(
    folder: Path, task: Task, model: nn.Module, batch: Batch, formats: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Write `model` in these formats; returns its inputs as in `About`, and what was tried.

    The batch is what it is traced with and tried on. Raises UserError if a format cannot be made,
    or does not give what the model gives.
    """
    inputs, tried = observe(task, model, batch), list[str]()
    flat = Flat(model).eval()
    tensors = [torch.cat([each, each]) for each in inputs.values()]  # a single one would be fixed
    logging.disable(logging.WARNING)
    try:
        varying = sizes_that_vary(flat, tensors)
        cases = [tensors, cut(tensors, 1), cut(tensors, 2, varying, 0.5)]
        with warnings.catch_warnings(action="ignore"):
            program = trace(flat, tensors, varying)
            if "onnx" in formats:
                to_onnx(program, folder / FILES["onnx"], list(inputs))
            if "pt2" in formats:
                torch.export.save(program, folder / FILES["pt2"])
        for format in formats:
            exported = Exported(folder / FILES[format])
            tried += [compare(flat, exported, case, case is cases[2]) for case in cases]
    except Exception as error:  # of a dozen kinds
        raise UserError(f"{_reason(error)}\nnothing is exported; see docs/export.md") from error
    finally:
        logging.disable(logging.NOTSET)
    return {name: str(each.dtype).removeprefix("torch.") for name, each in inputs.items()}, tried


def observe(task: Task, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What `task.forward` calls the model with, by name."""
    calls: list[tuple[Any, Any]] = []
    hook = model.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    with hook:
        task.forward(model, batch)
    args, named = calls[0] if calls else ((), {})
    if len(calls) != 1 or named or not all(isinstance(each, Tensor) for each in args):
        raise UserError("to export a model, task.forward has to call it once, as model(tensor, …)")
    return dict(zip(inspect.signature(model.forward).parameters, args, strict=False))


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


def to_onnx(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
    """As ONNX, in one file up to 2 GB."""
    converted: Any = torch.onnx.export(program, (), input_names=names, verbose=False)
    for node in converted.model.graph:  # the runtime infers them anew; these may be of the example
        for value in node.outputs:
            value.shape = None
    converted.save(path)


def compare(model: Flat, exported: "Exported", tensors: list[Tensor], may_refuse: bool) -> str:
    """Call both, and say in a line that they agree; raises an error if not."""
    what = f"{exported.file} for inputs {sizes_of(tensors)}"
    try:
        theirs = Flat(exported)(*tensors)
    except UserError:
        if may_refuse:
            return f"{what}: refused"
        raise
    for own, their in zip(model(*tensors), theirs, strict=True):
        allowed = TOLERANCE * float(own.abs().max())
        wrong = f"{what}: differs from the model by more than {allowed:.3g}"
        torch.testing.assert_close(their, own, rtol=0, atol=allowed, msg=wrong)
    return f"{what}: agrees with the model"


def sizes_of(tensors: Sequence[Tensor]) -> str:
    """In words."""
    return ", ".join(" x ".join(map(str, tensor.shape)) for tensor in tensors)


def _reason(error: Exception) -> str:
    """What a page of text comes down to."""
    text = str(error if isinstance(error, UserError) else error.__cause__ or error)
    return " ".join(line.strip() for line in text.strip().splitlines()[:2])


# --- reading ---


class Exported(nn.Module):
    """An exported model in place of the model, on the CPU: same arguments, same outputs.

    Several outputs come as a plain tuple.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.name
        try:
            self.call = (open_onnx if path.suffix == ".onnx" else open_pt2)(path)
        except Exception as error:  # of half a dozen kinds
            raise UserError(f"{path}: not loaded: {_reason(error)}") from error

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> Any:
        try:
            outputs = self.call(*tensors)
        except Exception as error:  # a size that the trace has fixed, as a rule
            refused = f"{self.file}: refuses inputs {sizes_of(tensors)}"
            raise UserError(f"{refused}: {_reason(error)}") from error
        return outputs[0] if len(outputs) == 1 else outputs


def open_onnx(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    """A session of ONNX Runtime. Such a file holds no code."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what it would print is raised as well
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = [tensor.numpy() for tensor in tensors]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return tuple(map(torch.from_numpy, outputs))

    return call


def open_pt2(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    """A torch.export program. torch may unpickle parts of it, which can run code."""
    # Guards would refuse sizes that it can take; what it makes of such was compared.
    return torch.export.load(path).module(check_guards=False).__call__


def load(folder: Path, pt2: bool = False, images: str = "") -> tuple[About, Task, nn.Module]:
    """What is known of an exported model, its task, and the model.

    `images` is the folder for pictures, if not that of the config. UserError if a part is damaged.
    """
    path = folder / "export.json"
    try:
        about = About.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: damaged or of another version; export the model anew") from error
    overrides = [f"run.images={images}"] if images else []
    config = load_config(Config, [str(folder / "config.yaml")], overrides)
    task: Task = task_module.Task(config, torch.device("cpu"), about.info)
    return about, task, Exported(folder / FILES["pt2" if pt2 else "onnx"]).eval()
