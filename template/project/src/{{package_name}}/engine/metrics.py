"""Metrics that are summed on the device: only `compute` waits for it.

`state` returns the sums; `merge` adds those of other processes, or of the run before a resume.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from . import distributed


class Average:
    """The mean over samples, from the means of batches."""

    total: Any = 0.0  # a scalar tensor after the first batch
    count: int = 0

    def update(self, mean: Tensor, count: int) -> None:
        """Add the mean, a scalar, of `count` samples; the sum is float32 or wider."""
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
    """The accuracy `acc`, and the confusion matrix: int64 (C, C), rows are the true classes."""

    def __init__(self, num_classes: int, device: torch.device | str) -> None:
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, logits: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        """Add logits (N, C) and a batch of inputs and targets (N,), int64."""
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
    """The metric over all processes; `make` returns an empty one. UserError without `state`."""
    if distributed.world() == 1:
        return own
    if not hasattr(own, "state"):
        raise UserError("task.metrics(): has no `state` and `merge`; add them as docs/api.md says")
    state = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in own.state().items()}
    together = make()
    together.merge(distributed.gather(state))
    return together


def _wide(value: Any) -> Any:
    """As float32 at least: a long sum stops growing in bf16, and overflows in fp16."""
    if isinstance(value, Tensor):
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
