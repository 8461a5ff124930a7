"""All that the engine knows of your data and models; `engine/contract.py` explains the methods."""

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
from .data.dataset import SUFFIXES, ClassFolder, read_image
from .data.folders import find_classes, find_files, find_samples
from .data.splits import unpack_sample
from .engine.metrics import Confusion
from .errors import UserError
from .options import Config
from .visualization import plots


class Task:
    """Image classification: which class does an image show?"""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            unpack_sample(self.folder)
            info = {"classes": find_classes(self.folder / "train")}
        self.info, self.classes = info, info["classes"]
        self.loss_function = build_loss(config.loss, self._counts)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> ClassFolder:
        unpack_sample(self.folder)
        size, channels = self.data.image_size, self.data.channels
        return ClassFolder(self.folder / split, self.classes, size, channels, self.data.cache)

    def _targets(self) -> list[int]:
        return [target for _, target in find_samples(self.folder / "train", self.classes, SUFFIXES)]

    def _counts(self) -> list[int]:
        """The training images of each class; kept in `info`, so that a checkpoint needs no data."""
        if "counts" not in self.info:
            self.info["counts"] = torch.tensor(self._targets()).bincount().tolist()
        return self.info["counts"]

    def train_loader(self) -> DataLoader[Batch]:
        classes = self._targets() if self.data.sampling == "balanced" else []
        return train_loader(self._dataset("train"), self.config, classes=classes)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._dataset(split), self.config)

    def build_model(self) -> nn.Module:
        given = {"num_classes": len(self.classes), "in_channels": self.data.channels}
        return build_model(self.config.model, **given)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch[0])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> Confusion:
        return Confusion(len(self.classes), self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        images, targets = batch
        titles = [self.classes[target] for target in targets[:64]]
        plots.batch_grid(images[:64], titles, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw the confusion matrix, and the mistakes with the highest confidence."""
        confusion = Confusion(len(self.classes), "cpu")
        mistakes: list[tuple[Tensor, str, str, float]] = []
        for logits, (images, targets) in outputs:
            confusion.update(logits, (images, targets))
            confidences, predictions = logits.softmax(dim=1).max(dim=1)
            for i in (predictions != targets).nonzero().flatten().tolist():
                names = self.classes[targets[i]], self.classes[predictions[i]]
                mistakes.append((images[i], *names, float(confidences[i])))
            mistakes = sorted(mistakes, key=lambda mistake: -mistake[3])[:32]
        paths = [folder / "confusion.png", folder / "mistakes.png"]
        plots.confusion_matrix(confusion.matrix.numpy(), self.classes, paths[0])
        plots.worst_mistakes(mistakes, paths[1])
        return paths

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for files, and for all images below folders; `map` continues after an error."""
        files = (find_files(path, SUFFIXES) or [path] for path in map(locate, inputs))
        return map(partial(self._predict, model), chain.from_iterable(files))

    def _predict(self, model: nn.Module, file: Path) -> dict[str, Any]:
        if file.is_dir():
            raise UserError(f"{file}: holds no images")
        image = read_image(file, self.data.image_size, self.data.channels).to(self.device)
        shares = model(image[None])[0].softmax(dim=0).tolist()
        probabilities = dict(zip(self.classes, shares, strict=True))
        best = max(probabilities, key=probabilities.__getitem__)
        return {"file": str(file), "prediction": best, "probabilities": probabilities}

    def sentence(self, prediction: dict[str, Any]) -> str:
        best = prediction["prediction"]
        return f"{prediction['file']}: {best} ({prediction['probabilities'][best]:.1%})"
