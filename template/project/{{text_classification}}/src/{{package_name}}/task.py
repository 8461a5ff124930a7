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

from .components import build_loss, build_model, extra
from .config import locate
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import SUFFIXES, TextFolder, collate, read_folder, read_inputs
from .data.folders import find_classes, find_files
from .data.splits import unpack_sample
from .data.vocabulary import Vocabulary
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
    """The task: predict the class of a text."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        self.whole = self.data.text == "file"
        cut = self.data.tokens, self.data.lowercase
        kind: Any = Vocabulary
        if self.data.tokens == "subwords":
            kind = extra("transformers", "data.tokens=subwords: needs").vocabulary()
        if info is None:
            unpack_sample(self.folder)
            classes = find_classes(self.folder / "train")
            if self.data.tokens == "subwords":
                vocabulary = kind.read(config.model.args.get("name"))
            else:
                samples = read_folder(self.folder / "train", classes, self.whole)
                texts = (text for text, _ in samples)
                vocabulary = Vocabulary.fit(texts, *cut, self.data.min_count)
            info = {"classes": classes, "vocabulary": vocabulary.state()}
        self.info, self.classes, known = info, info["classes"], info["vocabulary"]
        lowercase = known.get("lowercase", self.data.lowercase)  # subwords have their own
        if cut != (known["unit"], lowercase):
            raise UserError("data.tokens, data.lowercase: must stay as the model was trained")
        self.vocabulary = kind(**known)
        self.loss_function = build_loss(config.loss, self._counts)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> TextFolder:
        unpack_sample(self.folder)
        folder, longest = self.folder / split, self.data.max_length
        return TextFolder(folder, self.classes, self.vocabulary, longest, self.whole)

    def _counts(self) -> list[int]:
        """The training texts of each class; kept in `info`, so that a checkpoint needs no data."""
        if "counts" not in self.info:
            self.info["counts"] = torch.tensor(self._dataset("train").targets).bincount().tolist()
        return self.info["counts"]

    def train_loader(self) -> DataLoader[Batch]:
        dataset, balanced = self._dataset("train"), self.data.sampling == "balanced"
        return train_loader(dataset, self.config, collate, dataset.targets if balanced else ())

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._dataset(split), self.config, collate)

    def build_model(self) -> nn.Module:
        given: dict[str, Any] = {"num_classes": len(self.classes), "info": self.info}
        given |= {"vocab_size": len(self.vocabulary), "max_length": self.data.max_length}
        return build_model(self.config.model, **given)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch[0])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> Scores:
        return Scores(len(self.classes), self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        pairs = list(zip(*batch, strict=True))[:32]
        rows = [(self.classes[target], self.vocabulary.decode(ids)) for ids, target in pairs]
        plots.text_table(["class", "text"], rows, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw the confusion matrix, and the mistakes with the highest confidence."""
        scores = Scores(len(self.classes), "cpu")
        mistakes: list[tuple[float, str, str, str]] = []
        for logits, (ids, targets) in outputs:
            scores.update(logits, (ids, targets))
            confidences, predictions = logits.softmax(dim=1).max(dim=1)
            for i in (predictions != targets).nonzero().flatten().tolist():
                names = self.classes[targets[i]], self.classes[predictions[i]]
                text = self.vocabulary.decode(ids[i])
                mistakes.append((float(confidences[i]), *names, text))
            mistakes = sorted(mistakes, key=lambda mistake: -mistake[0])[:32]
        paths = [folder / "confusion.png", folder / "mistakes.png"]
        plots.confusion_matrix(scores.matrix.numpy(), self.classes, paths[0])
        rows = [(truth, taken, f"{sure:.0%}", text) for sure, truth, taken, text in mistakes]
        plots.text_table(["true", "predicted", "sure", "text"], rows, paths[1])
        return paths

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for each text of files, of all files below folders, and of standard input (`-`).

        `map` continues with the next file after an error.
        """
        found = ((name, name != "-" and find_files(locate(name), SUFFIXES)) for name in inputs)
        files = (str(file) for name, files in found for file in files or [Path(name)])
        return chain.from_iterable(map(partial(self._predict, model), files))

    def _predict(self, model: nn.Module, name: str) -> Iterator[dict[str, Any]]:
        for file, line, text in read_inputs(name, self.whole):
            ids = self.vocabulary.encode(text, self.data.max_length).to(self.device)
            shares = model(ids[None])[0].softmax(dim=0).tolist()
            probabilities = dict(zip(self.classes, shares, strict=True))
            best = max(probabilities, key=probabilities.__getitem__)
            where = {"file": file, "line": line, "text": text}
            yield {**where, "prediction": best, "probabilities": probabilities}

    def sentence(self, prediction: dict[str, Any]) -> str:
        best, text = prediction["prediction"], prediction["text"]
        short = text if len(text) <= 60 else text[:59].rstrip() + "…"
        where = f"{prediction['file']}:{prediction['line']}"
        return f"{where}: {best} ({prediction['probabilities'][best]:.1%}): {short}"
