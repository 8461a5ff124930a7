"""A transformer over patches of each series (PatchTST; Nie et al., 2023)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(nn.Module):
    """Self-attention, then a hidden layer, each after a layer norm, with residual connections."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map patches (N, P, width) to the same shape."""
        parts = self.inward(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (N, heads, P, width / heads)
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=p)
        x = x + F.dropout(self.outward(mixed.transpose(1, 2).flatten(2)), p)
        return x + F.dropout(self.hidden(self.norm2(x)), p)


class PatchTST(nn.Module):
    """Overlapping patches are the tokens; each series is forecast alone, with the same weights.

    As in the paper, but with layer norms before the parts instead of batch norms after them, so
    that a forecast doesn't depend on the other windows of a batch.
    """

    def __init__(
        self,
        context: int,
        horizon: int,
        width: int,
        layers: int,
        heads: int,
        patch: int,
        stride: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if not 0 < stride <= patch <= context:
            raise ValueError(f"stride {stride}, patch {patch} and context {context} should rise")
        if width % heads:
            raise ValueError(f"width {width} should be a multiple of heads {heads}")
        self.patch, self.stride, self.end = patch, stride, (patch - context) % stride
        count = (context + self.end - patch) // stride + 1
        self.embed = nn.Linear(patch, width)
        self.place = nn.Parameter(0.02 * torch.randn(count, width))
        self.layers = nn.Sequential(*(Layer(width, heads, dropout) for _ in range(layers)))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.head = nn.Linear(count * width, horizon)

    def forward(self, past: Tensor) -> Tensor:
        """Map scaled pasts (N, C, context) to scaled forecasts (N, C, horizon)."""
        padded = F.pad(past, (0, self.end), mode="replicate")
        patches = padded.unfold(-1, self.patch, self.stride).flatten(0, 1)
        x = self.layers(self.dropout(self.embed(patches) + self.place))
        forecast = self.head(self.dropout(self.norm(x).flatten(1)))
        return forecast.unflatten(0, past.shape[:2])


def patchtst(
    context: int,
    horizon: int,
    width: int = 32,
    layers: int = 2,
    heads: int = 4,
    patch: int = 8,
    stride: int = 4,
    dropout: float = 0.2,
) -> PatchTST:
    """`layers` of `width` features over patches of `patch` steps, one every `stride` steps."""
    return PatchTST(context, horizon, width, layers, heads, patch, stride, dropout)
