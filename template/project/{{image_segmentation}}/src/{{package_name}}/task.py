"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .components import build_loss, build_model
from .config import locate
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import (
    SUFFIXES,
    MaskFolder,
    collate,
    filled,
    find_files,
    read_classes,
    read_image,
)
from .data.splits import unpack_sample
from .errors import UserError
from .metrics import Overlap
from .options import Config
from .visualization import plots
from .visualization.charts import write

BAND = 2**20  # pixels of a mask whose logits are in memory at once
LARGEST_OVERLAY = 4096  # pixels of its longer side; the mask has the size of the image
SHOWN = 15  # images in a picture, each twice: with the legend, four rows


class Task:
    """Semantic segmentation: which class does each pixel belong to?"""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            unpack_sample(self.folder)
            info = {"classes": read_classes(self.folder)}
        self.info, self.classes = info, info["classes"]
        self.loss_function = build_loss(config.loss)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> MaskFolder:
        unpack_sample(self.folder)
        channels, largest = self.data.channels, self.data.max_size
        return MaskFolder(self.folder / split, len(self.classes), channels, largest)

    def train_loader(self) -> DataLoader[Batch]:
        return train_loader(self._dataset("train"), self.config, collate)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._dataset(split), self.config, collate)

    def build_model(self) -> nn.Module:
        given = {"num_classes": len(self.classes), "in_channels": self.data.channels}
        return build_model(self.config.model, **given)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch[0])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> Overlap:
        return Overlap(len(self.classes), self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        """Draw each image twice: alone, and with its mask."""
        shown = list[tuple[Tensor, Tensor | None]]()
        for image, mask in zip(batch[0][:SHOWN], batch[1][:SHOWN], strict=True):
            rows, columns = filled(image, mask)
            part = image[:, rows, columns]
            shown += [(part, None), (part, mask[rows, columns])]
        titles = ["image", "with its mask"] * (len(shown) // 2)
        plots.masks(shown, titles, folder / "train.png", self.classes)
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw the worst images with truth and prediction, a confusion matrix, class scores."""
        whole, place = Overlap(len(self.classes), "cpu"), 0
        worst: list[tuple[float, int, Tensor, Tensor, Tensor]] = []
        for logits, (images, targets) in outputs:
            predictions = logits.argmax(dim=1)
            whole.add(predictions, targets)
            for image, target, prediction in zip(images, targets, predictions, strict=True):
                one, place = Overlap(len(self.classes), "cpu"), place + 1
                one.add(prediction, target)
                rows, columns = filled(image, target)
                parts = image[:, rows, columns], target[rows, columns], prediction[rows, columns]
                worst.append((one.compute()["miou"], place, *parts))
            worst = sorted(worst, key=lambda item: item[0])[:SHOWN]
        names = ("worst.png", "confusion.png", "classes.png")
        paths = [folder / name for name in names]
        shown, titles = list[tuple[Tensor, Tensor]](), list[str]()
        for miou, number, image, target, prediction in worst:
            shown += [(image, target), (image, prediction)]
            titles += [f"no. {number}: truth", f"predicted, mIoU {miou:.2f}"]
        plots.masks(shown, titles, paths[0], self.classes)
        plots.confusion_matrix(whole.matrix.numpy(), self.classes, paths[1])
        scores = {name: whole.per_class()[name] for name in ("iou", "dice")}
        plots.class_scores(self.classes, scores, paths[2])
        return paths

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for files, and all images below folders; saves masks in the folder of results.

        `map` continues with the next file after an error.
        """
        files = (find_files(path, SUFFIXES) or [path] for path in map(locate, inputs))
        predict = partial(self._predict, model, Counter[str]())
        return map(predict, chain.from_iterable(files))

    def _predict(self, model: nn.Module, used: Counter[str], file: Path) -> dict[str, Any]:
        if file.is_dir():
            raise UserError(f"{file}: holds no images")
        image, size = read_image(file, self.data.channels, self.data.max_size)
        mask = _enlarged(model(image[None].to(self.device)).float(), size)
        counts = torch.bincount(mask.flatten(), minlength=len(self.classes))
        shares = dict(zip(self.classes, (counts / mask.numel()).tolist(), strict=True))
        stem = os.fsencode(file.stem)[:200].decode(errors="ignore")  # a name has up to 255 bytes
        used[stem] += 1  # files of several folders may have one name
        stem = stem if used[stem] == 1 else f"{stem}-{used[stem]}"
        folder = locate(self.config.run.images, inside=True) / "result"
        paths = {key: folder / f"{stem}-{key}.png" for key in ("mask", "overlay")}
        plots.save_mask(mask, len(self.classes), paths["mask"])
        if image.shape[1:] != size:
            share = min(1.0, LARGEST_OVERLAY / max(size))
            shape = [max(1, round(side * share)) for side in size]
            image = F.interpolate(image[None], shape, mode="bilinear", antialias=True)[0]
        side = min(LARGEST_OVERLAY, max(512, *size))
        write(paths["overlay"], plots.overlay(image, mask, side).save)
        return {"file": str(file), "shares": shares, **{key: str(p) for key, p in paths.items()}}

    def sentence(self, prediction: dict[str, Any]) -> str:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in prediction["shares"].items())
        return f"{prediction['file']}: {shares}; {prediction['mask']}, {prediction['overlay']}"


def _enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge logits (1, C, h, w) band by band; returns the class of each pixel, uint8 of `size`.

    Bilinear: first along the height, then along the width, which gives the same as both at once.
    """
    height, width = size
    tall = F.interpolate(logits, (height, logits.shape[-1]), mode="bilinear")
    masks = list[Tensor]()
    for band in tall.split(max(1, BAND // width), dim=-2):
        wide = F.interpolate(band, (band.shape[-2], width), mode="bilinear")
        masks.append(wide[0].argmax(dim=0).byte().cpu())
    return torch.cat(masks)
