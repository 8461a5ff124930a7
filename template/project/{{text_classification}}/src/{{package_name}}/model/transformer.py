"""A transformer encoder (Vaswani et al., 2017) with the norm first (Xiong et al., 2020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ngrams import Embedding


class Block(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map features (N, L, width) to features; `mask` (N, 1, 1, L) is false for padding."""
        count, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(count, length, width)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class Transformer(nn.Module):
    """Embeddings of n-grams and positions, self-attention, then the mean over the tokens."""

    def __init__(
        self,
        num_classes: int,
        max_length: int,
        embedding: Embedding,
        width: int,
        blocks: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} should be a multiple of heads {heads}")
        self.embedding, self.dropout = embedding, nn.Dropout(dropout)
        self.places = nn.Parameter(0.02 * torch.randn(max_length, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (N, L), int64, 0 for padding, to logits (N, num_classes)."""
        inside = ids != 0
        x = self.dropout(self.embedding(ids, whole=False) + self.places[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, inside[:, None, None])
        x = self.norm(x) * inside[..., None]
        return self.head(x.sum(dim=1) / inside.sum(dim=1, keepdim=True))


def transformer(
    num_classes: int,
    max_length: int,
    width: int = 64,
    blocks: int = 2,
    heads: int = 4,
    dropout: float = 0.1,
    longest: int = 5,
    buckets: int = 30_000,
) -> Transformer:
    """A small encoder over n-grams of up to `longest` tokens; training drops half of them."""
    embedding = Embedding(width, 0.5, longest, buckets)
    return Transformer(num_classes, max_length, embedding, width, blocks, heads, dropout)
