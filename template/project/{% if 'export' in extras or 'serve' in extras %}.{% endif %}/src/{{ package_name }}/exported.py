"""An exported model: traced, tried against the model itself, and loaded again without it."""

import contextlib
import importlib
import inspect
import io
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, JsonValue, ValidationError
from torch import Tensor, nn

from . import task as yours
from .config import load as load_config
from .engine.contract import Batch, Task
from .errors import UserError
from .options import Config

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or ONNX Runtime reports to its maker
FILES = {"onnx": "model.onnx", "pt2": "model.pt2"}
TOLERANCE = 1e-4  # of the largest output: sums in another order differ by some 1e-6
Sizes = Set[tuple[int, int]]  # dimensions, each with its size


class Trial(BaseModel):
    """What an exported model did with inputs of these sizes."""

    sizes: str
    difference: float | None = None  # the largest from the model's own outputs
    refused: str | None = None  # why it gave none


class About(BaseModel):
    """`export.json`: what it takes to use the files beside it, in plain values."""

    model: str
    checkpoint: str
    epoch: int
    step: int
    suffix: str  # of most files of the training data
    inputs: dict[str, str]  # what the model is called with: names and types
    output: str  # tensor, tuple, list, or a NamedTuple of this package
    info: dict[str, JsonValue]  # what the task knows of the training data
    trials: dict[str, list[Trial]]
    versions: dict[str, str]


# --- writing: all on the CPU ---


class Flat(nn.Module):
    """A model as both formats know one: tensors in, a tuple of tensors out."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(**dict(zip(self.names, tensors, strict=True)))
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@torch.no_grad()
def write(
    folder: Path, task: Task, model: nn.Module, batch: Batch, formats: Sequence[str]
) -> dict[str, Any]:
    """Write `model` in these formats; returns `inputs`, `output` and `trials` of `About`.

    The batch is what it is traced with and tried on. Raises UserError if a format cannot be made,
    or does not give what the model gives.
    """
    inputs, outputs = observe(task, model, batch)
    names, tensors, kind = list(inputs), list(inputs.values()), kind_of(outputs)
    if len(tensors[0]) == 1:  # tracing takes a 1 for a constant
        tensors = [torch.cat([tensor, tensor]) for tensor in tensors]
    flat = Flat(model, names).eval()
    varying = sizes_that_vary(flat, tensors)
    cases = [tensors, cut(tensors, 1)]  # and fewer of what can be fewer, if it takes that
    cases += [cut(tensors, 2, varying, 0.5)] if varying else []
    trials = dict[str, list[Trial]]()
    for format in formats:
        path = folder / FILES[format]
        try:
            with quiet():
                (to_onnx if format == "onnx" else to_pt2)(path, flat, tensors, varying)
            exported = Exported(path, names, "tuple")
            trials[path.name] = [
                compare(flat, exported, case, may_refuse=number == 2)
                for number, case in enumerate(cases)
            ]
        except Exception as error:  # of a dozen kinds
            other = next(name for name in FILES if name != format)
            problem = error if isinstance(error, UserError) else f"{path.name}: {_reason(error)}"
            raise UserError(f"{problem}\nnothing is exported; try --only {other}") from error
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()}
    return {"inputs": dtypes, "output": kind, "trials": trials}


def observe(task: Task, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Any]:
    """What `task.forward` calls the model with, by name, and what the model gives."""
    calls: list[tuple[Any, Any, Any]] = []
    hook = model.register_forward_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    task.forward(model, batch)
    hook.remove()
    if len(calls) != 1:
        raise UserError(f"task.forward: calls the model {len(calls)} times; to export it, once")
    args, kwargs, outputs = calls[0]
    inputs = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            what = f"the model's {name} is a {type(value).__name__}"
            raise UserError(f"task.forward: {what}; to export it, only tensors")
    return dict(inputs), outputs


def kind_of(outputs: Any) -> str:
    """How `builder` finds the type of outputs again; UserError if it could not."""
    kind, own = type(outputs), f"{__package__}."
    if isinstance(outputs, Tensor):
        return "tensor"
    if isinstance(outputs, tuple | list) and all(isinstance(part, Tensor) for part in outputs):
        if kind in (tuple, list):
            return kind.__name__
        if kind.__module__.startswith(own):
            return f"{kind.__module__.removeprefix(own)}.{kind.__name__}"
    those = "a tensor, or a tuple, a list or a NamedTuple of this package, of tensors"
    raise UserError(f"the model gives a {kind.__name__}; to export it, {those}")


def sizes_that_vary(model: Flat, tensors: Sequence[Tensor]) -> Sizes:
    """The dimensions, but for that of the samples, that the model also takes shorter."""
    found = {(d, size) for t in tensors for d, size in enumerate(t.shape) if d and size > 2}
    for each in sorted(found):
        try:
            model(*cut(tensors, 2, {each}, 0.75))
        except Exception:  # each model refuses in its own way
            found.remove(each)
    return found


def cut(tensors: Sequence[Tensor], count: int, sizes: Sizes = frozenset(), part: float = 1) -> Any:
    """The first `count` samples, and of the dimensions `sizes` the first `part`."""
    short = list[Tensor]()
    for tensor in tensors:
        same = tensor[:count] if len(tensor) == len(tensors[0]) else tensor
        for dimension, size in enumerate(tensor.shape):
            if dimension and (dimension, size) in sizes:
                same = same.narrow(dimension, 0, max(2, int(part * size)))
        short.append(same.clone(memory_format=torch.contiguous_format))
    return short


def sizes_of(tensors: Sequence[Tensor]) -> str:
    """In words."""
    return ", ".join(" x ".join(map(str, tensor.shape)) for tensor in tensors)


def dynamic(tensors: Sequence[Tensor], varying: Sizes, samples: Any) -> Any:
    """For the exporters: which dimensions are free. That of the samples has to be."""
    auto = torch.export.Dim.AUTO
    shapes = [{d: auto for d, n in enumerate(t.shape) if (d, n) in varying} for t in tensors]
    alike = [len(t) == len(tensors[0]) for t in tensors]
    return (tuple(s | ({0: samples} if a else {}) for s, a in zip(shapes, alike, strict=True)),)


def to_pt2(path: Path, model: Flat, tensors: Sequence[Tensor], varying: Sizes) -> None:
    """As a torch.export program."""
    shapes, errors = dynamic(tensors, varying, torch.export.Dim.DYNAMIC), list[Exception]()
    # Traced short, since a slice up to the largest size would be taken for the whole; but where
    # that fixes a size (nn.GRU is unrolled), as long as the data. Strict tracing reads Python's
    # bytecode: it can do less than the other way in general, and follows len(x).
    for part, strict in itertools.product((0.75, 1) if varying else (1,), (False, True)):
        example = tuple(cut(tensors, 3, varying, part))
        try:
            program = torch.export.export(model, example, dynamic_shapes=shapes, strict=strict)
            program.module()(*tensors)
            return torch.export.save(program, path)
        except Exception as error:
            errors.append(error)
    raise errors[0]


def to_onnx(path: Path, model: Flat, tensors: Sequence[Tensor], varying: Sizes) -> None:
    """As ONNX, in one file up to 2 GB."""
    package("onnxscript")
    program: Any = torch.onnx.export(
        model,
        tuple(cut(tensors, 3, varying, 0.75)),
        dynamic_shapes=dynamic(tensors, varying, "samples"),
        input_names=list(model.names),
        verbose=False,
    )
    for node in program.model.graph:  # the runtime infers them anew; these may be of the example
        for value in node.outputs:
            value.shape = None
    program.save(path)


def compare(model: Flat, exported: "Exported", tensors: list[Tensor], may_refuse: bool) -> Trial:
    """Call both; UserError if they differ."""
    trial = Trial(sizes=sizes_of(tensors))
    try:
        theirs = exported(*tensors)
    except UserError as error:
        if not may_refuse:
            raise
        return trial.model_copy(update={"refused": f"refused: {_reason(error)}"})
    for own, their in zip(model(*tensors), theirs, strict=True):
        same = own.shape == their.shape and own.dtype == their.dtype
        own, their = own.double(), their.double()
        difference = float((own - their).abs().max()) if same else float("inf")
        allowed = TOLERANCE * float(own.abs().max())
        if not difference <= allowed:  # NaN is not, either
            what = f"differs from the model by {difference:.3g}, where {allowed:.3g} is allowed"
            raise UserError(f"{exported.file}, inputs {trial.sizes}: {what}")
        trial.difference = max(trial.difference or 0.0, difference)
    return trial


def _reason(error: Exception) -> str:
    """What an exporter's page of text comes down to."""
    text = str(error.__cause__ or error)
    if "specialized it to be a constant" in text or "inferred a static shape" in text:
        return "the model fixes the number of samples; use x.shape[0] in its forward, not len(x)"
    return re.sub(r"\x1b\[\d*m", "", text).strip().partition("\n")[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters print, log and warn of; their errors still come."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(before)


# --- reading ---


class Exported(nn.Module):
    """An exported model in place of the model: same arguments, same outputs; on the CPU.

    Args:
        path: the file; its ending says the format.
        names: of the arguments.
        kind: of the outputs, see `kind_of`.
    """

    def __init__(self, path: Path, names: Sequence[str], kind: str) -> None:
        super().__init__()
        self.file, self.names, self.build = path.name, names, builder(kind)
        try:
            with quiet():
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
            return self.build(self.program(tensors))
        except Exception as error:  # a size that the trace has fixed, as a rule
            sizes = sizes_of(tensors)
            raise UserError(f"{self.file}: refuses inputs {sizes}: {_reason(error)}") from error


def open_onnx(path: Path, names: Sequence[str]) -> Callable[[list[Tensor]], list[Tensor]]:
    """A session of ONNX Runtime. Such a file holds no code."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it would print is raised as well
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(tensors: list[Tensor]) -> list[Tensor]:
        arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in tensors]
        outputs = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(array) for array in outputs]

    return call


def open_pt2(path: Path, names: Sequence[str]) -> Callable[[list[Tensor]], list[Tensor]]:
    """A torch.export program. torch may unpickle parts of it, which can run code."""
    module = torch.export.load(path).module()
    return lambda tensors: list(module(*tensors))


def builder(kind: str) -> Callable[[list[Tensor]], Any]:
    """What makes outputs of a kind of their tensors; it is looked for in this package alone."""
    plain: dict[str, Any] = {"tensor": lambda parts: parts[0], "tuple": tuple, "list": list}
    if kind in plain:
        return plain[kind]
    module, _, name = kind.rpartition(".")
    found: Any = None
    if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)*", module):
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(f".{module}", __package__), name, None)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_make")):
        raise UserError(f"output: this package has no NamedTuple {kind}; export the model anew")
    return found._make


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
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; export the model anew") from error
    file = folder / FILES["pt2" if pt2 else "onnx"]
    if not file.is_file():
        other = "" if pt2 else "; --pt2 takes model.pt2, if you trust who made it: it can run code"
        raise UserError(f"{file}: no such file{other}")
    overrides = [f"run.images={images}"] if images else []
    config = load_config(Config, [str(folder / "config.yaml")], overrides)
    task: Task = yours.Task(config, torch.device("cpu"), about.info)
    return about, task, Exported(file, list(about.inputs), about.output).eval()


def package(name: str) -> Any:
    """A package of the extra `export`; UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{error}; install it: pip install -e '.[export]'") from error
