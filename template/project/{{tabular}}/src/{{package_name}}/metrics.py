"""Metrics of this kind of data; `engine/metrics.py` says how such an object works."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .engine.metrics import Confusion


class Errors:
    """`r2`, `mae` and `rmse` of a regression, the latter two in the target's units.

    Args:
        decode: converts a model's outputs and targets to the target's units.
        device: where the sums are computed.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], device: torch.device | str) -> None:
        self.decode = decode
        mps = torch.device(device).type == "mps"  # which has no float64
        self.sums = torch.zeros(5, dtype=torch.float32 if mps else torch.float64, device=device)
        self.centre = float(decode(torch.zeros(())))  # subtracted, so that squares lose no digits

    def update(self, outputs: Tensor, batch: Sequence[Tensor]) -> None:
        """Add outputs (N,) and a batch with targets (N,) at its end."""
        truth = self.decode(batch[-1]).to(self.sums.dtype)
        error = self.decode(outputs.detach()).to(self.sums.dtype) - truth
        truth = truth - self.centre
        parts = torch.ones_like(error), error.square(), error.abs(), truth, truth.square()
        self.sums += torch.stack([part.sum() for part in parts])

    def compute(self) -> dict[str, float]:
        count, squares, absolutes, truths, truths2 = self.sums.tolist()
        if not count:
            return {"r2": math.nan, "mae": math.nan, "rmse": math.nan}
        variation = truths2 - truths**2 / count
        r2 = 1 - squares / variation if variation > 0 else math.nan
        return {"r2": r2, "mae": absolutes / count, "rmse": math.sqrt(squares / count)}

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
