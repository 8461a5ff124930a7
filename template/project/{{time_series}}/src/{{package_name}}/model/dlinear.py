"""Linear models of the trend and of the remainder: the first thing to try."""

from torch import Tensor, nn
from torch.nn import functional as F


class DLinear(nn.Module):
    """DLinear (Zeng et al., 2023), and a hidden layer; all series use the same weights.

    A moving mean is the trend; trend and remainder are each forecast by a linear layer. The hidden
    layer, whose output is added, can learn what is not linear.
    """

    def __init__(self, context: int, horizon: int, width: int, dropout: float, window: int) -> None:
        super().__init__()
        self.window = window
        self.trend, self.rest = nn.Linear(context, horizon), nn.Linear(context, horizon)
        for layer in (self.trend, self.rest):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.hidden = nn.Sequential(
            nn.Linear(context, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, horizon)
        )

    def forward(self, past: Tensor) -> Tensor:
        """Map scaled pasts (N, C, context) to scaled forecasts (N, C, horizon)."""
        before = (self.window - 1) // 2
        padded = F.pad(past, (before, self.window - 1 - before), mode="replicate")
        trend = F.avg_pool1d(padded, self.window, stride=1)
        return self.trend(trend) + self.rest(past - trend) + self.hidden(past)


def dlinear(
    context: int, horizon: int, width: int = 64, dropout: float = 0.1, window: int = 25
) -> DLinear:
    """`width` units in the hidden layer; the trend is the mean of `window` steps."""
    return DLinear(context, horizon, width, dropout, window)
