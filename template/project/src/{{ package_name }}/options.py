"""Every option of a run, with its default: the one schema behind the four config formats."""

import re
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from .config import Section
from .data.options import Data


def rule(**fields: object) -> AfterValidator:
    """A rule to name files by, which is tried out with example values of its fields."""

    def check(text: str) -> str:
        for _, field, _, _ in Formatter().parse(text):
            if field is not None and field not in fields:
                raise ValueError(f"{{{field}}} is not known here; there are: {', '.join(fields)}")
        name = text.format(**fields)
        allowed = r"[^\s./\\:*?\"<>|\0][^/\\:*?\"<>|\0-\x1f]{0,79}"
        if not re.fullmatch(allowed, name) or name == "last":
            raise ValueError("should be a short file name: no slash, colon, leading dot or 'last'")
        return text

    return AfterValidator(check)


class Component(Section):  # something of yours, or of torch's, by name
    name: str
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Run(Section):  # one training run as a whole
    name: Annotated[str, rule(model="cnn", date="20260101-120000", seed=0)] = "{model}-{date}"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    tracker: str = "none"  # metrics.csv is always written
    checkpoints: str = "checkpoints"
    images: str = "images"


class Optimizer(Component):  # from optim, or any of torch.optim
    name: str = "AdamW"
    lr: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class Scheduler(Component):  # from scheduler, or any of torch.optim.lr_scheduler
    name: str = "warmup_cosine"
    every: Literal["step", "epoch"] = "step"


class Train(Section):  # the training loop
    epochs: Annotated[int, Field(ge=1)] = 10
    grad_clip: Annotated[float | None, Field(gt=0)] = 1.0  # largest norm of all gradients together
    log_every: Annotated[int, Field(ge=1)] = 100  # steps


class Checkpoint(Section):  # what to keep of a run, and under which name
    monitor: str = "loss"  # a metric of the validation data
    mode: Literal["min", "max"] = "min"
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
    checkpoint: Checkpoint = Checkpoint()
