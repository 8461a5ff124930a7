"""Export a model, compare the result with the model, and load it without the model's code."""

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

from .config import load as load_config
from .engine.contract import Batch, Task
from .errors import UserError
from .options import Config

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime sends usage data
FILES = {"onnx": "model.onnx", "pt2": "model.pt2"}
TOLERANCE = 1e-4  # relative to the largest output; summing in another order changes about 1e-6
Sizes = Set[tuple[int, int]]  # pairs of dimension and size


class About(BaseModel):
    """`export.json`: the plain values that are needed to use the files of an export."""

    model: str
    suffix: str  # the most frequent one in the training data
    inputs: dict[str, str]  # names and dtypes of the model's arguments
    info: dict[str, JsonValue]  # the task's `info`, such as class names
    versions: dict[str, str]


# --- writing: all on the CPU ---


class Flat(nn.Module):
    """Wraps a model so that it returns a tuple of tensors, as both formats require."""

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
    """Write `model` in these formats; returns `inputs` of `About`, and a line for each comparison.

    The model is traced with the batch and compared on it. Raises UserError if a format can't be
    written, or its outputs differ from the model's.
    """
    inputs, tried = observe(task, model, batch), list[str]()
    flat = Flat(model).eval()
    tensors = [torch.cat([each, each]) for each in inputs.values()]  # tracing fixes a batch of 1
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
    except Exception as error:  # exporters raise many types
        raise UserError(f"{_reason(error)}\nnothing is exported; see docs/export.md") from error
    finally:
        logging.disable(logging.NOTSET)
    return {name: str(each.dtype).removeprefix("torch.") for name, each in inputs.items()}, tried


def observe(task: Task, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The arguments that `task.forward` passes to the model, by name."""
    calls: list[tuple[Any, Any]] = []
    hook = model.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    with hook:
        task.forward(model, batch)
    args, named = calls[0] if calls else ((), {})
    if len(calls) != 1 or named or not all(isinstance(each, Tensor) for each in args):
        raise UserError("task.forward: should call the model once, as model(tensor, …), for export")
    return dict(zip(inspect.signature(model.forward).parameters, args, strict=False))


def sizes_that_vary(model: Flat, tensors: Sequence[Tensor]) -> Sizes:
    """The dimensions, without the batch, in which the model also accepts shorter inputs."""
    found = {(d, size) for t in tensors for d, size in enumerate(t.shape) if d and size > 2}
    for each in sorted(found):
        try:
            model(*cut(tensors, 2, {each}, 0.75))
        except Exception:  # models raise many types
            found.remove(each)
    return found


def cut(
    tensors: Sequence[Tensor], count: int, sizes: Sizes = frozenset(), part: float = 1
) -> list[Tensor]:
    """The first `count` samples, with the dimensions in `sizes` cut to the fraction `part`."""
    short = list[Tensor]()
    for tensor in tensors:
        ends = [max(2, int(part * n)) if (d, n) in sizes else n for d, n in enumerate(tensor.shape)]
        short.append(tensor[tuple(map(slice, [count, *ends[1:]]))].contiguous())
    return short


def trace(model: Flat, tensors: Sequence[Tensor], varying: Sizes) -> ExportedProgram:
    """The model traced by torch.export, which finds the dynamic sizes (`Dim.AUTO`)."""
    shapes = (tuple(dict.fromkeys(range(tensor.dim()), Dim.AUTO) for tensor in tensors),)
    # The first attempt is shorter than the data: at full length, a slice up to the maximum would be
    # traced as the whole. But nn.GRU fixes the traced length, so the second has the full length.
    for part in (0.75, 1):
        example = tuple(cut(tensors, 3, varying, part))
        program = torch.export.export(model, example, dynamic_shapes=shapes)
        with contextlib.suppress(Exception):
            program.module(check_guards=False)(*tensors)
            break
    return program


def to_onnx(program: ExportedProgram, path: Path, names: Sequence[str]) -> None:
    """Save as ONNX; up to 2 GB in one file."""
    converted: Any = torch.onnx.export(program, (), input_names=names, verbose=False)
    for node in converted.model.graph:  # the runtime infers shapes; these may fit only the example
        for value in node.outputs:
            value.shape = None
    converted.save(path)


def compare(model: Flat, exported: "Exported", tensors: list[Tensor], may_refuse: bool) -> str:
    """A line which says that both give the same outputs; raises an error if they differ."""
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
    """The shapes, such as `2 x 3 x 64, 2`."""
    return ", ".join(" x ".join(map(str, tensor.shape)) for tensor in tensors)


def _reason(error: Exception) -> str:
    """The first two lines of an error, in one line; exporters' messages can fill a page."""
    text = str(error if isinstance(error, UserError) else error.__cause__ or error)
    return " ".join(line.strip() for line in text.strip().splitlines()[:2])


# --- reading ---


class Exported(nn.Module):
    """An exported model on the CPU, with the arguments and outputs of the original model.

    Several outputs are returned as a plain tuple.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.name
        try:
            self.call = (open_onnx if path.suffix == ".onnx" else open_pt2)(path)
        except Exception as error:  # both loaders raise many types
            raise UserError(f"{path}: not loaded: {_reason(error)}") from error

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> Any:
        try:
            outputs = self.call(*tensors)
        except Exception as error:  # usually a size that was fixed by tracing
            refused = f"{self.file}: refuses inputs {sizes_of(tensors)}"
            raise UserError(f"{refused}: {_reason(error)}") from error
        return outputs[0] if len(outputs) == 1 else outputs


def open_onnx(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    """An ONNX Runtime session. An ONNX file contains no code."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # fatal only: other errors are raised as exceptions too
    options.intra_op_num_threads = torch.get_num_threads()  # else one per core in each process
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = [tensor.numpy() for tensor in tensors]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return tuple(map(torch.from_numpy, outputs))

    return call


def open_pt2(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    """A torch.export program. torch may unpickle parts of it, which can run code."""
    with warnings.catch_warnings():  # torch 2.11 warns of its own buffers
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        program = torch.export.load(path)
    # Guards refuse some sizes that work; `write` has compared the outputs for other sizes.
    return program.module(check_guards=False).__call__


def load(folder: Path, pt2: bool = False, images: str = "") -> tuple[About, Task, nn.Module]:
    """The contents of `export.json`, the task, and the exported model.

    `images` replaces the config's folder for pictures. Raises UserError if a file is damaged.
    """
    path = folder / "export.json"
    try:
        about = About.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: damaged or of another version; export the model anew") from error
    overrides = [f"run.images={images}"] if images else []
    config = load_config(Config, [str(folder / "config.yaml")], overrides)
    own = importlib.import_module(f"{__package__}.{config.run.task}")
    task: Task = own.Task(config, torch.device("cpu"), about.info)
    return about, task, Exported(folder / FILES["pt2" if pt2 else "onnx"]).eval()
