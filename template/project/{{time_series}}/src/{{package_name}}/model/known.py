"""Inputs whose future is known, such as prices, holidays and the hour, for any model."""

import torch
from torch import Tensor, nn


class Known(nn.Module):
    """A model of what known inputs don't explain, as in a regression with ARIMA errors.

    Two layers map the inputs of each step to their effect on each series. It is subtracted from
    the past, and added to the forecast. It begins at zero.
    """

    def __init__(self, model: nn.Module, inputs: int, series: int, width: int = 32) -> None:
        super().__init__()
        self.module = model  # `model.weights` leaves out this name, so any run's weights fit
        last = nn.Linear(width, series, bias=False)
        nn.init.zeros_(last.weight)
        self.effect = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), last)

    def forward(self, past: Tensor, known: Tensor) -> Tensor:
        """Map pasts (N, C, context) and inputs (N, K, context + horizon) to scaled forecasts."""
        effect, context = self.effect(known.mT).mT, past.shape[-1]
        ahead = effect[..., context:].unsqueeze(-1)  # the same for all levels of a step
        forecast = self.module(past - effect[..., :context])
        return torch.flatten(forecast.unflatten(-1, (ahead.shape[2], -1)) + ahead, -2)
