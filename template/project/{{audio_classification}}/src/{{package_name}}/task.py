"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .components import build_loss, build_model
from .config import locate
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import (
    SUFFIXES,
    ClassFolder,
    find_sounds,
    read_sound,
    stack,
    stack_windows,
    windows,
)
from .data.folders import find_classes, find_samples
from .data.splits import unpack_sample
from .engine.metrics import Confusion
from .errors import UserError
from .options import Config
from .visualization import plots


class Scores(Confusion):
    """`acc`, the share of correct predictions, and `macro_f1`, the mean of all classes' F1.

    A class that is neither among the targets nor predicted has no F1, and does not count.
    """

    def compute(self) -> dict[str, float]:
        known = [f1 for f1 in self.per_class()["f1"] if not math.isnan(f1)]
        return {**super().compute(), "macro_f1": sum(known) / max(1, len(known))}


class Task:
    """The task: predict the class of a sound."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        self.length = round(config.data.seconds * config.data.sample_rate)
        if info is None:
            unpack_sample(self.folder)
            info = {"classes": find_classes(self.folder / "train")}
        self.info, self.classes = info, info["classes"]
        self.loss_function = build_loss(config.loss, self._counts)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> ClassFolder:
        unpack_sample(self.folder)
        rate, convert = self.data.sample_rate, self.data.resample
        return ClassFolder(self.folder / split, self.classes, rate, convert)

    def _targets(self) -> list[int]:
        return [target for _, target in find_samples(self.folder / "train", self.classes, SUFFIXES)]

    def _counts(self) -> list[int]:
        """The training sounds of each class; kept in `info`, so that a checkpoint needs no data."""
        if "counts" not in self.info:
            self.info["counts"] = torch.tensor(self._targets()).bincount().tolist()
        return self.info["counts"]

    def train_loader(self) -> DataLoader[Batch]:
        collate = partial(stack, length=self.length)
        classes = self._targets() if self.data.sampling == "balanced" else []
        return train_loader(self._dataset("train"), self.config, collate, classes)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        collate = partial(stack_windows, length=self.length)
        return eval_loader(self._dataset(split), self.config, collate)

    def build_model(self) -> nn.Module:
        given: dict[str, Any] = {"num_classes": len(self.classes), "info": self.info}
        given |= {"sample_rate": self.data.sample_rate}
        return build_model(self.config.model, **given)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits; for several windows per sound, the logarithm of their mean probabilities."""
        if batch[0].dim() == 2:
            return model(batch[0])
        sounds, _, present = batch
        logs = model(sounds.flatten(0, 1)).float().log_softmax(dim=1)
        logs = logs.view(*present.shape, -1).masked_fill(~present[..., None], -torch.inf)
        return logs.logsumexp(dim=1) - present.sum(dim=1, keepdim=True).log()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> Scores:
        return Scores(len(self.classes), self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        sounds, targets = batch
        titles = [self.classes[target] for target in targets[:24]]
        plots.batch_grid(sounds[:24], titles, folder / "train.png", self.data.sample_rate)
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw the confusion matrix, and the mistakes with the highest confidence."""
        confusion = Confusion(len(self.classes), "cpu")
        mistakes: list[tuple[Tensor, str, str, float]] = []
        for logits, (sounds, targets, *_) in outputs:
            confusion.update(logits, (sounds, targets))
            confidences, predictions = logits.softmax(dim=1).max(dim=1)
            for i in (predictions != targets).nonzero().flatten().tolist():
                names = self.classes[targets[i]], self.classes[predictions[i]]
                first = sounds[i].view(-1, self.length)[0]  # the first window
                mistakes.append((first, *names, float(confidences[i])))
            mistakes = sorted(mistakes, key=lambda mistake: -mistake[3])[:16]
        paths = [folder / "confusion.png", folder / "mistakes.png"]
        plots.confusion_matrix(confusion.matrix.numpy(), self.classes, paths[0])
        plots.worst_mistakes(mistakes, paths[1], self.data.sample_rate)
        return paths

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for files, and for all sounds below folders; `map` continues after an error."""
        files = (find_sounds(path) or [path] for path in map(locate, inputs))
        return map(partial(self._predict, model), chain.from_iterable(files))

    def _predict(self, model: nn.Module, file: Path) -> dict[str, Any]:
        """Predict for a file; for a long one, average over its windows."""
        if file.is_dir():
            raise UserError(f"{file}: holds no sound files ({', '.join(SUFFIXES)})")
        sound = read_sound(file, self.data.sample_rate, self.data.resample)
        parts = windows(sound, self.length).to(self.device)
        shares = model(parts).float().softmax(dim=1).mean(dim=0).tolist()
        probabilities = dict(zip(self.classes, shares, strict=True))
        best = max(probabilities, key=probabilities.__getitem__)
        return {"file": str(file), "prediction": best, "probabilities": probabilities}

    def sentence(self, prediction: dict[str, Any]) -> str:
        best = prediction["prediction"]
        return f"{prediction['file']}: {best} ({prediction['probabilities'][best]:.1%})"
