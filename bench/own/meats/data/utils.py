"""Data utils: split spectra into train/valid/test, check a data folder."""

from collections import Counter
from pathlib import Path

from ..errors import UserError
from .dataset import find_files, read_file
from .splits import SPLITS, check_new, draw, table


def split_folder(source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> dict[str, int]:
    """Copy the rows of a CSV file or a folder into `folder`/train, valid and test."""
    check_new(folder, valid, test)
    header, lines = "", list[str]()
    for file in find_files(source):
        read_file(file)
        header, *rows = file.read_text("utf-8").splitlines()
        lines += rows
    parts = draw(len(lines), valid, test, seed, f"{source}: spectra")
    for split, indices in parts.items():
        (folder / split).mkdir(parents=True)
        content = "\n".join([header, *(lines[index] for index in indices)])
        (folder / split / "spectra.csv").write_text(content + "\n", "utf-8")
    return {split: len(indices) for split, indices in parts.items()}


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """A table of spectra per split, and a list of problems: unreadable files, leaks."""
    counts, problems = {split: Counter[str]() for split in SPLITS}, list[str]()
    seen = dict[bytes, str]()
    for split in SPLITS:
        try:
            for file in find_files(folder / split):
                for row in read_file(file):
                    counts[split]["spectra"] += 1
                    other = seen.setdefault(row.numpy().tobytes(), split)
                    if other != split:
                        problems.append(f"{file}: a spectrum is in {other}/, too; remove one")
        except UserError as error:
            problems.append(str(error))
    return table(counts), problems
