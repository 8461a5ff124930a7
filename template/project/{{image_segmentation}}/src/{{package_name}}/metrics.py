"""How well predicted masks cover the true ones."""

import torch
from torch import Tensor

from .engine.metrics import Confusion


class Overlap(Confusion):
    """Metrics over the pixels of all images together, except those without a class:

    `miou`, the mean over classes of intersection over union (Everingham et al., 2010); `dice`, the
    mean of twice the intersection over both areas (Dice, 1945); `acc`, the fraction of correct
    pixels. `matrix` is int64 (C, C), rows are the true classes.
    """

    def update(self, logits: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        """Add logits (N, C, H, W) and a batch of images and masks (N, H, W)."""
        self.add(logits.detach().argmax(dim=1), batch[1])

    def add(self, predictions: Tensor, targets: Tensor) -> None:
        """Add the classes of pixels; targets below 0 are skipped."""
        cells = (targets.clamp(min=0) * len(self.matrix) + predictions).flatten()
        self.matrix.view(-1).scatter_add_(0, cells, (targets >= 0).long().flatten())

    def per_class(self) -> dict[str, list[float]]:
        """`iou` and `dice` of each class, NaN if it is neither true nor predicted; its `pixels`."""
        matrix = self.matrix.cpu().double()
        both, areas = matrix.diagonal(), matrix.sum(dim=0) + matrix.sum(dim=1)
        found = {"iou": both / (areas - both), "dice": 2 * both / areas}
        found["pixels"] = matrix.sum(dim=1).long()
        return {name: figures.tolist() for name, figures in found.items()}

    def compute(self) -> dict[str, float]:
        iou, dice, _ = (torch.tensor(v, dtype=torch.float64) for v in self.per_class().values())
        return {"miou": float(iou.nanmean()), "dice": float(dice.nanmean()), **super().compute()}
