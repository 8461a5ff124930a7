"""The task: data, model, loss, metrics, plots and predictions, as the engine uses them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .components import build_loss, build_model
from .config import locate
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import TARGETS, Spectra, find_files, read_file
from .options import Config
from .visualization import plots


class Errors:
    """`r2`, the mean over the targets, and `mae`, over all values."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(5, len(TARGETS), dtype=torch.float64, device=device)

    def update(self, outputs: Tensor, batch: Batch) -> None:
        true, error = batch[1].double(), outputs.detach().double() - batch[1]
        parts = (torch.ones_like(true), true, true**2, error**2, error.abs())
        self.sums += torch.stack([part.sum(dim=0) for part in parts])

    def compute(self) -> dict[str, float]:
        count, total, squares, errors, absolute = self.sums.clamp(min=1e-12)
        spread = (squares - total**2 / count).clamp(min=1e-12)
        return {"r2": float((1 - errors / spread).mean()), "mae": float((absolute / count).mean())}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.sums += state["sums"].to(self.sums.device)


class Task:
    """How much water, fat and protein is in this meat?"""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            rows = Spectra(self.folder / "train").rows
            spectra = self.slopes(rows[:, :100])
            info = {"mean": spectra.mean(dim=0).tolist(), "deviation": spectra.std(dim=0).tolist()}
            info |= {"level": rows[:, 100:].mean(dim=0).tolist()}
            info |= {"spread": rows[:, 100:].std(dim=0).tolist()}
        self.info = info
        self.mean, self.deviation, self.level, self.spread = (
            torch.tensor(info[name], device=device) for name in ("mean", "deviation", "level", "spread")
        )
        self.loss_function = build_loss(config.loss)

    @staticmethod
    def slopes(spectra: Tensor) -> Tensor:
        """Second differences: the level and the slope of a spectrum are of the instrument."""
        return spectra.diff(n=2, dim=1)

    def train_loader(self) -> DataLoader[Batch]:
        return train_loader(Spectra(self.folder / "train"), self.config)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(Spectra(self.folder / split), self.config)

    def build_model(self) -> nn.Module:
        return build_model(self.config.model, inputs=98, outputs=len(TARGETS))

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = model((self.slopes(batch[0]) - self.mean) / self.deviation)
        return outputs * self.spread + self.level

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs / self.spread, batch[1] / self.spread)

    def metrics(self) -> Errors:
        return Errors(self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        plots.spectra(batch[0], folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        pairs = [(predicted.float(), batch[1]) for predicted, batch in outputs]
        predicted, true = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        plots.agreement(true, predicted, TARGETS, folder / "agreement.png")
        return [folder / "agreement.png"]

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        for name in inputs:
            for file in find_files(locate(name)):
                for line, row in enumerate(read_file(file), 2):
                    values = self.forward(model, (row[None, :100].to(self.device),))[0].tolist()
                    answer = dict(zip(TARGETS, values, strict=True))
                    yield {"file": str(file), "line": line, **answer}

    def sentence(self, prediction: dict[str, Any]) -> str:
        values = ", ".join(f"{name} {prediction[name]:.1f} %" for name in TARGETS)
        return f"{prediction['file']}, line {prediction['line']}: {values}"
