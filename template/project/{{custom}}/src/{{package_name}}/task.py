"""What this project is about: all that the engine knows of your data, models and pictures.

Read it from top to bottom: after the word "Yours", each docstring says what to put there for your
own data. `docs/data.md` is an example in nine steps; `engine/contract.py` has the types.
"""

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
from .data.dataset import Points, find_files, read_file
from .data.splits import unpack_sample
from .options import Config
from .visualization import plots


class Accuracy:
    """`acc`, the share of correct predictions.

    Yours: the metrics of your field, by name; `checkpoint.monitor` names one. Add up counts and
    sums on the device, not means of batches, to be exact for uneven batches and many processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.right, self.all = torch.zeros((), dtype=torch.int64, device=device), 0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add the outputs of a batch."""
        self.right += (outputs.argmax(dim=1) == batch[1]).sum()
        self.all += len(batch[0])

    def compute(self) -> dict[str, float]:
        """The figures so far; 0 before the first batch."""
        return {"acc": int(self.right) / max(1, self.all)}

    def state(self) -> dict[str, Any]:
        """The counts so far, for `merge` in another process or in a resumed run."""
        return {"right": self.right, "all": self.all}

    def merge(self, states: list[dict[str, Any]]) -> None:
        """Add the counts of other processes."""
        for state in states:
            self.right += state["right"].to(self.right.device)
            self.all += state["all"]


class Task:
    """The task: predict which arm of a spiral a point is on. Yours: your own task."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        """`info` is None for a new run, else that of a checkpoint.

        Yours: put into `info` what is needed to use a model without the data, as plain values
        (class names, a vocabulary, ranges). Compute it from train/ only, never valid/ or test/.
        """
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            points = torch.stack([sample[0] for sample in self._dataset("train").samples])
            deviation = points.std(dim=0, correction=0).clamp(min=1e-6)
            info = {"mean": points.mean(dim=0).tolist(), "deviation": deviation.tolist()}
        self.info = info
        self.mean = torch.tensor(info["mean"], device=device)
        self.deviation = torch.tensor(info["deviation"], device=device)
        self.loss_function = build_loss(config.loss)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _dataset(self, split: str) -> Points:
        """Yours: return your dataset, created with options of `self.data` and `self.info`."""
        unpack_sample(self.folder)
        return Points(self.folder / split)

    def train_loader(self) -> DataLoader[Batch]:
        """Yours: pass `collate=`, a function from samples to a batch, if stacking doesn't work."""
        return train_loader(self._dataset("train"), self.config)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        """Yours: pass the same `collate=`."""
        return eval_loader(self._dataset(split), self.config)

    def build_model(self) -> nn.Module:
        """Yours: pass what models must know of the data; a model gets the arguments it has."""
        return build_model(self.config.model, in_features=2, num_classes=2)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (N, 2). Yours: call the model with the parts of a batch that it needs."""
        points = batch[0]
        if self.data.normalize:
            points = (points - self.mean) / self.deviation
        return model(points)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Yours: return the scalar to minimize, a mean over the samples of the batch."""
        return self.loss_function(outputs, batch[1])

    def metrics(self) -> Accuracy:
        """Yours: return a new object of your metrics."""
        return Accuracy(self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        """Yours: draw a training batch as the model sees it; return the picture's path."""
        points, targets = batch
        plots.scatter(points, targets, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Yours: draw results of a split, from pairs of outputs and batch; return the paths."""
        logits, batches = zip(*outputs, strict=True)
        points, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        probabilities = torch.cat(logits).float().softmax(dim=1)[:, 1]
        plots.scatter(points, targets, folder / "decisions.png", probabilities)
        return [folder / "decisions.png"]

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for each point of files, of folders, and of standard input (`-`).

        Yours: find the files of each input of `run`. `map` continues with the next after an error.
        """
        paths = (Path(name) if name == "-" else locate(name) for name in inputs)
        files = chain.from_iterable(map(find_files, paths))
        return chain.from_iterable(map(partial(self._predict, model), files))

    def _predict(self, model: nn.Module, file: Path) -> Iterator[dict[str, Any]]:
        """Yours: yield plain values for each sample of a file; samples have no target here."""
        for line, (point, *_) in read_file(file, new=True).items():
            logits = self.forward(model, (point[None].to(self.device),))
            shares = logits[0].softmax(dim=0).tolist()
            answer = {"prediction": shares.index(max(shares)), "probabilities": shares}
            yield {"file": str(file), "line": line, "point": point.tolist(), **answer}

    def sentence(self, prediction: dict[str, Any]) -> str:
        """Yours: return one prediction as a readable line."""
        where, (x, y) = f"{prediction['file']}, line {prediction['line']}", prediction["point"]
        share = max(prediction["probabilities"])
        return f"{where}: ({x:.2f}, {y:.2f}) is of class {prediction['prediction']} ({share:.1%})"
