"""Every option of a run, with its default: the one schema behind the four config formats."""

import re
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from .config import Section
from .data.options import Data


def named(rule: str, **fields: object) -> str:
    """The file name that a rule makes; a `-` stands for what a name can't hold."""
    name = re.sub(r"[/\\:*?\"<>|\0-\x1f]", "-", rule.format(**fields))[:100].lstrip(". ")
    return f"{name}_" if name in ("", "last") else name


def rule(**fields: object) -> AfterValidator:
    """A rule to name files by, which is tried out with example values of its fields."""

    def check(text: str) -> str:
        for _, field, form, conversion in Formatter().parse(text):
            if field is not None and field not in fields:
                raise ValueError(f"{{{field}}} is not known here; there are: {', '.join(fields)}")
            if conversion or not re.fullmatch(r"(\d{1,2})?(\.\d{1,2})?[defgsEFG%]?", form or ""):
                raise ValueError(f"{{{field}}}: use a format such as 03d or .4f, got {form!r}")
        name = text.format(**fields)
        allowed = r"[^\s./\\:*?\"<>|\0][^/\\:*?\"<>|\0-\x1f]{0,79}"
        if not re.fullmatch(allowed, name) or name == "last":
            raise ValueError("should be a short file name: no slash, colon, leading dot or 'last'")
        return text

    return AfterValidator(check)


class Component(Section):  # something of yours, or of torch's, by name
    name: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


DEVICE = Field(
    pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$", description="auto, cpu, cuda, cuda:1 or mps"
)


class Run(Section):  # one training run as a whole
    name: Annotated[str, rule(model="cnn", date="20260101-120000", seed=0)] = "{model}-{date}"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, DEVICE] = "auto"
    deterministic: bool = False  # only operations that repeat bit for bit on a GPU; slower
    detect_anomaly: bool = False  # shows which operation made the first NaN; slow
    tracker: str = "none"  # metrics.csv is always written
    checkpoints: str = "checkpoints"
    images: str = "images"


class Optimizer(Component):  # from optim, or one of torch.optim
    name: str = "AdamW"
    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    decay_all: bool = True  # false: not biases and norms, nothing of less than two dimensions


class Scheduler(Component):  # from scheduler, or any of torch.optim.lr_scheduler
    name: str = "warmup_cosine"
    every: Literal["step", "epoch"] = "step"


class Train(Section):  # the training loop
    epochs: Annotated[int, Field(ge=1)] = 10
    accumulate: Annotated[int, Field(ge=1)] = 1  # batches whose gradients make one step
    grad_clip: Annotated[float | None, Field(gt=0)] = 1.0  # largest norm of all gradients together
    ema: Annotated[float | None, Field(gt=0, lt=1)] = None  # decay of a mean of the weights
    patience: Annotated[int | None, Field(ge=1)] = None  # epochs to wait for a better one
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False  # torch.compile
    channels_last: bool = False  # the layout that GPUs convolve fastest
    log_every: Annotated[int, Field(ge=1)] = 100  # steps
    limit_batches: Annotated[int | None, Field(ge=1)] = None  # of each pass over a split
    overfit_batches: Annotated[int | None, Field(ge=1)] = None  # these alone, again and again


class Distributed(Section):  # several processes, started by torchrun
    strategy: Literal["ddp", "fsdp"] = "ddp"  # each has the whole model, or its share of it
    sync_batchnorm: bool = False  # statistics over all processes; needs GPUs
    timeout_minutes: Annotated[float, Field(gt=0)] = 30.0  # of waiting for another process


class Checkpoint(Section):  # what to keep of a run, and under which name
    monitor: str = "loss"  # a metric of the validation data
    mode: Literal["min", "max"] = "min"
    every_steps: Annotated[int | None, Field(ge=1)] = None  # beside the end of each epoch
    every_minutes: Annotated[float | None, Field(gt=0)] = 10.0
    keep: Annotated[int, Field(ge=1)] = 2  # the newest states, last.pt among them
    background: bool = False  # write while training goes on, from a copy in memory
    name: Annotated[str, rule(model="cnn", epoch=1, step=1, monitor="acc", value=0.5)] = (
        "{model}-e{epoch:03d}-{monitor}{value:.4f}"
    )


class Config(Section):  # all sections
    run: Run = Run()
    data: Data = Data()
    model: Component
    loss: Component
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    train: Train = Train()
    distributed: Distributed = Distributed()
    checkpoint: Checkpoint = Checkpoint()
