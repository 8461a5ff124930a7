"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes a row's numbers, categories and target with a random generator, and returns the
three. Numbers are float32 (2, A): normalized values, then 1 where one is missing and its value 0.
Categories are int64 (B,), 0 for a missing one. The target is a scalar, or (T,) for several. Draw
all random numbers from `rng`, so that runs are reproducible. Don't change tensors in place, because
they belong to the data set.
"""

import numpy as np
import torch
from torch import Tensor


def random_missing(
    numbers: Tensor, categories: Tensor, target: Tensor, rng: np.random.Generator, p: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """Remove each cell with probability `p`, so that the model learns to do without."""
    drop = rng.random(numbers.shape[1] + len(categories)) < p
    if not drop.any():
        return numbers, categories, target
    cells, codes = numbers.numpy().copy(), categories.numpy().copy()
    cells[:, drop[: numbers.shape[1]]] = [[0], [1]]
    codes[drop[numbers.shape[1] :]] = 0
    return torch.from_numpy(cells), torch.from_numpy(codes), target


def random_noise(
    numbers: Tensor,
    categories: Tensor,
    target: Tensor,
    rng: np.random.Generator,
    scale: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add normal noise of standard deviation `scale` to all numbers that aren't missing."""
    cells = numbers.numpy().copy()
    noise = rng.standard_normal(numbers.shape[1], dtype=np.float32)
    cells[0] += scale * noise * (1 - cells[1])
    return torch.from_numpy(cells), categories, target
