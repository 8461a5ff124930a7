"""Reads points in the plane and their classes from CSV files, one line per sample."""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError

MAX_ROWS = 1_000_000  # of a file: as tensors, they take 1 GB of memory

Sample = tuple[Tensor, ...]


def read_sample(line: str, columns: list[str]) -> Sample:
    """Return a point, float32 (2,), and its class 0 or 1, int64 (); new points have no class.

    Yours: read one of your samples here, and return a tuple of tensors: the inputs of the model
    first, the target last. Raise a ValueError that says what is wrong with a bad sample.
    """
    fields = line.split(",")
    if len(fields) != len(columns):
        raise ValueError(f"should be {','.join(columns)}, has {len(fields)} fields")
    point = torch.tensor([float(field) for field in fields[:2]])
    if not point.isfinite().all():
        raise ValueError("x and y should be finite")
    if len(fields) == 2:
        return (point,)
    if fields[2].strip() not in ("0", "1"):
        raise ValueError(f"the class should be 0 or 1, got {fields[2].strip()!r}")
    return point, torch.tensor(int(fields[2]))


def find_files(path: Path) -> list[Path]:
    """The CSV files below a folder, sorted, or the one file itself; UserError if there are none.

    Yours: find the files that hold samples.
    """
    if not path.is_dir():
        return [path]
    found = (file for file in path.rglob("*") if file.suffix.lower() == ".csv")
    files = sorted(file for file in found if "/." not in f"/{file.relative_to(path).as_posix()}")
    if not files:
        raise UserError(f"{path}: holds no .csv files; data/README.md shows what belongs there")
    return files


def read_file(
    path: Path, new: bool = False, problems: list[str] | None = None
) -> dict[int, Sample]:
    """Read samples, by line number; `-` is standard input. A UserError lists all bad lines.

    Args:
        new: the column of classes may be missing.
        problems: if given, receives the messages of bad lines instead.

    Yours: read your kind of file. If each holds one sample, `read_sample(path)` is all you need.
    """
    try:
        text = sys.stdin.read() if path == Path("-") else path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise UserError(f"{path}: not read ({reason}); fix or remove it") from error
    header, *lines = text.splitlines() or [""]
    columns = header.replace(" ", "").split(",")
    if columns != ["x", "y", "class"] and not (new and columns == ["x", "y"]):
        raise UserError(f"{path}, line 1: should be x,y,class; found {header[:40]!r}")
    if len(lines) > MAX_ROWS:
        most = f"MAX_ROWS in data/dataset.py, {MAX_ROWS:,}"
        raise UserError(f"{path}: has more lines than {most}; make it several files, or raise that")
    samples, bad = dict[int, Sample](), list[str]()
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                samples[number] = read_sample(line, columns)
            except ValueError as error:
                bad.append(f"{path}, line {number}: {error}; fix or remove it")
    if not samples and not bad:
        raise UserError(f"{path}: holds no points; put some in or remove it")
    if bad and problems is None:
        raise UserError("\n".join(bad[:20]))
    if problems is not None:
        problems += bad
    return samples


class Points(Dataset[Sample]):
    """One split: all points of its files, in memory. UserError if one cannot be read.

    Yours: if your data don't fit in memory, list samples here, and read them in `__getitem__`.
    """

    def __init__(self, folder: Path) -> None:
        files = find_files(folder)
        self.samples = [sample for file in files for sample in read_file(file).values()]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]
