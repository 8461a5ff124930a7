"""What `labels.py` and `numbers.py` share: your task, with targets from a table."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import task
from ..config import locate
from ..errors import UserError
from ..options import Config
from . import inputs as kind
from .table import Table, read, refuse


class Samples(Dataset[tuple[Tensor, Any]]):
    """One split: inputs as the kind of data reads them, and float32 targets (C,)."""

    def __init__(self, owner: Any, items: Sequence[Any], targets: Tensor) -> None:
        self.samples = [(item,) for item in items]  # for `fingerprint` of engine/state.py
        self.read, self.targets = kind.Reader(owner, items), targets.float()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.read(index), kind.target(self.targets[index])


class Labelled(task.Task):
    """Your task, with the labels or numbers of a table in place of a class."""

    numbers: bool
    proof: tuple[float, float]  # outputs where the target is 1: the first should have less loss
    advice: str
    fit: Any  # (table, names) -> what to keep of the training data, in `info`
    pool: Any  # (outputs (N, W, C), bool (N, W)) -> outputs (N, C), from those of W windows
    titles: Any  # targets (N, C) -> a short text for each
    describe: Any  # outputs (C,) -> the values of a prediction
    words: Any  # a prediction -> the part of its sentence after the file

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        if config.data.sampling == "balanced":
            raise UserError(f"data.sampling: balanced is for one class per sample; {self.advice}")
        if info is None:
            folder = locate(config.data.folder, inside=True)
            train = self.table(folder / "train")
            info = self.fit(train, train.names([]))
            if hasattr(kind, "fit"):
                files = train.rows[0].file is not None
                info |= kind.fit(config, [str(row.item) for row in train.rows], files)
        named = {"classes": info.get("target")} | info  # your task needs the names of its outputs
        super().__init__(self.weighted(config, info), device, named)
        self.config, self.info = config, info
        better, worse = (torch.full((2, len(self.classes)), x, device=device) for x in self.proof)
        ones = torch.ones_like(better)
        try:
            fits = bool(self.loss_function(better, ones) < self.loss_function(worse, ones))
        except UserError:
            raise
        except Exception:  # losses raise many types
            fits = False
        if not fits:
            raise UserError(f"loss.name: {config.loss.name} does not fit the task; {self.advice}")

    def weighted(self, config: Config, info: dict[str, Any]) -> Config:
        """The config, with the weights of the loss that follow from the data."""
        return config

    def encode(self, values: Tensor) -> Tensor:
        """Targets (N, C) for the loss."""
        return values

    def table(self, folder: Path, names: Sequence[str] = ()) -> Table:
        """The table in a folder, with the labels `names` or those of its own; or UserError."""
        problems = list[str]()
        found = read(folder, self.numbers, problems)
        found.check(names or found.names(problems), problems)
        refuse(problems)
        return found

    def _counts(self) -> list[int]:
        raise UserError(f"loss.args: balanced is for one class per sample; {self.advice}")

    def _dataset(self, split: str) -> Any:
        found = self.table(self.folder / split, self.classes)
        targets = self.encode(found.matrix(self.classes))
        return Samples(self, [row.item for row in found.rows], targets)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        if len(batch) == 2:
            return super().forward(model, batch)
        windows, _, present = batch  # of long sounds
        outputs = model(windows.flatten(0, 1)).float()
        return self.pool(outputs.view(*present.shape, -1), present)

    def draw_batch(self, batch: Any, folder: Path) -> Path:
        own = copy.copy(self)  # your task draws names of classes: here, each sample has its own
        own.classes = self.titles(batch[1].cpu())
        return super(Labelled, own).draw_batch((batch[0], torch.arange(len(batch[1]))), folder)

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Read inputs as your task does, and describe what the model returned for each."""
        seen = list[Tensor]()

        def call(*tensors: Tensor) -> Tensor:
            seen.append(model(*tensors))
            return seen[-1]

        def found(prediction: dict[str, Any]) -> dict[str, Any]:
            outputs = seen.pop().float().cpu()
            every = torch.ones(1, len(outputs), dtype=torch.bool)
            own = self.describe(self.pool(outputs[None], every)[0])
            left = {k: v for k, v in prediction.items() if k not in ("prediction", "probabilities")}
            return {**left, **own}

        return map(found, super().predict(call, inputs))  # type: ignore[arg-type]

    def sentence(self, prediction: dict[str, Any]) -> str:
        where, text = str(prediction["file"]), prediction.get("text", "")
        where += f":{prediction['line']}" if "line" in prediction else ""
        short = text if len(text) <= 60 else f"{text[:59].rstrip()}…"
        return f"{where}: {self.words(prediction)}" + (f": {short}" if short else "")
