"""Spectra of meat in a CSV file: 100 absorbances, then water, fat and protein in percent."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError

TARGETS = ["water", "fat", "protein"]
Sample = tuple[Tensor, Tensor]


def find_files(path: Path) -> list[Path]:
    """The CSV files of a folder, sorted, or the one file itself."""
    files = sorted(path.glob("[!.]*.csv")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no .csv files")
    return files


def read_file(path: Path) -> Tensor:
    """A table without its header, float32 (rows, 103)."""
    try:
        values = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table of numbers ({error}); fix or remove it") from error
    if values.shape[1] != 103 or not np.isfinite(values).all():
        raise UserError(f"{path}: should have 103 columns of finite numbers; fix or remove it")
    return torch.from_numpy(values)


class Spectra(Dataset[Sample]):
    """One split, in memory: spectra, float32 (100,), and the three targets, float32 (3,)."""

    def __init__(self, folder: Path) -> None:
        self.rows = torch.cat([read_file(file) for file in find_files(folder)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.rows[index, :100], self.rows[index, 100:]
