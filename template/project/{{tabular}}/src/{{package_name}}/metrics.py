"""Metrics of this kind of data; `engine/metrics.py` says how such an object works."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .engine.metrics import Confusion


class Errors:
    """`r2`, `mae` and `rmse` of a regression, the latter two in the target's units.

    Of several targets, they are means over the targets.

    Args:
        decode: converts a model's outputs and targets to the target's units.
        device: where the sums are computed.
        shape: of a row's targets: (), or (T,) for several.
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        device: torch.device | str,
        shape: tuple[int, ...] = (),
    ) -> None:
        self.decode = decode
        kind = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.sums = torch.zeros(5, *shape, dtype=kind, device=device)
        # Subtracted, so that squares lose no digits.
        self.centre = decode(torch.zeros(shape, device=device)).to(kind)

    def update(self, outputs: Tensor, batch: Sequence[Tensor]) -> None:
        """Add outputs (N,) or (N, T), and a batch with targets of the same shape at its end."""
        truth = self.decode(batch[-1]).to(self.sums.dtype)
        error = self.decode(outputs.detach()).to(self.sums.dtype) - truth
        truth = truth - self.centre
        parts = torch.ones_like(error), error.square(), error.abs(), truth, truth.square()
        self.sums += torch.stack([part.sum(dim=0) for part in parts])

    def compute(self) -> dict[str, float]:
        """The metrics; targets that are equal in all rows have no `r2` and don't count in it."""
        found = self._of_each()
        both = zip(found["r2"], found["rmse"], strict=True)
        found["r2"] = [r2 for r2, rmse in both if r2 == r2 or rmse != rmse] or [math.nan]
        return {name: sum(values) / len(values) for name, values in found.items()}

    def per_target(self) -> dict[str, list[float]]:
        """The metrics of each target, if there are several."""
        return self._of_each() if self.sums.dim() > 1 else {}

    def _of_each(self) -> dict[str, list[float]]:
        count, squares, absolutes, truths, truths2 = self.sums.view(5, -1).cpu()
        variation = truths2 - truths**2 / count
        r2 = torch.where(variation > 0, 1 - squares / variation, math.nan)
        found = {"r2": r2, "mae": absolutes / count, "rmse": (squares / count).sqrt()}
        return {name: values.tolist() for name, values in found.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.sums += state["sums"].to(self.sums.device)


class Ranking:
    """`acc` and `auroc` of a classification, exact, from the scores of all samples.

    With two classes, `auroc` is the area under the ROC curve; with more, the mean of the areas of
    each class against all others. A class that no sample has, or all have, is left out.
    """

    def __init__(self, num_classes: int, device: torch.device | str) -> None:
        self.scores = [torch.zeros(0, num_classes, device=device)]
        self.targets = [torch.zeros(0, dtype=torch.int64, device=device)]

    def update(self, logits: Tensor, batch: Sequence[Tensor]) -> None:
        """Add logits (N, C) and a batch with targets (N,) at its end."""
        self.scores.append(logits.detach().float().softmax(dim=1))
        self.targets.append(batch[-1])

    def compute(self) -> dict[str, float]:
        state = self.state()
        scores, targets = state["scores"].cpu(), state["targets"].cpu()
        right = int((scores.argmax(dim=1) == targets).sum())
        first = 1 if scores.shape[1] == 2 else 0  # two classes have the same area
        areas = [auroc(scores[:, c], targets == c) for c in range(first, scores.shape[1])]
        known = [area for area in areas if not math.isnan(area)]
        mean = sum(known) / len(known) if known else math.nan
        return {"acc": right / max(1, len(targets)), "auroc": mean}

    def per_class(self) -> dict[str, list[float]]:
        """Like `Confusion.per_class`."""
        scores, targets = (part.cpu() for part in self.state().values())
        confusion = Confusion(scores.shape[1], "cpu")
        confusion.update(scores, (scores, targets))
        return confusion.per_class()

    def state(self) -> dict[str, Any]:
        return {"scores": torch.cat(self.scores), "targets": torch.cat(self.targets)}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.scores.append(state["scores"].to(self.scores[0].device))
            self.targets.append(state["targets"].to(self.scores[0].device))


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The share of pairs of a positive and a negative sample that `scores` (N,) rank correctly.

    `positive` is bool (N,). Equal scores count half; NaN where there are no such pairs.
    """
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0).double() - (counts - 1) / 2  # from 1; equal scores share their mean
    n = int(positive.sum())
    pairs = n * (len(scores) - n)
    return (float(ranks[place[positive]].sum()) - n * (n + 1) / 2) / pairs if pairs else math.nan
