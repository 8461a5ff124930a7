"""Custom data augmentation: any function here can be named in `data.transforms`.

Yours: take the parts of a sample, as the dataset returns them, and a random generator; return the
parts. If a change of the inputs affects the target, change it too. Draw all random numbers from
`rng`, so that runs are reproducible, and don't change the given tensors in place.
"""

import numpy as np
import torch
from torch import Tensor


def jitter(
    point: Tensor, target: Tensor, rng: np.random.Generator, std: float = 0.01
) -> tuple[Tensor, Tensor]:
    """Move a point by normal noise; the target doesn't change."""
    noise = rng.normal(scale=std, size=tuple(point.shape))
    return point + torch.from_numpy(noise).to(point), target


def half_turn(
    point: Tensor, target: Tensor, rng: np.random.Generator, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Turn by 180 degrees about the origin with probability `p`: each arm becomes the other."""
    return (-point, 1 - target) if rng.random() < p else (point, target)
