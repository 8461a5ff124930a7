"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .components import build_loss, build_model
from .config import locate
from .data.columns import Columns, fit
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import TableFolder
from .data.splits import unpack_sample
from .data.tables import Row, find_tables, read_folder, read_rows
from .engine.device import to_device
from .engine.distributed import log
from .engine.metrics import Confusion
from .errors import UserError
from .metrics import Errors, Ranking
from .options import Config
from .visualization import plots

ROWS = 2000  # the maximum for measuring the importance of columns
BEST = {"loss": "min", "mae": "min", "rmse": "min", "r2": "max", "acc": "max", "auroc": "max"}


class Task:
    """The task: predict the target of a row, or several of them."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        new = info is None
        if info is None:
            unpack_sample(self.folder)
            info = fit(read_folder(self.folder / "train", self.data.delimiter), self.data)
        self.info, self.columns = info, Columns(info)
        self.classes = self.columns.classes  # none for a regression
        several = self.columns.several
        self.shape = (len(self.columns.targets),) if several else ()  # of a row's targets
        self.loss_function = build_loss(config.loss, self._counts if self.classes else None)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)
        self._check_task(new)
        for line in self.columns.found() if new else ():
            log(line)

    def _check_task(self, new: bool) -> None:
        """UserError, with the overrides that fix it, if options are those of the other task."""
        task, loss, monitor = "regression", "HuberLoss", "rmse"
        if self.classes:
            task, loss, monitor = "classification", "CrossEntropyLoss", "auroc"
        wrong, rule = dict[str, str](), self.config.checkpoint
        if not self._loss_fits():
            wrong[f"loss.name={self.config.loss.name}"] = f"loss.name={loss}"
        if rule.monitor in BEST and rule.monitor not in {"loss", *self.metrics().compute()}:
            wrong[f"checkpoint.monitor={rule.monitor}"] = f"checkpoint.monitor={monitor}"
        else:
            monitor = rule.monitor
        if BEST.get(monitor, rule.mode) != rule.mode:
            wrong[f"checkpoint.mode={rule.mode}"] = f"checkpoint.mode={BEST[monitor]}"
        if wrong and (new or "loss" in next(iter(wrong))):
            found, right = ", ".join(wrong), " ".join(wrong.values())
            raise UserError(f"data.task={task} does not go with {found}; set {right}")

    def _loss_fits(self) -> bool:
        """Whether the loss takes outputs and targets of this task."""
        count, shape = len(self.classes), (2, *self.shape)
        outputs = torch.zeros((2, count) if count else shape, device=self.device)
        kind = torch.int64 if count else torch.float32
        targets = torch.ones(shape, dtype=kind, device=self.device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # for shapes that broadcast
                fits = not self.loss_function(outputs, targets).shape
        except (RuntimeError, ValueError, TypeError, IndexError, Warning):
            return False
        return fits and (count > 0 or not isinstance(self.loss_function, nn.CrossEntropyLoss))

    def _dataset(self, split: str) -> TableFolder:
        unpack_sample(self.folder)
        return TableFolder(self.folder / split, self.columns, self.data.delimiter)

    def _counts(self) -> list[int]:
        """The training rows of each class; kept in `info`, so that a checkpoint needs no data."""
        if "counts" not in self.info:
            self.info["counts"] = self._dataset("train").targets.bincount().tolist()
        return self.info["counts"]

    def train_loader(self) -> DataLoader[Batch]:
        dataset, balanced = self._dataset("train"), self.data.sampling == "balanced"
        if balanced and not self.classes:
            advice = "set it to shuffle, or data.task=classification"
            raise UserError(f"data.sampling: a regression has no classes to balance; {advice}")
        classes = dataset.targets.tolist() if balanced else []
        return train_loader(dataset, self.config, classes=classes)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._dataset(split), self.config)

    def build_model(self) -> nn.Module:
        return build_model(
            self.config.model,
            num_numbers=len(self.columns.numbers),
            category_sizes=self.columns.sizes,
            num_outputs=len(self.classes) or len(self.columns.targets),
        )

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Outputs (N,) or (N, T) of a regression, logits (N, C) of a classification."""
        self.model = model  # for `draw_results`
        outputs = model(batch[0], batch[1])
        return outputs if self.classes or self.shape else outputs[:, 0]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[2])

    def metrics(self) -> Errors | Ranking:
        if self.classes:
            return Ranking(len(self.classes), self.device)
        return Errors(self.columns.decode, self.device, self.shape)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        """Draw the distribution of each column after normalization and augmentation."""
        columns = self.columns.readable(batch[0], batch[1])
        for i, name in enumerate(self.columns.numbers):  # as the model sees them
            columns[name] = np.where(np.isnan(columns[name]), np.nan, batch[0][:, 0, i].numpy())
        if self.classes:
            columns[f"target: {self.columns.target}"] = [self.classes[t] for t in batch[2]]
        else:
            scale = "log of " if self.columns.log else ""
            for name, values in self._by_target(batch[2]).items():
                columns[f"target: {scale}{name}"] = values
        plots.distributions(columns, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw predictions against true targets, and the importance of each column."""
        results, batches = zip(*outputs, strict=True)
        output = torch.cat(results).float()
        batch = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
        if self.classes:
            paths = [folder / "confusion.png", folder / "roc.png"]
            confusion = Confusion(len(self.classes), "cpu")
            confusion.update(output, (output, batch[2]))
            plots.confusion_matrix(confusion.matrix.numpy(), self.classes, paths[0])
            scores = output.softmax(dim=1).numpy()
            plots.roc(scores, batch[2].numpy(), self.classes, paths[1])
        else:
            paths = [folder / "predicted.png", folder / "residuals.png"]
            self._draw_errors(batch, output, paths)
        label = f"rise of the mean error of {self.columns.target}"
        if self.classes or self.shape:
            label = "accuracy lost" if self.classes else "R² lost, mean of the targets"
        plots.importance(self.importance(self.model, batch), label, folder / "importance.png")
        return [*paths, folder / "importance.png"]

    def _draw_errors(self, batch: Batch, output: Tensor, paths: list[Path]) -> None:
        """Draw the predictions of a regression, and its errors by the columns."""
        log, values = self.columns.log, (batch[2], output)
        truth, predicted = (self._by_target(self.columns.decode(part)) for part in values)
        plots.predictions(truth, predicted, log, paths[0])
        what, unit, scales = self.columns.target, "", [1.0]
        if self.shape:  # their units may differ
            what, unit = "value", ", in standard deviations of the target"
            scales = self.columns.deviation
        said = f"predicted - true {what}{', in % of the true one' if log else unit}"
        errors = {
            name: (predicted[name] - truth[name]) / (truth[name] / 100 if log else scale)
            for name, scale in zip(truth, scales, strict=True)
        }
        plots.residuals(self.columns.readable(batch[0], batch[1]), errors, said, paths[1])

    def _by_target(self, values: Tensor) -> dict[str, Any]:
        """The columns of outputs or targets, (N,) or (N, T), by the names of the targets."""
        columns = values.view(len(values), -1).numpy().T
        return dict(zip(self.columns.targets, columns, strict=True))

    @torch.no_grad()
    def importance(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Permutation importance (Breiman, 2001): how much worse it gets with a column shuffled.

        That is the loss of accuracy, the rise of the mean absolute error, or the loss of R² if
        there are several targets, whose units may differ.
        """
        batch = to_device(tuple(part[:ROWS] for part in batch), self.device)
        order = torch.randperm(len(batch[0]), generator=torch.Generator().manual_seed(0))

        def loss(numbers: Tensor, categories: Tensor) -> float:
            metrics, one = self.metrics(), (numbers, categories, batch[2])
            metrics.update(self.forward(model, one), one)
            figures = metrics.compute()
            name = "acc" if self.classes else "r2" if self.shape else "mae"
            return figures[name] if name == "mae" else -figures[name]

        losses: dict[str, float] = {}
        for i, name in enumerate(self.columns.numbers):
            numbers = batch[0].clone()
            numbers[:, :, i] = numbers[order, :, i]
            losses[name] = loss(numbers, batch[1])
        for i, name in enumerate(self.columns.categories):
            categories = batch[1].clone()
            categories[:, i] = categories[order, i]
            losses[name] = loss(batch[0], categories)
        before = loss(batch[0], batch[1])
        return {name: after - before for name, after in losses.items()}

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for the rows of files, of all files below folders, and of standard input (`-`).

        `map` continues with the next file after an error.
        """
        paths = (Path(name) if name == "-" else locate(name) for name in inputs)
        files = (f for path in paths for f in (find_tables(path) if path.is_dir() else [path]))
        return chain.from_iterable(map(partial(self._predict, model), files))

    def _predict(self, model: nn.Module, file: Path) -> Iterator[dict[str, Any]]:
        if file != Path("-") and not file.exists():
            raise UserError(f"{file}: no such file")
        rows = read_rows(file, self.data.delimiter)
        empty = True
        while part := list(islice(rows, self.data.batch_size)):
            empty = False
            numbers, categories, _ = self.columns.tensors(part, targets=False)
            batch = to_device((numbers, categories), self.device)
            outputs = self.forward(model, batch)
            yield from map(self._prediction, part, outputs.float().cpu())
        if empty:
            raise UserError(f"{file}: holds no rows")

    def _prediction(self, row: Row, output: Tensor) -> dict[str, Any]:
        cells = {name: row.cells.get(name, "") for name in self.columns.targets}
        truths = {name: cell for name, cell in cells.items() if cell not in self.columns.missing}
        known = {"truth": truths if self.shape else truths[self.columns.target]} if truths else {}
        if not self.classes:
            values: Any = self.columns.decode(output).tolist()
            values = dict(zip(cells, values, strict=True)) if self.shape else values
            return {"row": row.where, "prediction": values, **known}
        shares = dict(zip(self.classes, output.softmax(dim=0).tolist(), strict=True))
        best = max(shares, key=shares.__getitem__)
        return {"row": row.where, "prediction": best, "probabilities": shares, **known}

    def sentence(self, prediction: dict[str, Any]) -> str:
        values, truths = prediction["prediction"], prediction.get("truth", {})
        if not self.shape:
            name = self.columns.target
            values, truths = {name: values}, {name: truths} if truths else {}
        parts = []
        for name, value in values.items():
            shares = prediction.get("probabilities")
            said = f"{value} ({shares[value]:.1%})" if shares else f"{value:,.5g}"
            truth = f", in the file {truths[name]}" if name in truths else ""
            parts.append(f"{name} {said}{truth}")
        return f"{prediction['row']}: {'; '.join(parts)}"
