"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes the past and the future of a window and a random generator, and returns both:
what changes the past must change the future along, as one series. Both are float32 tensors,
(C, context) and (C, horizon), in the units of the data, so strengths are shares of the deviation
of each series in its past. Draw all that is random from `rng`, or runs do not repeat.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Add noise to the past, as errors of measuring would; the truth to forecast stays."""
    noise = torch.from_numpy(rng.standard_normal(tuple(past.shape), dtype=np.float32))
    strength = rng.uniform(0, most) * past.std(dim=1, keepdim=True)
    return past + strength * noise, future


def magnitude_warp(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 0.2, knots: int = 4
) -> tuple[Tensor, Tensor]:
    """Stretch the moves around the mean by a curve over past and future (Um et al., 2017).

    The curve goes straight from one of `knots` points to the next, each up to `most` off 1.
    """
    points = torch.from_numpy(1 + rng.uniform(-most, most, size=(1, past.shape[0], knots))).float()
    steps, mean = past.shape[1] + future.shape[1], past.mean(dim=1, keepdim=True)
    curve = F.interpolate(points, size=steps, mode="linear", align_corners=True)[0]
    whole = mean + curve * (torch.cat([past, future], dim=1) - mean)
    return whole[:, : past.shape[1]], whole[:, past.shape[1] :]


def drift(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Add a straight line, for each series its own, which rises or falls by up to `most`."""
    steps = past.shape[1] + future.shape[1]
    slopes = torch.from_numpy(rng.uniform(-most, most, size=(past.shape[0], 1))).float()
    line = slopes * past.std(dim=1, keepdim=True) * torch.linspace(-0.5, 0.5, steps)
    return past + line[:, : past.shape[1]], future + line[:, past.shape[1] :]
