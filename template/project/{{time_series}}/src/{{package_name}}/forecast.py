"""The seasonal-naive forecast, and the errors of forecasts in the data's units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def seasonal_naive(past: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last `season` steps of `past` (..., context): (..., horizon)."""
    steps = torch.arange(horizon, device=past.device) % season
    return past[..., past.shape[-1] - season + steps]


class ForecastErrors:
    """`mae` and `rmse` in the units of the data, and `mae_vs_naive`.

    The last divides the mean absolute error of a series by that of the seasonal-naive forecast of
    the same steps, and averages over the series: below 1 is better than naive, in any units.
    Series without naive errors, such as constant ones, are left out; if all are, it is the mae.
    Unlike MASE (Hyndman and Koehler, 2006), it compares with naive errors of the same windows, not
    with those of one step ahead in the training data.

    Of quantiles at `levels`, these are the errors of the median. `pinball` is the mean over the
    levels of their quantile loss, in the units of the data; `coverage` is the share of the futures
    from the lowest to the highest quantile.
    """

    def __init__(
        self, series: int, season: int, device: torch.device, levels: Sequence[float] = ()
    ) -> None:
        kind = torch.float32 if device.type == "mps" else torch.float64
        self.season, self.count = season, 0
        # For each series: the sums of absolute, squared, and naive absolute errors; with levels,
        # also of quantile losses, and of futures in the interval.
        self.sums = torch.zeros(5 if levels else 3, series, dtype=kind, device=device)
        self.levels = torch.tensor(levels, dtype=kind, device=device)
        self.median = levels.index(0.5) if levels else 0

    def update(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> None:
        """Add forecasts (N, C, horizon), or (N, C, horizon, levels), of pasts and futures."""
        past, future = (part.to(self.sums.dtype) for part in (batch[0], batch[-1]))
        outputs, more = outputs.detach().to(self.sums.dtype), list[Tensor]()
        if len(self.levels):
            short = future.unsqueeze(-1) - outputs
            losses = torch.maximum(self.levels * short, (self.levels - 1) * short)
            inside = (short[..., 0] >= 0) & (short[..., -1] <= 0)
            more = [losses.mean(dim=-1), inside.to(future.dtype)]
            outputs = outputs[..., self.median]
        errors = outputs - future
        naive = seasonal_naive(past, future.shape[-1], self.season) - future
        each = [errors.abs(), errors.square(), naive.abs(), *more]
        self.sums += torch.stack([error.sum(dim=(0, 2)) for error in each])
        self.count += len(future) * future.shape[-1]

    def compute(self) -> dict[str, float]:
        mae, mse, naive, *more = (self.sums / max(1, self.count)).cpu()
        some = naive > 0
        ratio = mae[some] / naive[some] if some.any() else mae
        rmse = mse.mean().sqrt()
        figures = {"mae": mae.mean(), "rmse": rmse, "mae_vs_naive": ratio.mean()}
        figures |= {n: f.mean() for n, f in zip(("pinball", "coverage"), more, strict=False)}
        return {name: float(figure) for name, figure in figures.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums, "count": self.count}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.sums += state["sums"].to(self.sums.device)
            self.count += state["count"]
