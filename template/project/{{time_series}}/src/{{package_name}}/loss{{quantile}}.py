"""Custom losses: any class or function here can be named in `loss.name`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class QuantileLoss(nn.Module):
    """The loss that is minimal for a quantile of the future (Koenker and Bassett, 1978).

    With `quantile` 0.9, a forecast that is too low costs nine times as much as one that is too
    high, so the truth should stay below the forecast nine times of ten. 0.5 is half the L1 loss.

    With `levels`, such as [0.1, 0.5, 0.9], the model forecasts all these quantiles at once: the
    task sees the attribute. The median is the forecast, the others are its prediction interval.
    """

    levels: list[float]
    quantiles: Tensor

    def __init__(self, quantile: float = 0.5, levels: Sequence[float] = ()) -> None:
        super().__init__()
        self.levels = list(levels) if isinstance(levels, Sequence) else [levels]
        if not all(isinstance(each, float) and 0 < each < 1 for each in (quantile, *self.levels)):
            given = f"levels {self.levels}" if levels else f"quantile {quantile}"
            raise ValueError(f"quantiles should be between 0 and 1, got {given}")
        rising = self.levels == sorted({*self.levels})
        if levels and not (rising and 0.5 in self.levels and len(self.levels) > 1):
            raise ValueError(f"levels should be two or more, rise and include 0.5, got {levels}")
        values = torch.tensor(self.levels or quantile)
        self.register_buffer("quantiles", values, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of scaled forecasts and futures of the same shape.

        With `levels`, the forecasts have one dimension more, the last, for the levels.
        """
        short = (targets.unsqueeze(-1) if self.levels else targets) - outputs
        return torch.maximum(self.quantiles * short, (self.quantiles - 1) * short).mean()
