"""Metrics that are summed on the device: only `compute` waits for it.

`state` returns the sums; `merge` adds those of other processes, or of the run before a resume.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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
        cells = torch.add(logits.argmax(dim=1), batch[1], alpha=len(self.matrix))
        self.matrix.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> dict[str, float]:
        return {"acc": int(self.matrix.trace()) / max(1, int(self.matrix.sum()))}

    def per_class(self) -> dict[str, list[float]]:
        """`f1`, `precision`, `recall` (NaN if undefined) and `samples` of each class, in order."""
        matrix = self.matrix.cpu().double()
        right, predicted, true = matrix.diagonal(), matrix.sum(dim=0), matrix.sum(dim=1)
        figures = {"f1": 2 * right / (true + predicted), "precision": right / predicted}
        figures |= {"recall": right / true, "samples": true.long()}
        return {name: figure.tolist() for name, figure in figures.items()}

    def state(self) -> dict[str, Any]:
        return {"matrix": self.matrix}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.matrix += state["matrix"].to(self.matrix.device)


def by_class(metrics: Any, names: Any, method: str = "per_class") -> dict[str, dict[str, Any]]:
    """Rows of `metrics.per_class()`, if it exists, by class name or number; NaN becomes None."""
    columns = getattr(metrics, method)() if callable(getattr(metrics, method, None)) else {}
    rows = [[None if v != v else v for v in row] for row in zip(*columns.values(), strict=True)]
    if not isinstance(names, Sequence) or len(names) != len(rows):
        names = range(len(rows))
    return {str(n): dict(zip(columns, r, strict=True)) for n, r in zip(names, rows, strict=True)}


def class_table(classes: Mapping[str, Mapping[str, Any]], kind: str = "class") -> list[str]:
    """Lines of a table, sorted by the first figure: of over 20 rows the worst 10; and a warning."""
    rows: list[Any] = [[name, *figures.values()] for name, figures in classes.items()]
    rows.sort(key=lambda row: math.inf if row[1] is None else row[1])
    never = [row[0] for row in rows if row[1] == 0 and all(v for v in row if isinstance(v, int))]
    shown = rows if len(rows) <= 20 else rows[:10]
    width = max(len(kind), *(len(row[0]) for row in shown))
    lines = [kind.ljust(width) + "".join(f"{key:>11}" for key in classes[rows[0][0]])]
    for name, *values in shown:
        cells = ["-" if v is None else f"{v:.4f}" if isinstance(v, float) else v for v in values]
        lines.append(name.ljust(width) + "".join(f"{cell:>11}" for cell in cells))
    lines += [f"the worst 10 of {len(rows)}; --json prints all"] * (len(rows) > 20)
    if never:
        which = f"{len(never)} of {len(rows)} classes: {', '.join(never[:10])}"
        lines.append(f"warning: no correct prediction for {which}" + ", …" * (len(never) > 10))
    return lines


def merged(make: Callable[[], Any], own: Any) -> Any:
    """The metric over all processes; `make` returns an empty one. UserError if it lacks `state`."""
    if distributed.world() == 1:
        return own
    if not hasattr(own, "state"):
        raise UserError("task.metrics(): has no `state` and `merge`; add them as docs/api.md says")
    state = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in own.state().items()}
    together = make()
    together.merge(distributed.gather(state))
    return together


def _wide(value: Any) -> Any:
    """Convert to float32 or wider: a long sum stops growing in bf16, and overflows in fp16."""
    if isinstance(value, Tensor) and value.dtype != torch.float32:
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
