"""What the engine asks of `task.py`, the one seam between the loop and your data.

It changes only in a release that says so. A batch is a tuple whose first item counts samples
by its length; the engine moves its tensors to the device and looks no further into it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import DataLoader

Batch = tuple[Any, ...]


class Metrics(Protocol):
    """Figures of one pass over a split, by the names that `checkpoint.monitor` can ask for."""

    def update(self, outputs: Any, batch: Batch) -> None: ...  # without waiting for the device
    def compute(self) -> dict[str, float]: ...  # the figures so far; NaN or 0 before the first
    # What was taken in so far, tensors and plain values; and to take in what others gave so.
    def state(self) -> dict[str, Any]: ...
    def merge(self, states: list[dict[str, Any]]) -> None: ...


class Task(Protocol):
    """Built as `Task(config, device)`, or from a checkpoint as `Task(config, device, info)`."""

    info: dict[str, Any]  # plain values that a checkpoint needs, to be used without the data

    # Batches: `sampler.epoch` is set before each epoch; `valid` and `test` come in a fixed order.
    # Resuming and several processes need the samplers of `engine/sampler.py`.
    def train_loader(self) -> DataLoader[Any]: ...
    def eval_loader(self, split: str) -> DataLoader[Any]: ...
    # From a batch to outputs (logits, say), and on to the scalar to minimize, a mean over samples.
    def build_model(self) -> nn.Module: ...
    def forward(self, model: nn.Module, batch: Batch) -> Any: ...
    def loss(self, outputs: Any, batch: Batch) -> Tensor: ...
    # If there is an attribute `loss_function` that is a module, its parameters are trained, too.
    def metrics(self) -> Metrics: ...
    # Pictures, of a training batch as the model sees it and of a whole split; all on the CPU.
    def draw_batch(self, batch: Batch, folder: Path) -> Path: ...
    def draw_results(self, outputs: Iterable[tuple[Any, Batch]], folder: Path) -> list[Path]: ...
    # For each input of the command `run`: plain values, and the same in words for a person.
    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]: ...
    def sentence(self, prediction: dict[str, Any]) -> str: ...
