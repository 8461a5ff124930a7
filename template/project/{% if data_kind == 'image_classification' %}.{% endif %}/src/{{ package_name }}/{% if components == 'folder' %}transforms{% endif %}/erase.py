"""The custom example: blank a part of the image."""

import numpy as np
from torch import Tensor


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
