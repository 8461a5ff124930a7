"""Data utils: split folders of sounds into train/valid/test, check a data folder."""

from pathlib import Path

from ..errors import UserError
from . import folders
from .dataset import SUFFIXES
from .wav import read_wav


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a folder of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class, at least one file. Returns the number of files
    in each split. Raises UserError, before it copies any, if that cannot be done.
    """
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every sound: a table of sounds per split and class, and a list of problems.

    Problems are unreadable and silent files, several sample rates, empty or unknown classes, and
    sounds that are in two splits.
    """
    rates: dict[int, Path] = {}

    def read(path: Path) -> None:
        samples, rate = read_wav(path)
        rates.setdefault(rate, path)
        if samples.max() - samples.min() < 1e-3:
            raise UserError(f"{path}: is silent; record it again or remove it")

    table, problems = folders.check(folder, SUFFIXES, read)
    if len(rates) > 1:
        found = ", ".join(f"{rate} in {path}" for rate, path in sorted(rates.items()))
        ways = "convert them, or set data.resample=true"
        problems.append(f"{folder}: sounds of several sample rates: {found}; {ways}")
    return table, problems
