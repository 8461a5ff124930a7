"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes tokens, the tokens that follow them, and a random generator, and returns both
parts: int64 tensors (length,). It gets twice `data.context` tokens; after all transforms, only the
first half is used. Draw all random numbers from `rng`, so that runs are reproducible.
"""

import numpy as np
import torch
from torch import Tensor


def random_shift(
    inputs: Tensor, targets: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Start at a random token of the first half, so that each epoch cuts the text elsewhere."""
    start = int(rng.integers(len(inputs) // 2 + 1))
    return inputs[start:], targets[start:]


def random_mask(
    inputs: Tensor, targets: Tensor, rng: np.random.Generator, p: float = 0.05, token: int = 0
) -> tuple[Tensor, Tensor]:
    """Replace each input with `token` with probability `p` (Bowman et al., 2016).

    Token 0 stands for unknown characters, so the model learns to handle them. Targets don't
    change, so it also learns to predict from incomplete texts.
    """
    hidden = torch.from_numpy(rng.random(len(inputs)) < p)
    return inputs.masked_fill(hidden, token), targets
