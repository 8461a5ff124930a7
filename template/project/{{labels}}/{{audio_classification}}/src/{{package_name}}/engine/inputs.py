"""How sounds that a table lists are read, by the owner's function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.dataset import read_sound

COLUMNS = ("file",)  # that may name a sample


def item(file: Any) -> Any:
    """What a row says of a sample."""
    return file


def target(values: Tensor) -> list[float]:
    """A target (C,) in the form of which the loader makes batches."""
    return values.tolist()


class Reader:
    """Reads a sound by its number."""

    def __init__(self, task: Any, files: Sequence[Path]) -> None:
        self.files, self.options = files, (task.data.sample_rate, task.data.resample)

    def __call__(self, index: int) -> Tensor:
        return read_sound(self.files[index], *self.options)
