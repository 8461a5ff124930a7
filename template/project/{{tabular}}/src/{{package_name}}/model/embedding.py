"""Embeddings of categories, one table for all columns; and of numbers."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn


class Categories(nn.Module):
    """A vector for each category of each column; vectors of missing or unknown ones start at 0.

    Args:
        sizes: the number of codes of each column; code 0 means missing or unknown.
        width: the length of a vector.
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        firsts = list(accumulate(sizes, initial=0))[:-1]
        self.register_buffer("offsets", torch.tensor(firsts, dtype=torch.int64), persistent=False)
        self.table = nn.Embedding(sum(sizes), width)
        with torch.no_grad():
            self.table.weight.mul_(width**-0.5)
            self.table.weight[firsts] = 0

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes, int64 (N, B), to vectors (N, B, width)."""
        return self.table(codes + self.offsets)


class Periodic(nn.Module):
    """Embeddings of numbers: sines and cosines of learnt frequencies (Gorishniy et al., 2022).

    An effect that rises and falls, or changes at a value, is easier to learn from them than from
    the number itself. All columns share the linear layer after the sines, as in the paper's "lite".

    Args:
        num_numbers: the number of columns.
        frequencies: how many each column has.
        sigma: the standard deviation of the first frequencies. More make finer steps, and overfit.
        width: the length of an embedding.
    """

    def __init__(self, num_numbers: int, frequencies: int, sigma: float, width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(sigma * torch.randn(num_numbers, frequencies))
        self.linear = nn.Linear(2 * frequencies, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map numbers (N, A) to embeddings (N, A, width)."""
        angles = 2 * torch.pi * numbers.unsqueeze(-1) * self.frequencies
        return torch.relu(self.linear(torch.cat([angles.sin(), angles.cos()], dim=-1)))
