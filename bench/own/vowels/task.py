"""The task: data, model, loss, metrics, plots and predictions, as the engine uses them."""

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
from .data.dataset import Utterances, find_files, read_sample, stack
from .engine.metrics import Confusion
from .options import Config
from .visualization import plots


class Metrics(Confusion):
    """`acc`, and the figures of each speaker; a batch has the mask between inputs and targets."""

    def update(self, logits: Tensor, batch: Batch) -> None:
        super().update(logits, (batch[0], batch[2]))


class Task:
    """Who speaks?"""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        if info is None:
            steps = torch.cat([steps for steps, _ in Utterances(self.folder / "train").samples])
            info = {"mean": steps.mean(dim=0).tolist(), "deviation": steps.std(dim=0).tolist()}
        self.info = info
        self.mean = torch.tensor(info["mean"], device=device)
        self.deviation = torch.tensor(info["deviation"], device=device)
        self.loss_function = build_loss(config.loss)

    def train_loader(self) -> DataLoader[Batch]:
        return train_loader(Utterances(self.folder / "train"), self.config, stack)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(Utterances(self.folder / split), self.config, stack)

    def build_model(self) -> nn.Module:
        return build_model(self.config.model, num_classes=self.data.speakers)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model((batch[0] - self.mean) / self.deviation, batch[1])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, batch[2])

    def metrics(self) -> Metrics:
        return Metrics(self.data.speakers, self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        plots.sequences(batch[0], batch[2], folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        counts = self.metrics()
        for logits, batch in outputs:
            counts.matrix = counts.matrix.cpu()
            counts.update(logits, batch)
        plots.confusion(counts.matrix, folder / "confusion.png")
        return [folder / "confusion.png"]

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        files = chain.from_iterable(find_files(locate(name)) for name in inputs)
        return map(partial(self._predict, model), files)

    def _predict(self, model: nn.Module, file: Path) -> dict[str, Any]:
        steps, real, _ = stack([read_sample(file)])
        logits = self.forward(model, (steps.to(self.device), real.to(self.device)))
        return {"file": str(file), "speaker": int(logits.argmax())}

    def sentence(self, prediction: dict[str, Any]) -> str:
        return f"{prediction['file']}: speaker {prediction['speaker']}"
