"""Print the AP50 to beat on data/test, as JSON: that of Otsu's threshold (1979) and a box around each bright region."""

import json

import numpy as np
import torch
from my_project.boxes import Predictions
from my_project.config import ROOT
from my_project.data.dataset import CocoFolder
from my_project.data.splits import unpack_sample
from my_project.metrics import AveragePrecision

LEAST = 20  # smaller regions, in pixels, get no box


def otsu(pixels: np.ndarray) -> int:
    """Return the threshold that best separates 8-bit values into two groups."""
    counts = np.bincount(pixels.ravel(), minlength=256).astype(float)
    below, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(all="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nanargmax(between))


def patches(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows and columns of each region of true pixels that are connected by their sides."""
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:  # each pixel takes the largest number near it, until none changes
        padded = np.pad(numbers, 1)
        near = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1], numbers]
        largest = np.where(mask, np.max(near, axis=0), 0)
        if (largest == numbers).all():
            return [np.nonzero(numbers == number) for number in np.unique(numbers[mask])]
        numbers = largest


unpack_sample(ROOT / "data")
dataset = CocoFolder(ROOT / "data" / "test", ["nucleus"], size=112, channels=1)
metrics = AveragePrecision(1, overlap=0.5)
for image, target in dataset:
    width, height = target["size"].int().tolist()
    pixels = (image[0, :height, :width].numpy() * 255).round().astype(np.uint8)
    found = [p for p in patches(pixels > otsu(pixels)) if len(p[0]) >= LEAST]
    boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in found]
    scores = torch.tensor([[float(len(y))] for y, _ in found]) / pixels.size  # larger regions score higher
    answer = Predictions(scores.reshape(1, -1, 1), torch.tensor([boxes]).float(), torch.empty(0))
    metrics.update(answer, (image[None], [target]))
figures = metrics.compute()
value = round(figures["ap50"], 4)
print(json.dumps({"name": "Otsu's threshold", "metric": "ap50", "value": value}))
