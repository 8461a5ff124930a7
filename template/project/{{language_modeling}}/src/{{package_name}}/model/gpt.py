"""A causal transformer (GPT-2: Radford et al., 2019).

Like later models, it has rotary position embeddings (Su et al., 2021), RMS norms (Zhang and
Sennrich, 2019) and no biases.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = dict[str, Tensor]
"""Keys and values of the tokens so far, each (N, heads, length, width / heads); empty at first."""


class Tokens(nn.Embedding):
    """Maps tokens to vectors and, with the same weights, vectors to logits (Press, Wolf, 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) if x.is_floating_point() else super().forward(x)


class Attention(nn.Module):
    """Causal self-attention: each token attends to itself and to those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor, cache: Cache | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, turns), rotate(k, turns)
        mask = None
        if cache:
            k, v = torch.cat([cache["k"], k], dim=2), torch.cat([cache["v"], v], dim=2)
            shape = q.shape[2], k.shape[2]
            mask = torch.ones(shape, dtype=torch.bool, device=x.device).tril(shape[1] - shape[0])
        if cache is not None:
            cache.update(k=k, v=v)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, is_causal=mask is None)
        return self.out(y.transpose(1, 2).flatten(2))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate pairs of numbers of x (..., length, size) by the angles of their position.

    `turns` (2, length, size / 2) are the cosines and sines of these angles.
    """
    (cos, sin), (a, b) = turns.to(x.dtype), x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Block(nn.Module):
    """Attention, then a feed-forward network, each with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, turns: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x), turns, cache))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """Blocks between an embedding and an output layer with the same weights."""

    turns: Tensor

    def __init__(
        self, vocab_size: int, context: int, width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} should be a multiple of twice the {heads} heads")
        self.tokens = Tokens(vocab_size, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        size = width // heads
        angles = torch.arange(context)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
        self.register_buffer("turns", torch.stack([angles.cos(), angles.sin()]), persistent=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Set all weights; the output layers of blocks start smaller if there are more blocks."""
        for name, weight in self.named_parameters():
            if weight.dim() == 1:  # the weights of norms
                nn.init.ones_(weight)
                continue
            last = name.endswith(("out.weight", "down.weight"))
            nn.init.normal_(weight, std=0.02 / (2 * len(self.blocks)) ** 0.5 if last else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, L), int64, to logits (N, L, vocab_size) of the next tokens."""
        return self._logits(tokens, self.turns[:, : tokens.shape[1]], [None] * len(self.blocks))

    def step(self, tokens: Tensor, caches: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        """Like `forward`, but after the tokens in the blocks' caches, to which it adds its own."""
        caches = caches or [{} for _ in self.blocks]
        past = caches[0]["k"].shape[2] if caches[0] else 0
        turns = self.turns[:, past : past + tokens.shape[1]]
        return self._logits(tokens, turns, caches), caches

    def _logits(self, tokens: Tensor, turns: Tensor, caches: Sequence[Cache | None]) -> Tensor:
        x = self.drop(self.tokens(tokens))
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, turns, cache)
        return self.tokens(self.norm(x))


def gpt(
    vocab_size: int,
    context: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.1,
) -> GPT:
    """A small GPT: 0.8 million parameters with the defaults."""
    return GPT(vocab_size, context, width, layers, heads, dropout)
