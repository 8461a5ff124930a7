"""Data utils: split folders of sounds into train/valid/test, check a data folder."""

import statistics
from pathlib import Path

from ..config import load, locate
from ..errors import UserError
from ..options import Config
from . import folders
from .dataset import SUFFIXES, find_sounds
from .options import Data
from .wav import need_soundfile, read


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a folder of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class, at least one file. Returns the number of files
    in each split. Raises UserError, before it copies any, if that cannot be done.
    """
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every sound: a table of sounds per split and class, and a list of problems.

    Problems are unreadable and silent files, several sample rates, empty or unknown classes, and
    sounds that are in two splits. Below the table is how many sounds are longer than
    `data.seconds`. `options` are those of configs/train if not given.
    """
    files = list(locate("configs", inside=True).glob("train.*"))
    options = options or (load(Config, files).data if files else Data())
    rates, lengths = dict[int, Path](), list[float]()

    def check(path: Path) -> None:
        samples, rate = read(path)
        rates.setdefault(rate, path)
        lengths.append(len(samples) / rate)
        if samples.max() - samples.min() < 1e-3:
            raise UserError(f"{path}: is silent; record it again or remove it")

    need_soundfile(find_sounds(folder))
    table, problems = folders.check(folder, SUFFIXES, check)
    if len(rates) > 1:
        found = ", ".join(f"{rate} in {path}" for rate, path in sorted(rates.items()))
        ways = "convert them, or set data.resample=true"
        problems.append(f"{folder}: sounds of several sample rates: {found}; {ways}")
    longer = [length for length in lengths if length > options.seconds]
    if longer:
        median = statistics.median(longer)
        table += f"\n{len(longer)} of {len(lengths)} sounds are longer than data.seconds="
        table += f"{options.seconds:g} (median {median:.1f} s), so training uses a part of each; "
        table += f"set data.seconds={median:.1f} to use more"
    return table, problems
