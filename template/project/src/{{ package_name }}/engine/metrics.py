"""Metrics that add up on the device: only `compute` waits for it."""

import torch
from torch import Tensor


class Average:
    """A mean over samples, from means over batches."""

    total: Tensor | float = 0.0
    count: int = 0

    def update(self, mean: Tensor, count: int) -> None:
        """Take in the scalar mean over `count` samples."""
        self.total = self.total + mean.detach() * count
        self.count += count

    def compute(self) -> float:
        """The mean so far; NaN before the first sample."""
        return float(self.total) / self.count if self.count else float("nan")


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
