"""Custom losses: any class or function here can be named as `loss.name`.

A class is built with `loss.args`; called with outputs and targets, it returns a scalar, a mean over
the rows. For a regression both are floats (N,), or (N, T) for several targets, each with mean 0 and
deviation 1; for a classification they are logits (N, C) and classes (N,). A function is called with
`loss.args` too.
"""

from torch import Tensor, nn


class PinballLoss(nn.Module):
    """Makes a regression predict a quantile instead of a mean (Koenker and Bassett, 1978).

    Args:
        quantile: the share of targets that should be below the prediction; 0.5 is the median.
    """

    def __init__(self, quantile: float = 0.5) -> None:
        super().__init__()
        if not 0 < quantile < 1:
            raise ValueError(f"quantile should be between 0 and 1, got {quantile}")
        self.quantile = quantile

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        short = targets - outputs
        return (self.quantile * short).maximum((self.quantile - 1) * short).mean()
