"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .boxes import Predictions, detect, match
from .components import build_loss, build_model
from .config import locate
from .data import coco
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import CocoFolder, collate, find_images, fit, read_image, sizes_of
from .data.splits import unpack_sample
from .errors import UserError
from .metrics import AveragePrecision
from .options import Config
from .visualization import plots
from .visualization.plots import Mark

SHOWN = 8  # images in a picture of results


class Task:
    """Object detection: where are objects in an image, and of which classes?"""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            unpack_sample(self.folder)
            info = {"classes": coco.class_names(self.folder / "train")}
        self.info, self.classes = info, info["classes"]
        self.loss_function = build_loss(config.loss)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> CocoFolder:
        unpack_sample(self.folder)
        size, channels = self.data.image_size, self.data.channels
        return CocoFolder(self.folder / split, self.classes, size, channels)

    def train_loader(self) -> DataLoader[Batch]:
        return train_loader(self._dataset("train"), self.config, collate)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._dataset(split), self.config, collate)

    def build_model(self) -> nn.Module:
        given = {"num_classes": len(self.classes), "in_channels": self.data.channels}
        return build_model(self.config.model, **given)

    def forward(self, model: nn.Module, batch: Batch) -> Predictions:
        return model(batch[0])

    def loss(self, outputs: Predictions, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> AveragePrecision:
        return AveragePrecision(len(self.classes), self.data.overlap)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        images, targets = batch
        titles = [self._count(target["labels"].tolist()) for target in targets[:32]]
        boxes = [target["boxes"].tolist() for target in targets[:32]]
        several = len(self.classes) > 1  # a single class is named in the title
        names = [[self.classes[i] * several for i in target["labels"]] for target in targets[:32]]
        plots.batch_boxes(images[:32], boxes, titles, folder / "train.png", names)
        return folder / "train.png"

    def draw_results(
        self, outputs: Iterable[tuple[Predictions, Batch]], folder: Path
    ) -> list[Path]:
        """Draw the images with the most mistakes, and precision-recall curves."""
        metrics = self.metrics()
        shown: list[tuple[int, Tensor, list[Mark]]] = []
        for predictions, batch in outputs:
            metrics.update(predictions, batch)
            found = detect(predictions, sizes_of(batch[1]), self.data.overlap)
            for image, target, *kept in zip(*batch, *found, strict=True):
                mistakes, marks = self._marks(target, *kept)
                width, height = target["size"].int().tolist()
                shown.append((mistakes, image[:, :height, :width], marks))  # without the margin
            shown = sorted(shown, key=lambda item: -item[0])[:SHOWN]
        paths = [folder / "detections.png", folder / "precision_recall.png"]
        plots.results([image for _, image, _ in shown], [marks for *_, marks in shown], paths[0])
        plots.precision_recall(metrics.curves(), paths[1])
        return paths

    def _marks(
        self, target: dict[str, Tensor], boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[int, list[Mark]]:
        """The number of mistakes in an image, and its objects and detections to be drawn."""
        sure = scores >= self.data.score
        boxes, scores, labels = boxes[sure], scores[sure], labels[sure]
        right, seen = match(boxes, labels, target["boxes"], target["labels"])
        marks = [
            Mark(box, plots.TRUTH if was_seen else plots.MISSED)
            for box, was_seen in zip(target["boxes"].tolist(), seen.tolist(), strict=True)
        ]
        for index in range(len(boxes)):
            text = f"{self.classes[labels[index]]} {scores[index]:.2f}"
            colour = plots.RIGHT if right[index] else plots.WRONG
            marks.append(Mark(boxes[index].tolist(), colour, text))
        return int((~seen).sum() + (~right).sum()), marks

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for files, and for all images below folders; draws each one with its boxes.

        `map` continues with the next file after an error.
        """
        files = (
            (path, file) for path in map(locate, inputs) for file in find_images(path) or [path]
        )
        return starmap(partial(self._predict_one, model), files)

    def _predict_one(self, model: nn.Module, path: Path, file: Path) -> dict[str, Any]:
        """Predict for a file, which is the input `path` or below it."""
        if file.is_dir():
            raise UserError(f"{file}: holds no images")
        parts = file.relative_to(path).parts or (file.name,)
        pictures = locate(self.config.run.images, inside=True) / "result"
        stem = os.fsencode(Path("-".join(parts)).stem)[-200:]  # a name has up to 255 bytes
        picture = pictures / f"run-{stem.decode(errors='ignore')}.png"
        image = read_image(file, self.data.channels)
        pixels, size, scale = fit(image, self.data.image_size)
        outputs = model(pixels[None].to(self.device))
        found = detect(outputs, size[None].to(self.device), self.data.overlap)
        objects: list[dict[str, Any]] = []
        marks: list[Mark] = []
        for box, score, label in zip(*(part[0].cpu() for part in found), strict=True):
            if score >= self.data.score:
                corners = (box / scale).tolist()
                left, top, right, bottom = (round(value, 1) for value in corners)
                place = [left, top, round(right - left, 1), round(bottom - top, 1)]
                what = self.classes[label]
                objects.append({"class": what, "score": float(score), "bbox": place})
                marks.append(Mark(corners, plots.RIGHT, f"{what} {score:.0%}"))
        plots.draw_boxes(image, marks, picture)
        best = float(found.scores.max())
        return {"file": str(file), "objects": objects, "best": best, "picture": str(picture)}

    def sentence(self, prediction: dict[str, Any]) -> str:
        labels = [self.classes.index(item["class"]) for item in prediction["objects"]]
        what = self._count(labels)
        if not labels:
            what += f" (best score {prediction['best']:.1%}; data.score is {self.data.score:.1%})"
        lines = [f"{prediction['file']}: {what}, drawn in {prediction['picture']}"]
        for item in prediction["objects"]:
            left, top, width, height = (f"{value:.0f}" for value in item["bbox"])
            place = f"{width} x {height} at {left}, {top}"
            lines.append(f"  {item['class']} ({item['score']:.1%}), {place}")
        return "\n".join(lines)

    def _count(self, labels: list[int]) -> str:
        counts = {name: labels.count(index) for index, name in enumerate(self.classes)}
        return ", ".join(f"{n} x {name}" for name, n in counts.items() if n) or "nothing"
