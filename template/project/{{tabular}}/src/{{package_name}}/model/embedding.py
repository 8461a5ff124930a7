"""Embeddings of categories, one table for all columns."""

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
