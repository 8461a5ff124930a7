"""What a forecast is measured by: the seasonal-naive one, and errors in the data's units."""

from typing import Any

import torch
from torch import Tensor


def seasonal_naive(past: Tensor, horizon: int, season: int) -> Tensor:
    """The last `season` steps of `past` (..., context) again and again: (..., horizon)."""
    steps = torch.arange(horizon, device=past.device) % season
    return past[..., past.shape[-1] - season + steps]


class ForecastErrors:
    """`mae` and `rmse` in the units of the data, and `mae_vs_naive`.

    The last is the mean absolute error of a series divided by that of the seasonal-naive forecast
    of the same steps, meaned over the series: below 1 is better than naive, whatever the units.
    Series without naive errors, such as constant ones, are left out; of these alone it is the mae.
    It differs from MASE (Hyndman and Koehler, 2006) in that its naive errors are those of the
    same windows, and not one step ahead in the training data.
    """

    def __init__(self, series: int, season: int, device: torch.device) -> None:
        kind = torch.float32 if device.type == "mps" else torch.float64
        self.season, self.count = season, 0
        # For each series: the sums of absolute, squared, and naive absolute errors.
        self.sums = torch.zeros(3, series, dtype=kind, device=device)

    def update(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        """Take in forecasts (N, C, horizon), and a batch of pasts and futures."""
        past, future = (part.to(self.sums.dtype) for part in batch)
        errors = outputs.detach().to(self.sums.dtype) - future
        naive = seasonal_naive(past, future.shape[-1], self.season) - future
        each = [errors.abs(), errors.square(), naive.abs()]
        self.sums += torch.stack([error.sum(dim=(0, 2)) for error in each])
        self.count += len(future) * future.shape[-1]

    def compute(self) -> dict[str, float]:
        mae, mse, naive = (self.sums / max(1, self.count)).cpu()
        some = naive > 0
        ratio = mae[some] / naive[some] if some.any() else mae
        rmse = mse.mean().sqrt()
        figures = {"mae": mae.mean(), "rmse": rmse, "mae_vs_naive": ratio.mean()}
        return {name: float(figure) for name, figure in figures.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums, "count": self.count}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.sums += state["sums"].to(self.sums.device)
            self.count += state["count"]
