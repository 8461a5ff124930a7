"""Boxes: their overlap, non-maximum suppression, and which detections are correct.

A box is (left, top, right, bottom) in pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Predictions(NamedTuple):
    """A model's outputs at each of the L points of one grid or several."""

    scores: Tensor  # (N, L, C) logits: is it the middle of an object of this class?
    boxes: Tensor  # (N, L, 4) float32, of that object
    points: Tensor  # (L, 3): x and y in pixels, and the grid's stride


class Detections(NamedTuple):
    """The K best boxes of each image, the highest score first."""

    boxes: Tensor  # (N, K, 4)
    scores: Tensor  # (N, K) from 0 to 1; 0 if it is no detection
    labels: Tensor  # (N, K) int64


def pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., A, 4) and (..., B, 4), each with each: (..., A, B)."""
    first, second = one[..., :, None, :], other[..., None, :, :]
    low, high = torch.maximum(first, second), torch.minimum(first, second)
    inside = (high[..., 2:] - low[..., :2]).clamp(min=0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(dim=-1) for box in (first, second)]
    return inside / (areas[0] + areas[1] - inside).clamp(min=1e-9)


def suppress(found: Detections, most: float) -> Tensor:
    """Greedy non-maximum suppression: (N, K) booleans, which boxes are kept.

    A box is dropped if it overlaps a kept box of its class, with a higher score, by more than
    `most`. All images are processed together, without waiting for the device.
    """
    overlap = pairwise_iou(found.boxes, found.boxes) > most
    rivals = overlap & (found.labels[:, :, None] == found.labels[:, None, :])
    rivals = rivals.triu(diagonal=1)  # only boxes after it
    kept = torch.ones_like(found.labels, dtype=torch.bool)
    for index in range(kept.shape[1]):
        kept &= ~(rivals[:, index] & kept[:, index, None])
    return kept


@torch.no_grad()
def detect(
    predictions: Predictions, sizes: Tensor, most: float, candidates: int = 300
) -> Detections:
    """A model's detections: at most `candidates` boxes, within the images, without duplicates.

    `sizes` (N, 2) has the width and height of each image; `most` is the largest overlap of two.
    """
    scores, boxes, _ = predictions
    classes = scores.shape[2]
    best, where = scores.float().sigmoid().flatten(1).topk(min(candidates, scores[0].numel()))
    places = where.div(classes, rounding_mode="floor")
    chosen = boxes.float().gather(1, places[..., None].expand(-1, -1, 4)).clamp(min=0)
    chosen = torch.minimum(chosen, sizes.repeat(1, 2)[:, None])
    found = Detections(chosen, best, where % classes)
    return found._replace(scores=best * suppress(found, most))


def match(found: Tensor, labels: Tensor, truth: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the detections (n, 4) are correct (n,), and which objects (m, 4) are found (m,).

    Detections are ordered by score. Each takes the free object of its class that it overlaps most,
    if the overlap is 0.5 or more.
    """
    right = torch.zeros(len(found), dtype=torch.bool)
    free = torch.ones(len(truth), dtype=torch.bool)
    overlap = pairwise_iou(found, truth) * (labels[:, None] == names)
    for index in range(len(found) if len(truth) else 0):
        best, where = (overlap[index] * free).max(dim=0)
        if best >= 0.5:
            right[index], free[where] = True, False
    return right, ~free
