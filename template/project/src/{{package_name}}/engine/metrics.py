"""Metrics that add up on the device: only `compute` waits for it.

`state` gives what was taken in so far, and `merge` takes in what others were given: another
process, or the same run before it was stopped.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from . import distributed


class Average:
    """A mean over samples, from means over batches."""

    total: Any = 0.0  # a scalar tensor, once there is a sample
    count: int = 0

    def update(self, mean: Tensor, count: int) -> None:
        """Take in the scalar mean over `count` samples; the sum is float32 or wider."""
        mean = _wide(mean.detach())
        self.total = torch.add(self.total, mean, alpha=count) if self.count else mean * count
        self.count += count

    def compute(self) -> float:
        """The mean so far; NaN before the first sample."""
        return float(self.total) / self.count if self.count else float("nan")

    def plus(self, other: "Average") -> "Average":
        """The mean over the samples of both."""
        both = Average()
        both.merge([self.state(), other.state()])
        return both

    def state(self) -> dict[str, Any]:
        return {"total": self.total, "count": self.count}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.total, self.count = self.total + _wide(state["total"]), self.count + state["count"]


class Confusion:
    """`acc`, the share of samples that are right; `matrix` is int64 (C, C), rows are the truth."""

    def __init__(self, num_classes: int, device: torch.device | str) -> None:
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        """Take in logits (N, C) and a batch of inputs and targets (N,)."""
        cells = batch[1] * len(self.matrix) + logits.detach().argmax(dim=1)
        self.matrix.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> dict[str, float]:
        return {"acc": int(self.matrix.trace()) / max(1, int(self.matrix.sum()))}

    def state(self) -> dict[str, Any]:
        return {"matrix": self.matrix}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.matrix += state["matrix"].to(self.matrix.device)


def merged(make: Callable[[], Any], own: Any) -> Any:
    """The metric of all processes together; `make` gives an empty one."""
    if distributed.world() == 1:
        return own
    if not hasattr(own, "state"):
        raise UserError("task.metrics() has no `state` and `merge`; docs/api.md says what for")
    state = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in own.state().items()}
    together = make()
    together.merge(distributed.gather(state))
    return together


def _wide(value: Any) -> Any:
    """At least float32: a long sum stops growing in bf16 and overflows in fp16."""
    if isinstance(value, Tensor):
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
