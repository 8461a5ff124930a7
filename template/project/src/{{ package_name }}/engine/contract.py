"""What the engine asks of `task.py`, the one seam between the loop and your data.

It changes only in a release that says so. A batch is a tuple of tensors whose first dimension
counts samples; the engine moves it to the device and looks no further into it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import DataLoader

Batch = tuple[Any, ...]


class Metrics(Protocol):
    """Figures of one pass over a split, by the names that `checkpoint.monitor` can ask for."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in a batch, without waiting for the device."""

    def compute(self) -> dict[str, float]:
        """The figures so far."""


class Task(Protocol):
    """Built as `Task(config, device)`, or from a checkpoint as `Task(config, device, info)`."""

    info: dict[str, Any]  # plain values that a checkpoint must hold to be used without the data

    def train_loader(self) -> DataLoader[Any]:
        """The training batches; `sampler.epoch` is set before each epoch."""

    def eval_loader(self, split: str) -> DataLoader[Any]:
        """The batches of `valid` or `test`, in a fixed order."""

    def build_model(self) -> nn.Module:
        """A new model."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """The model's outputs for a batch (logits, say)."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The scalar to minimize, a mean over the batch."""

    def metrics(self) -> Metrics:
        """New, empty metrics."""

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        """Draw a training batch as the model sees it; returns the picture's path."""

    def draw_results(self, outputs: Iterable[tuple[Any, Batch]], folder: Path) -> list[Path]:
        """Draw what became of a whole split, given on the CPU; returns the pictures' paths."""

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Plain values for each input of the command `run`."""

    def sentence(self, prediction: dict[str, Any]) -> str:
        """A prediction for a person."""
