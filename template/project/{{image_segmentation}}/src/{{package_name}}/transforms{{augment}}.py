"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes an image, its mask and a random generator, and returns image and mask. If it moves
the image, it must move the mask too. Images are float32 tensors (channels, height, width) from 0 to
1, masks int64 (height, width). For reproducible runs, draw random numbers only from `rng`.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def random_crop(
    image: Tensor, mask: Tensor, rng: np.random.Generator, size: int = 256
) -> tuple[Tensor, Tensor]:
    """Cut out a square of `size` x `size` pixels; a side that is shorter stays whole."""
    top, left = (int(rng.integers(0, max(0, side - size) + 1)) for side in mask.shape)
    rows, columns = slice(top, top + size), slice(left, left + size)
    return image[:, rows, columns], mask[rows, columns]


def random_flip(
    image: Tensor, mask: Tensor, rng: np.random.Generator, p: float = 0.5, vertical: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mirror left and right with probability `p`, up and down with probability `vertical`."""
    draws = zip((-1, -2), rng.random(2) < (p, vertical), strict=True)
    sides = [side for side, flip in draws if flip]
    return image.flip(sides), mask.flip(sides)


def random_rotate90(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotate by 0, 90, 180 or 270 degrees; for images that have no top: cells, aerial views."""
    turns = int(rng.integers(4))
    return image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))


def random_affine(
    image: Tensor,
    mask: Tensor,
    rng: np.random.Generator,
    degrees: float = 10.0,
    translate: float = 0.1,
    scale: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Rotate by up to `degrees`, shift by up to `translate` of a side, zoom by up to `scale`.

    Pixels from outside are reflections of the inside, in the image and in the mask.
    """
    turn, dx, dy, zoom = rng.uniform(-1, 1, size=4)
    angle, factor = math.radians(turn * degrees), 1 + zoom * scale
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    ratio = mask.shape[0] / mask.shape[1]  # the grid's unit is half a side, of either length
    rows = [[cos, -sin * ratio, 2 * dx * translate], [sin / ratio, cos, 2 * dy * translate]]
    grid = F.affine_grid(torch.tensor([rows]).float(), [1, 1, *mask.shape], align_corners=False)

    def moved(values: Tensor, mode: str) -> Tensor:
        return F.grid_sample(values, grid, mode, "reflection", align_corners=False)[0]

    return moved(image[None], "bilinear"), moved(mask[None, None].float(), "nearest")[0].long()


def random_brightness(
    image: Tensor, mask: Tensor, rng: np.random.Generator, most: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Multiply the brightness, and then the contrast, by up to 1 +- `most`; the mask stays."""
    brightness, contrast = (float(factor) for factor in rng.uniform(1 - most, 1 + most, size=2))
    mean = image.mean()
    return (((image - mean) * contrast + mean) * brightness).clamp(0, 1), mask
