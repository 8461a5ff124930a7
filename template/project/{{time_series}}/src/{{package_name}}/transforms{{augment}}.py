"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes the past and the future of a window and a random generator, and returns both,
which must stay parts of one series. They are float32 tensors, (C, context) and (C, horizon), in the
units of the data, so strengths are shares of each series' standard deviation in the past. Draw all
random numbers from `rng`, so that runs are reproducible.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Add noise to the past, like measurement errors; the future doesn't change."""
    noise = torch.from_numpy(rng.standard_normal(tuple(past.shape), dtype=np.float32))
    strength = rng.uniform(0, most) * past.std(dim=1, keepdim=True)
    return past + strength * noise, future


def magnitude_warp(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 0.2, knots: int = 4
) -> tuple[Tensor, Tensor]:
    """Scale deviations from the mean by a curve over past and future (Um et al., 2017).

    The curve is linear between `knots` random points, each between 1 - `most` and 1 + `most`.
    """
    points = torch.from_numpy(1 + rng.uniform(-most, most, size=(1, past.shape[0], knots))).float()
    steps, mean = past.shape[1] + future.shape[1], past.mean(dim=1, keepdim=True)
    curve = F.interpolate(points, size=steps, mode="linear", align_corners=True)[0]
    whole = mean + curve * (torch.cat([past, future], dim=1) - mean)
    return whole[:, : past.shape[1]], whole[:, past.shape[1] :]


def drift(
    past: Tensor, future: Tensor, rng: np.random.Generator, most: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Add a random straight line to each series, which rises or falls by up to `most`."""
    steps = past.shape[1] + future.shape[1]
    slopes = torch.from_numpy(rng.uniform(-most, most, size=(past.shape[0], 1))).float()
    line = slopes * past.std(dim=1, keepdim=True) * torch.linspace(-0.5, 0.5, steps)
    return past + line[:, : past.shape[1]], future + line[:, past.shape[1] :]
