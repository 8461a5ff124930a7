"""Data utils: split series into train/valid/test by time, check a data folder."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import UserError
from .dataset import Series, check_step, find_tables, read_rows, read_series, read_text
from .splits import SPLITS, check_new, sizes, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Cut a CSV file, or each one below a folder, into `folder`/train, then valid, then test.

    `valid` and `test` are shares of the rows of each file, at least one. Nothing is drawn by
    chance, so `seed` changes nothing. Returns the number of rows in each split. Raises UserError,
    before it writes any, if that cannot be done.
    """
    check_new(folder, valid, test)
    files = find_tables(source) if source.is_dir() else [source]
    parts: dict[Path, list[list[str]]] = {}
    counts = dict.fromkeys(SPLITS, 0)
    for file in files:
        read_series(file, missing="interpolate")  # refuses what is no series
        header, _, rows = read_rows(*read_text(file))
        start, name = 0, file.relative_to(source) if source.is_dir() else Path(file.name)
        for split, count in sizes(len(rows), valid, test, f"{file}: rows").items():
            parts[Path(split) / name] = [header, *rows[start : start + count]]
            counts[split] += count
            start += count
    for path, rows in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / path, "w", encoding="utf-8", newline="") as target:
            csv.writer(target, lineterminator="\n").writerows(rows)
    return counts


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every file: a table of rows per split and file, and a list of problems.

    Problems are what `read_series` refuses, files with other columns than the first one to train
    on, and files whose time begins before the same file of the split before has ended.
    """
    counts = {split: Counter[str]() for split in SPLITS}
    problems, first, before = list[str](), None, dict[Path, Series]()
    for split in SPLITS:
        try:
            files = find_tables(folder / split)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in files:
            name = path.relative_to(folder / split)
            try:
                series = read_series(path)
                first = first or series
                check_step(series, first.step)
                if {*series.columns} != {*first.columns}:
                    problems.append(f"{path}: has other columns than {first.name}")
                if name in before and _begins_within(series, before[name]):
                    problems.append(f"{path}: begins before {before[name].name} ends; cut it there")
            except UserError as error:
                problems.append(str(error))
            else:
                before[name] = series
                counts[split][name.as_posix()] = len(series.times)
    if not first:
        raise UserError("\n".join(problems))
    return table(counts), problems


def _begins_within(series: Series, before: Series) -> bool:
    first: Any = series.times[0]
    try:
        return bool(first <= before.times[-1])
    except TypeError:  # only one of them names a time zone
        return True
