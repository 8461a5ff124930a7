"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes an image, its target and a random generator, and returns image and target. Images
are float32 (channels, height, width) from 0 to 1. For runs that repeat, draw only from `rng`.

A transform may have a function `batch`: it takes the samples of a batch and their generators, and
returns the samples. It is called in place of the transform, and must give the same results.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(
    image: Tensor,
    target: int,
    rng: np.random.Generator,
    degrees: float = 10.0,
    translate: float = 0.1,
    scale: float = 0.1,
) -> tuple[Tensor, int]:
    """Rotate by up to `degrees`, shift by up to `translate` of a side, zoom by up to `scale`."""
    return _affine([(image, target)], [rng], degrees, translate, scale)[0]


def _affine(
    samples: list[tuple[Tensor, int]],
    rngs: list[np.random.Generator],
    degrees: float = 10.0,
    translate: float = 0.1,
    scale: float = 0.1,
) -> list[tuple[Tensor, int]]:
    """`random_affine` for images of the same size, each with its own generator."""
    images, targets = zip(*samples, strict=True)
    matrices = []
    for rng in rngs:
        turn, dx, dy, zoom = rng.uniform(-1, 1, size=4).tolist()
        angle, factor = math.radians(turn * degrees), 1 + zoom * scale
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        matrices.append([[cos, -sin, 2 * dx * translate], [sin, cos, 2 * dy * translate]])
    stacked = torch.stack(images)
    grid = F.affine_grid(torch.tensor(matrices), list(stacked.shape), align_corners=False)
    border = [stacked[..., 0, :], stacked[..., -1, :], stacked[..., 0], stacked[..., -1]]
    # Pixels from outside the image get the median colour of its border.
    paper = torch.cat(border, dim=-1).median(dim=-1).values[..., None, None]
    moved = F.grid_sample(stacked - paper, grid, align_corners=False) + paper
    return list(zip(moved, targets, strict=True))


random_affine.batch = _affine  # type: ignore[attr-defined]


def random_flip(
    image: Tensor, target: int, rng: np.random.Generator, p: float = 0.5
) -> tuple[Tensor, int]:
    """Mirror left and right with probability `p`; not for digits or text."""
    return (image.flip(-1) if rng.random() < p else image), target


def random_erase(
    image: Tensor, target: int, rng: np.random.Generator, p: float = 0.5, size: float = 0.3
) -> tuple[Tensor, int]:
    """Blank a square of up to `size` of the side (DeVries and Taylor, 2017)."""
    if rng.random() >= p:
        return image, target
    height, width = image.shape[1:]
    side = max(1, round(rng.uniform(0, size) * min(height, width)))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    image = image.clone()
    image[:, top : top + side, left : left + side] = 0
    return image, target
