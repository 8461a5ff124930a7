"""Rows of CSV files: `<folder>/*.csv`."""

from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .columns import Columns
from .tables import read_folder


class TableFolder(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """One split, in memory: a row's numbers (2, A), categories (B,) and target.

    Raises UserError if there are no rows, or one can't be read.
    """

    def __init__(self, folder: Path, columns: Columns, delimiter: str | None = None) -> None:
        rows = read_folder(folder, delimiter)
        self.numbers, self.categories, self.targets = columns.tensors(rows)
        if not len(self.targets):
            raise UserError(f"{folder}: holds no rows")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.numbers[index], self.categories[index], self.targets[index]
