"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes a text, its target and a random generator, and returns text and target. Texts are
the numbers of their tokens, int64 (L,), at least one. Draw all random numbers from `rng`, so that
runs are reproducible.
"""

import numpy as np
import torch
from torch import Tensor


def random_crop(
    ids: Tensor, target: int, rng: np.random.Generator, shortest: int = 8, longest: int = 32
) -> tuple[Tensor, int]:
    """Keep `shortest` to `longest` successive tokens; a text that is shorter stays whole."""
    length = min(len(ids), max(1, int(rng.integers(shortest, longest + 1))))
    start = int(rng.integers(0, len(ids) - length + 1))
    return ids[start : start + length], target


def random_drop(
    ids: Tensor, target: int, rng: np.random.Generator, p: float = 0.1
) -> tuple[Tensor, int]:
    """Leave out each token with probability `p`, but never all (Wei and Zou, 2019)."""
    kept = rng.random(len(ids)) >= p
    kept[rng.integers(len(ids))] = True
    return ids[torch.from_numpy(kept)], target
