"""Mirror."""

import numpy as np
from torch import Tensor


def random_flip(
    image: Tensor, target: int, rng: np.random.Generator, p: float = 0.5
) -> tuple[Tensor, int]:
    """Mirror left and right with probability `p`; not for digits or text."""
    return (image.flip(-1) if rng.random() < p else image), target
