"""Every option of a run, with its default: the one schema behind the four config formats."""

import re
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator

from .config import Section
from .data.options import Data


class Component(Section):
    """Something of yours, or of torch's, by name."""

    name: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Run(Section):
    """One training run as a whole."""

    name: str = "{model}-{date}"  # folder below `checkpoints`
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    tracker: str = "none"  # metrics.csv is always written
    checkpoints: str = "checkpoints"
    images: str = "images"

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_rule(name, model="cnn", date="20260101-120000", seed=0)


class Optimizer(Component):
    """From optim, or any of torch.optim."""

    name: str = "AdamW"
    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class Scheduler(Component):
    """From scheduler, or any of torch.optim.lr_scheduler."""

    name: str = "warmup_cosine"
    every: Literal["step", "epoch"] = "step"


class Train(Section):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)] = 10
    grad_clip: Annotated[float | None, Field(gt=0)] = 1.0  # largest norm of all gradients together
    log_every: Annotated[int, Field(ge=1)] = 50  # steps


class Checkpoint(Section):
    """What to keep of a run, and under which name."""

    monitor: str = "loss"  # a metric of the validation images
    mode: Literal["min", "max"] = "min"
    name: str = "{model}-e{epoch:03d}-{monitor}{value:.4f}"

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_rule(name, model="cnn", epoch=1, step=1, monitor="acc", value=0.5)


class Config(Section):
    """All sections."""

    run: Run = Run()
    data: Data = Data()
    model: Component
    loss: Component
    optimizer: Optimizer = Optimizer()
    scheduler: Scheduler = Scheduler()
    train: Train = Train()
    checkpoint: Checkpoint = Checkpoint()


def check_rule(rule: str, **fields: object) -> str:
    """A naming rule, tried out with example values.

    Raises:
        ValueError: a field that does not exist, a format that does not fit it, or a result
            that could not be a file name.
    """
    for _, field, _, _ in Formatter().parse(rule):
        if field is not None and field not in fields:
            raise ValueError(f"{{{field}}} is not known here; there are: {', '.join(fields)}")
    name = rule.format(**fields)
    if not re.fullmatch(r"[^\s./\\:*?\"<>|][^/\\:*?\"<>|\n]*", name) or name == "last":
        raise ValueError("should make a file name: no slash or colon, no dot in front, not 'last'")
    return rule
