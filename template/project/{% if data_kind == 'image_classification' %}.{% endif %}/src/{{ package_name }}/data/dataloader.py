"""Loaders that give the same batches again, whatever the workers: seed, epoch and index decide."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .dataset import ClassFolder

Batch = tuple[Tensor, Tensor]
"""Images, float32 (N, C, H, W) from 0 to 1, and targets, int64 (N,)."""


class Augmented(Dataset[tuple[Tensor, int]]):
    """A dataset with transforms, asked for by epoch and index."""

    def __init__(self, dataset: ClassFolder, transforms: Sequence[Callable[..., Any]], seed: int):
        self.dataset, self.transforms, self.seed = dataset, transforms, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        image, target = self.dataset[key[1]]
        rng = np.random.default_rng((self.seed, *key))
        for transform in self.transforms:
            image, target = transform(image, target, rng)
        return image, target


def make_loader(
    dataset: Dataset[Any], batch_size: int, workers: int, sampler: Sampler[Any]
) -> DataLoader[Batch]:
    """Batches of `batch_size`, in the sampler's order."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or each pass would draw a seed from the global one
    )
