"""The FT-Transformer (Gorishniy et al., 2021): a token for each column, and attention."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import Categories


class Tokens(nn.Module):
    """A token for each column, and a CLS token at the end."""

    def __init__(self, num_numbers: int, category_sizes: Sequence[int], width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.scale = nn.Parameter(torch.empty(num_numbers, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_numbers, width).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(num_numbers, width))
        self.last = nn.Parameter(torch.empty(1, 1, width).uniform_(-bound, bound))
        self.categories = Categories(category_sizes, width)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map numbers (N, 2, A) and categories (N, B) to tokens (N, A + B + 1, width)."""
        values, missing = numbers[:, 0, :, None], numbers[:, 1, :, None]
        of_numbers = values * self.scale + missing * self.missing + self.bias
        last = self.last.expand(numbers.shape[0], -1, -1)
        return torch.cat([of_numbers, self.categories(categories), last], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, _ = tokens.shape
        qkv = self.qkv(tokens).view(count, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a gated hidden layer (ReGLU), each after a norm, with residual connections."""

    def __init__(self, width: int, heads: int, dropout: float, first: bool) -> None:
        super().__init__()
        hidden = width * 4 // 3
        self.norm1 = nn.Identity() if first else nn.LayerNorm(width)  # as in the paper
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        value, gate = self.up(self.norm2(tokens)).chunk(2, dim=-1)
        return tokens + self.down(self.dropout(value * F.relu(gate)))


class FTTransformer(nn.Module):
    """Tokens, blocks, and a linear layer on the CLS token."""

    def __init__(
        self,
        num_numbers: int,
        category_sizes: Sequence[int],
        num_outputs: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(num_numbers, category_sizes, width)
        blocks = (Block(width, heads, dropout, first=number == 0) for number in range(depth))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Map numbers (N, 2, A) and categories (N, B) to outputs (N, num_outputs)."""
        tokens = self.tokens(numbers, categories)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(F.relu(self.norm(tokens[:, -1])))


def ft_transformer(
    num_numbers: int,
    category_sizes: Sequence[int],
    num_outputs: int,
    width: int = 64,
    depth: int = 3,
    heads: int = 8,
    dropout: float = 0.1,
) -> FTTransformer:
    """An FT-Transformer of `depth` blocks, with tokens of `width` numbers."""
    if width % heads:
        raise ValueError(f"width {width} should be a multiple of heads, {heads}")
    return FTTransformer(num_numbers, category_sizes, num_outputs, width, depth, heads, dropout)
