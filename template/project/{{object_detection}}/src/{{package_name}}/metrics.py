"""The average precision of a detector, as COCO defines it (Lin et al., 2014)."""

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .boxes import Predictions, detect
from .data.dataset import sizes_of

MOST = 100  # detections of an image with the highest scores that count, as for COCO


class AveragePrecision:
    """`ap` is the mean over overlaps from 0.50 to 0.95, `ap50` and `ap75` are at one overlap each.

    Training batches are ignored, since they would cost too much time: training has only a loss.
    Detections and objects are collected on the device, in pixels of the model's input.
    """

    def __init__(self, num_classes: int, overlap: float) -> None:
        self.num_classes, self.overlap = num_classes, overlap
        self.training, self.images = False, 0
        self.found: list[Tensor] = []  # rows of image, box, score, label
        self.truth: list[Tensor] = []  # rows of image, box, label

    def update(
        self, predictions: Predictions, batch: tuple[Tensor, list[dict[str, Tensor]]]
    ) -> None:
        """Add a model's outputs and a batch of images and targets."""
        if predictions.boxes.requires_grad:
            self.training = True
            return
        boxes, scores, labels = detect(predictions, sizes_of(batch[1]), self.overlap)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :MOST]
        count, kept = order.shape
        image = torch.arange(self.images, self.images + count, device=boxes.device)
        columns = [image.repeat_interleave(kept)[:, None]]
        columns += [boxes.gather(1, order[..., None].expand(-1, -1, 4)).flatten(0, 1)]
        columns += [each.gather(1, order).flatten()[:, None] for each in (scores, labels)]
        self.found.append(torch.cat(columns, dim=1))
        for number, target in enumerate(batch[1], start=self.images):
            where, label = target["boxes"], target["labels"][:, None]
            self.truth.append(torch.cat([torch.full_like(label, number), where, label], dim=1))
        self.images += count

    def compute(self) -> dict[str, float]:
        """The metrics so far, 0 before the first batch; empty for training."""
        if self.training:
            return {}
        precision = self.curves()
        parts = {"ap": precision, "ap50": precision[0], "ap75": precision[5]}
        return {name: _mean(part) for name, part in parts.items()}

    def per_class(self) -> dict[str, list[float]]:
        """`ap` of each class, NaN for those without an object; and the number of `objects`."""
        ap = self.curves().mean(axis=(0, 1))
        labels = _rows(self.truth)[:, 5].astype(np.int64)
        objects: list[float] = np.bincount(labels, minlength=self.num_classes).tolist()
        return {"ap": np.where(ap < 0, np.nan, ap).tolist(), "objects": objects}

    def curves(self) -> NDArray[np.float64]:
        """Precision by overlap (10), recall (101) and class; -1 for classes without an object."""
        found, truth = (_rows(part) for part in (self.found, self.truth))
        if not len(truth):
            return np.full((10, 101, self.num_classes), -1.0)
        coco: Any = importlib.import_module("faster_coco_eval")  # slow to import, and untyped
        found = found[found[:, 5] > 0]
        annotations = [
            {"id": number, "image_id": int(row[0]), "category_id": int(row[5]), "iscrowd": 0}
            | {"bbox": _xywh(row[1:5]), "area": float(np.prod(row[3:5] - row[1:3]))}
            for number, row in enumerate(truth, start=1)
        ]
        results = [
            {"image_id": int(row[0]), "category_id": int(row[6]), "score": float(row[5])}
            | {"bbox": _xywh(row[1:5])}
            for row in found
        ]
        images = [{"id": number} for number in range(self.images)]
        classes = [{"id": number, "name": str(number)} for number in range(self.num_classes)]
        whole = coco.COCO({"images": images, "annotations": annotations, "categories": classes})
        evaluation = coco.COCOeval_faster(whole, whole.loadRes(results), "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # objects of any size
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"], dtype=np.float64)[..., 0, 0]

    def state(self) -> dict[str, Any]:
        rows = {"found": torch.cat(self.found)} if self.found else {}
        rows |= {"truth": torch.cat(self.truth)} if self.truth else {}
        return {"training": self.training, "images": self.images, **rows}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            for name in ("found", "truth"):
                if name in state:
                    rows = state[name].clone()
                    rows[:, 0] += self.images
                    getattr(self, name).append(rows)
            self.images += state["images"]
            self.training |= state["training"]


def _rows(parts: list[Tensor]) -> NDArray[np.float64]:
    return torch.cat(parts).double().cpu().numpy() if parts else np.empty((0, 7))


def _xywh(box: NDArray[np.float64]) -> list[float]:
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0
