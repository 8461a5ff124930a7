"""How images that a table lists are read, by the owner's function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import read_image

COLUMNS = ("file",)  # that may name a sample


def item(file: Any) -> Any:
    """What a row says of a sample."""
    return file


def target(values: Tensor) -> Tensor:
    """A target (C,) in the form of which the loader makes batches."""
    return values


class Reader:
    """Reads an image by its number; `data.cache` keeps it in memory, which workers share."""

    def __init__(self, task: Any, files: Sequence[Path]) -> None:
        self.files, self.size, self.channels = files, task.data.image_size, task.data.channels
        self.cached = torch.zeros(len(files), dtype=torch.bool).share_memory_()
        shape = len(files) if task.data.cache else 0, self.channels, self.size, self.size
        self.cache = torch.empty(shape, dtype=torch.uint8).share_memory_()

    def __call__(self, index: int) -> Tensor:
        if self.cached[index]:
            return self.cache[index].float() / 255
        image = read_image(self.files[index], self.size, self.channels)
        if len(self.cache):
            self.cache[index] = (image * 255).round()
            self.cached[index] = True
        return image
