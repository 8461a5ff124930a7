"""Custom losses: any class or function here can be named in `loss.name`."""

import torch
from torch import Tensor, nn


class QuantileLoss(nn.Module):
    """The loss that is minimal for a quantile of the future (Koenker and Bassett, 1978).

    With `quantile` 0.9, a forecast that is too low costs nine times as much as one that is too
    high, so the truth should stay below the forecast nine times of ten. 0.5 is half the L1 loss.
    """

    def __init__(self, quantile: float = 0.5) -> None:
        super().__init__()
        if not 0 < quantile < 1:
            raise ValueError(f"quantile should be between 0 and 1, got {quantile}")
        self.quantile = quantile

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of scaled forecasts and futures of the same shape."""
        short = targets - outputs
        return torch.maximum(self.quantile * short, (self.quantile - 1) * short).mean()
