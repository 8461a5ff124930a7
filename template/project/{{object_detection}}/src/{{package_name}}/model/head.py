"""The last layers of a detector: from maps of features to a score and a box at every point."""

import math

import torch
from torch import Tensor, nn

from ..boxes import Predictions
from .layers import conv

PRIOR = 0.01  # the score of every point at the start, since nearly all are background
TYPICAL = 6.0  # an object's size at the start, in strides


class Head(nn.Module):
    """A score for each class and a box at each point of one grid or of several.

    A box is the offset of its middle from the point in strides, and the logarithm of its size.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            conv(channels, channels), nn.ReLU(inplace=True), nn.Dropout2d(dropout)
        )
        self.scores = nn.Conv2d(channels, num_classes, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)

    def start(self) -> None:
        """Initialize the last layer: boxes of the typical size, and scores of `PRIOR`."""
        for layer in (self.scores, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.scores.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor], strides: list[int]) -> Predictions:
        """Maps (N, channels, h, w), each with its stride: pixels from one point to the next."""
        parts = map(self._one, maps, strides)
        scores, boxes, points = zip(*parts, strict=True)
        return Predictions(torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(points))

    def _one(self, features: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        shared = self.shared(features)
        scores = self.scores(shared).flatten(2).transpose(1, 2).float()
        raw = self.boxes(shared).flatten(2).transpose(1, 2).float()
        points = grid(features.shape[2], features.shape[3], stride, features.device)
        middle = points[:, :2] + stride * raw[..., :2]
        half = stride * TYPICAL / 2 * raw[..., 2:].clamp(max=5).exp()
        return scores, torch.cat([middle - half, middle + half], dim=-1), points


def grid(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """The points of a grid, row by row: x, y and the stride, (height * width, 3)."""
    y, x = torch.meshgrid(
        *(stride * (torch.arange(n, device=device) + 0.5) for n in (height, width)), indexing="ij"
    )
    return torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1)
