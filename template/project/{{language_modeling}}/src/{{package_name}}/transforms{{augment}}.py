"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes tokens, the tokens that follow them, and a random generator, and returns both
parts: int64 tensors (length,). It gets twice `data.context` tokens, of which the first half is
used in the end. Draw all that is random from `rng`, or runs do not repeat.
"""

import numpy as np
import torch
from torch import Tensor


def random_shift(
    inputs: Tensor, targets: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Begin anywhere in the first half: no two epochs cut the text in the same places."""
    start = int(rng.integers(len(inputs) // 2 + 1))
    return inputs[start:], targets[start:]


def random_mask(
    inputs: Tensor, targets: Tensor, rng: np.random.Generator, p: float = 0.05, token: int = 0
) -> tuple[Tensor, Tensor]:
    """Put `token` in place of each input with probability `p` (Bowman et al., 2016).

    Token 0 stands for unknown characters: the model learns what to make of them. The targets stay
    as they are, so it also learns to guess from less.
    """
    hidden = torch.from_numpy(rng.random(len(inputs)) < p)
    return inputs.masked_fill(hidden, token), targets
