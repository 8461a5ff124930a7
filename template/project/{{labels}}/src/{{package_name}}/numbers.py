"""One or several numbers per sample: the task of `run.task: numbers`. See docs/labels.md."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .engine import table
from .engine.labelled import Labelled
from .errors import UserError
from .visualization import charts

check_folder = partial(table.check, numbers=True)
split_folder = partial(table.split, numbers=True)
samples, write = partial(table.samples, numbers=True), table.write  # for folds


class Errors:
    """`mae`, `rmse` and `r2` in the units of the table: for several numbers, their means."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], device: Any) -> None:
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.mean, self.deviation = (
            torch.tensor(values, dtype=wide, device=device) for values in (mean, deviation)
        )
        self.sums = torch.zeros(5, len(mean), dtype=wide, device=device)

    def decode(self, values: Tensor) -> Tensor:
        """Outputs or targets (..., C) in the units of the table."""
        return values.to(self.sums.dtype) * self.deviation + self.mean

    def update(self, outputs: Tensor, batch: Sequence[Tensor]) -> None:
        """Add outputs (N, C) and a batch with targets (N, C), both standardised."""
        truth = batch[1].to(self.sums.dtype)
        error = outputs.detach().to(self.sums.dtype) - truth
        parts = torch.ones_like(error), error.abs(), error.square(), truth, truth.square()
        self.sums += torch.stack([part.sum(dim=0) for part in parts])

    def compute(self) -> dict[str, float]:
        found = self._columns()
        found["r2"] = [r2 for r2 in found["r2"] if r2 == r2] or [math.nan]
        return {name: sum(values) / len(values) for name, values in found.items()}

    def per_target(self) -> dict[str, list[float]]:
        """The figures of each number, if there are several."""
        return self._columns() if self.sums.shape[1] > 1 else {}

    def _columns(self) -> dict[str, list[float]]:
        count, absolute, squares, truths, truths2 = self.sums.cpu().double()
        scale, variation = self.deviation.cpu().double(), truths2 - truths.square() / count
        figures = {"r2": (1 - squares / variation).where(variation > 0, math.nan)}
        figures |= {"mae": scale * absolute / count, "rmse": scale * (squares / count).sqrt()}
        return {name: figure.tolist() for name, figure in figures.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.sums += state["sums"].to(self.sums.device)


class Task(Labelled):
    """One or several numbers per sample: how large are they?"""

    numbers, proof = True, (1.0, 3.0)
    advice = "use MSELoss, HuberLoss or L1Loss"

    def fit(self, train: table.Table, names: Sequence[str]) -> dict[str, Any]:
        values = train.matrix(names)
        mean, deviation = values.mean(0), values.std(0, correction=0)
        if same := [name for name, size in zip(names, deviation, strict=True) if not size > 0]:
            raise UserError(f"{train.path}: {', '.join(same)}: all rows are equal; remove it")
        found = {"mean": mean.tolist(), "deviation": deviation.tolist()}
        return {"target": list(names), **found}

    def encode(self, values: Tensor) -> Tensor:
        """The numbers, standardised by mean and deviation of the training data."""
        errors = Errors(self.info["mean"], self.info["deviation"], "cpu")
        return (values - errors.mean) / errors.deviation

    def pool(self, outputs: Tensor, present: Tensor) -> Tensor:
        """The mean over windows."""
        shares = present / present.sum(dim=1, keepdim=True)
        return (outputs * shares[..., None]).sum(dim=1)

    def metrics(self) -> Any:
        return Errors(self.info["mean"], self.info["deviation"], self.device)

    def _decoded(self, values: Tensor) -> Tensor:
        return Errors(self.info["mean"], self.info["deviation"], "cpu").decode(values)

    def titles(self, targets: Tensor) -> list[str]:
        return [", ".join(f"{x:.4g}" for x in row[:3]) for row in self._decoded(targets).tolist()]

    def describe(self, outputs: Tensor) -> dict[str, Any]:
        numbers = self._decoded(outputs).tolist()
        return {"prediction": dict(zip(self.classes, numbers, strict=True))}

    def words(self, prediction: dict[str, Any]) -> str:
        return ", ".join(f"{name} {x:.6g}" for name, x in prediction["prediction"].items())

    def draw_results(self, outputs: Iterable[tuple[Tensor, Any]], folder: Path) -> list[Path]:
        """Draw predicted against true numbers: a chart for each of the first nine."""
        pairs = [(logits.float(), batch[1]) for logits, batch in outputs]
        found, true = (self._decoded(torch.cat(part)).numpy() for part in zip(*pairs, strict=True))
        draw(self.classes[:9], found, true, folder / "numbers.png")
        return [folder / "numbers.png"]


def draw(names: Sequence[str], found: Any, true: Any, path: Path) -> None:
    """A scatter plot for each column of predicted and true numbers (N, C)."""
    from matplotlib.figure import Figure

    across = min(3, len(names))
    rows = math.ceil(len(names) / across)
    figure = Figure((4.6 * across, 4.6 * rows), layout="constrained", dpi=110)
    for number, name in enumerate(names):
        x, y = true[:, number], found[:, number]
        axes = figure.add_subplot(rows, across, number + 1, xlabel="true", ylabel="predicted")
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, ":", color=charts.GREY)
        axes.plot(x, y, "o", color=charts.BLUE, alpha=min(1.0, 10 / len(x) ** 0.5), markersize=4)
        title = f"{name}: MAE {np.abs(x - y).mean():.4g}"
        axes.set_title(title.replace("$", r"\$"))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    charts.write(path, figure.savefig)
