"""A multilayer perceptron with embeddings of categories: the first thing to try."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .embedding import Categories, Periodic


class MLP(nn.Module):
    """Numbers and embedded categories side by side, then hidden layers."""

    def __init__(
        self,
        num_numbers: int,
        category_sizes: Sequence[int],
        num_outputs: int,
        width: int,
        depth: int,
        embedding: int,
        dropout: float,
        frequencies: int,
        sigma: float,
    ) -> None:
        super().__init__()
        self.categories = Categories(category_sizes, embedding)
        size = 2 * num_numbers + len(category_sizes) * embedding
        self.periodic: Periodic | None = None
        if frequencies and num_numbers:
            self.periodic = Periodic(num_numbers, frequencies, sigma, embedding)
            size += num_numbers * embedding
        first = nn.Linear(size, width)
        with torch.no_grad():  # if no number is missing in training, missing ones count as 0
            first.weight[:, num_numbers : 2 * num_numbers] = 0
        layers = [first, *(nn.Linear(width, width) for _ in range(depth - 1))]
        rest = (part for layer in layers for part in (layer, nn.ReLU(), nn.Dropout(dropout)))
        self.layers = nn.Sequential(*rest, nn.Linear(width, num_outputs))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map numbers (N, 2, A) and categories (N, B) to outputs (N, num_outputs)."""
        parts = [numbers.flatten(1), self.categories(categories).flatten(1)]
        if self.periodic is not None:
            parts.append(self.periodic(numbers[:, 0]).flatten(1))
        return self.layers(torch.cat(parts, dim=1))


def mlp(
    num_numbers: int,
    category_sizes: Sequence[int],
    num_outputs: int,
    width: int = 128,
    depth: int = 3,
    embedding: int = 8,
    dropout: float = 0.0,
    frequencies: int = 0,
    sigma: float = 1.0,
) -> MLP:
    """`depth` hidden layers of `width`; each category becomes `embedding` numbers.

    With `frequencies`, each number also becomes `embedding` numbers: see `Periodic`.
    """
    if depth < 1 or frequencies < 0:
        least = "depth should be 1 or more, frequencies 0 or more"
        raise ValueError(f"{least}; got {depth} and {frequencies}")
    sizes = num_numbers, category_sizes, num_outputs, width, depth, embedding
    return MLP(*sizes, dropout, frequencies, sigma)
