"""A residual multilayer perceptron (after Gorishniy et al., 2021)."""

from torch import Tensor, nn


class Block(nn.Module):
    """Layer norm and two linear layers, with a residual connection."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers = [nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(2 * width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def residual_mlp(
    in_features: int, num_classes: int, width: int = 64, blocks: int = 4, dropout: float = 0.1
) -> nn.Sequential:
    """A linear layer, residual blocks and a head map inputs (N, in_features) to logits."""
    body = [Block(width, dropout) for _ in range(blocks)]
    head = [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, num_classes)]
    return nn.Sequential(nn.Linear(in_features, width), *body, *head)
