"""Turn, move and zoom."""

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
    """Turn by up to `degrees`, move by a share of the side, zoom by a share of the size."""
    turn, dx, dy, zoom = rng.uniform(-1, 1, size=4)
    angle, factor = math.radians(turn * degrees), 1 + zoom * scale
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    matrix = torch.tensor([[cos, -sin, 2 * dx * translate], [sin, cos, 2 * dy * translate]])
    grid = F.affine_grid(matrix[None].float(), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0], target
