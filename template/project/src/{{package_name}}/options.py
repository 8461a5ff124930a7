"""Every option of a run, with its type and default: the schema of all four config formats."""

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from .config import Section, did_you_mean
from .data.options import Data


def file_name(template: str, **fields: object) -> str:
    """A template's file name, without what no name has, or begins an option (-) or a home (~)."""
    name = re.sub(r"[/\\:*?\"<>|\0-\x1f]", "-", template.format(**fields))[:100].lstrip(". ~-")
    return f"{name}_" if name in ("", "last") else name


def name_template(**fields: object) -> AfterValidator:
    """A validator of a template for file names, which formats it with these example values."""

    def check(text: str) -> str:
        for _, field, form, conversion in Formatter().parse(text):
            if field is not None and field not in fields:
                raise ValueError(f"unknown field {{{field}}}; there are: {', '.join(fields)}")
            if conversion or not re.fullmatch(r"(\d{1,2})?(\.\d{1,2})?[defgsEFG%]?", form or ""):
                raise ValueError(f"{{{field}}}: use a format such as 03d or .4f, got {form!r}")
        name = text.format(**fields)
        allowed = r"[^\s./\\:*?\"<>|\0][^/\\:*?\"<>|\0-\x1f]{0,79}"
        if not re.fullmatch(allowed, name) or name == "last":
            raise ValueError("should be a short file name: no slash, colon, leading dot or 'last'")
        return text

    return AfterValidator(check)


def task_module(name: str) -> str:
    """Refuse a module of the package without a class Task; imports none."""
    files = Path(__file__).parent.glob("*.py") if name != "task" else ()
    known = ["task", *(file.stem for file in files if "\nclass Task" in file.read_text("utf-8"))]
    if name not in known:
        raise ValueError(f"no module {name!r} with a class Task{did_you_mean(name, known)}")
    return name


class Component(Section):  # a class or function, yours or torch's, by name
    name: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Model(Component):  # of model/; both options need the extra `pretrained`
    weights: str | None = None  # a run or a file to start a new run from
    freeze: list[str] = Field(default_factory=list)  # patterns of parameters that are not trained


RUN_NAME = name_template(model="cnn", date="20260101-120000", seed=0)
CHECKPOINT_NAME = name_template(model="cnn", epoch=1, step=1, monitor="acc", value=0.5)
DEVICE = Field(
    pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$", description="auto, cpu, cuda, cuda:1 or mps"
)


class Run(Section):  # one training run as a whole
    name: Annotated[str, RUN_NAME] = "{model}-{date}"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, DEVICE] = "auto"
    task: Annotated[str, AfterValidator(task_module)] = "task"  # the module with the class Task
    deterministic: bool = False  # only deterministic algorithms on a GPU; slower
    detect_anomaly: bool = False  # find the operation that made the first NaN; slow
    tracker: str = "none"  # in addition to metrics.csv
    checkpoints: str = "checkpoints"
    images: str = "images"


class Optimizer(Component):  # of optim, or of torch.optim
    name: str = "AdamW"
    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    decay_all: bool = True  # false: no decay of tensors below two dimensions, as biases and norms
    groups: list[dict[str, JsonValue]] = Field(default_factory=list)  # rules for some parameters


class Scheduler(Component):  # of scheduler, or of torch.optim.lr_scheduler
    name: str = "warmup_cosine"
    every: Literal["step", "epoch"] = "step"


class Train(Section):  # the training loop
    epochs: Annotated[int, Field(ge=1)] = 10
    max_steps: Annotated[int | None, Field(ge=1)] = None  # ends the run, in place of epochs
    accumulate: Annotated[int, Field(ge=1)] = 1  # batches per step (gradient accumulation)
    grad_clip: Annotated[float | None, Field(gt=0)] = 1.0  # gradient clipping: the largest norm
    ema: Annotated[float | None, Field(gt=0, lt=1)] = None  # decay of the weights' moving average
    patience: Annotated[int | None, Field(ge=1)] = None  # early stopping, counted in validations
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False  # torch.compile
    channels_last: bool = False  # the memory layout in which GPUs convolve fastest
    log_every: Annotated[int, Field(ge=1)] = 100  # steps
    limit_batches: Annotated[int | None, Field(ge=1)] = None  # only the first ones of each split
    overfit_batches: Annotated[int | None, Field(ge=1)] = None  # the same few in every epoch
    hooks: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)  # of hooks.py, by name


class Valid(Section):  # the validation
    every_steps: Annotated[int | None, Field(ge=1)] = None  # instead of after each epoch


class Distributed(Section):  # several processes, started by torchrun
    strategy: Literal["ddp", "fsdp"] = "ddp"  # fsdp needs the extra of that name
    fsdp: dict[str, JsonValue] = Field(default_factory=dict)  # its options
    sync_batchnorm: bool = False  # statistics over all processes; needs GPUs
    timeout_minutes: Annotated[float, Field(gt=0)] = 30.0  # of waiting for another process


class Checkpoint(Section):  # what to save of a run, and when
    monitor: str = "loss"  # the validation metric that decides which epoch is best
    mode: Literal["min", "max"] = "min"
    every_steps: Annotated[int | None, Field(ge=1)] = None  # in addition to each epoch's end
    every_minutes: Annotated[float | None, Field(gt=0)] = 10.0  # likewise
    keep: Annotated[int, Field(ge=1)] = 2  # the newest states, last.pt included
    background: bool = False  # write in a thread, from a copy in memory
    name: Annotated[str, CHECKPOINT_NAME] = "{model}-e{epoch:03d}-{monitor}{value:.4f}"


class Config(Section):  # all sections
    run: Run = Run()
    data: Data = Data()
    model: Model
    loss: Component
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    train: Train = Train()
    valid: Valid = Valid()
    distributed: Distributed = Distributed()
    checkpoint: Checkpoint = Checkpoint()
