"""Data utils: check a data folder. The data set has its splits."""

from collections import Counter
from pathlib import Path

from ..errors import UserError
from .dataset import find_files, read_sample
from .splits import SPLITS, table


def split_folder(source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> dict[str, int]:
    """Refuses: the data set comes with splits."""
    raise UserError(f"{source}: comes with splits")


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """A table of utterances per split and speaker, and a list of problems."""
    counts, problems = {split: Counter[str]() for split in SPLITS}, list[str]()
    for split in SPLITS:
        try:
            for file in find_files(folder / split):
                counts[split][f"speaker {int(read_sample(file)[1])}"] += 1
        except UserError as error:
            problems.append(str(error))
    return table(counts, "utterances"), problems
