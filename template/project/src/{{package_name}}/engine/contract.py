"""The interface between the engine and `task.py`; it changes only in a release that says so.

A batch is a tuple or a dict. The length of its first item is the number of samples, unless the
task has `batch_size`. The engine moves its tensors to the device, and reads nothing else from it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import DataLoader

Batch = Any  # a tuple or a dict


class Metrics(Protocol):
    """Metrics of one pass over a split; `checkpoint.monitor` names one of them."""

    # Optional, for tables of `test`: per_class(), per_target() -> dict[str, list[float]], columns.
    def update(self, outputs: Any, batch: Batch) -> None: ...  # should not wait for the device
    def compute(self) -> dict[str, float]: ...  # by name; NaN or 0 before the first batch
    def state(self) -> dict[str, Any]: ...  # the sums so far: tensors and plain values
    def merge(self, states: list[dict[str, Any]]) -> None: ...  # adds states of other processes


class Task(Protocol):
    """Built as `Task(config, device)`, or from a checkpoint as `Task(config, device, info)`."""

    info: dict[str, Any]  # plain values of the training data, saved in each checkpoint

    # The engine sets `sampler.epoch` before each epoch; `valid` and `test` have a fixed order.
    # Resuming within an epoch, and several processes, need samplers as in `engine/sampler.py`.
    def train_loader(self) -> DataLoader[Any]: ...
    def eval_loader(self, split: str) -> DataLoader[Any]: ...
    def build_model(self) -> nn.Module: ...
    def forward(self, model: nn.Module, batch: Batch) -> Any: ...  # the outputs: logits, say
    def loss(self, outputs: Any, batch: Batch) -> Tensor: ...  # a scalar: the mean over samples
    # A module in the attribute `loss_function` is optional; its parameters are trained too.
    def metrics(self) -> Metrics: ...
    # Save pictures of a training batch and of a whole split. All tensors are on the CPU.
    def draw_batch(self, batch: Batch, folder: Path) -> Path: ...
    def draw_results(self, outputs: Iterable[tuple[Any, Batch]], folder: Path) -> list[Path]: ...
    # For each input of `run`: plain values, and a sentence. A `map` continues after a UserError.
    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]: ...
    def sentence(self, prediction: dict[str, Any]) -> str: ...

    # Optional, see docs/api.md: batch_size; with optimizers: build_optimizers, train_step.


def batch_size(task: Task, batch: Batch) -> int:
    """The number of samples of a batch: by the task, or the length of the first item."""
    if own := getattr(task, "batch_size", None):
        return int(own(batch))
    return len(next(iter(batch.values())) if hasattr(batch, "values") else batch[0])
