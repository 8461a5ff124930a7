"""Data utils: split series into train/valid/test by time, check a data folder."""

import csv
from collections import Counter
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import clock
from .dataset import Series, check_step, read_series
from .options import Data
from .splits import SPLITS, check_new, sizes, table
from .tables import find_tables, read_chunks


def split_folder(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Data | None = None,
) -> dict[str, int]:
    """Cut a CSV file, or each one below a folder, into `folder`/train, then valid, then test.

    `valid` and `test` are shares of the rows of each file, at least one. Nothing is drawn by
    chance, so `seed` changes nothing. Returns the number of rows in each split. Raises UserError,
    before it writes any, if that cannot be done.
    """
    check_new(folder, valid, test)
    options = (options or Data()).model_copy(update={"missing": "interpolate"})
    files = find_tables(source) if source.is_dir() else [source]
    parts: dict[Path, dict[str, int]] = {}
    for file in files:
        read_series(file, options)  # refuses what is not a series
        count = sum(len(rows) for _, rows in read_chunks(file)) - 1
        parts[file] = sizes(count, valid, test, f"{file}: rows")
    for file, counts in parts.items():
        rows = chain.from_iterable(rows for _, rows in read_chunks(file))
        header, name = next(rows), file.relative_to(source) if source.is_dir() else file.name
        for split, count in counts.items():
            path = folder / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", encoding="utf-8", newline="") as target:
                writer = csv.writer(target, lineterminator="\n")
                writer.writerows(chain([header], islice(rows, count)))
    return {split: sum(counts[split] for counts in parts.values()) for split in SPLITS}


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every file: a table of rows per split and file, and a list of problems.

    Problems are what `read_series` refuses, files with other columns than the first one to train
    on, and files whose time begins before the same file of the split before has ended.
    """
    counts = {split: Counter[str]() for split in SPLITS}
    problems, before = list[str](), dict[Path, Series]()
    first: Series | None = None
    for split in SPLITS:
        try:
            files = find_tables(folder / split)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in files:
            name = path.relative_to(folder / split)
            try:
                series = read_series(path, options, (), first.time_column if first else None)
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
    times = f"times: column {first.time_column!r}, {clock.describe(first.step)} apart"
    return f"{table(counts)}\n{times}", problems


def _begins_within(series: Series, before: Series) -> bool:
    first: Any = series.times[0]
    try:
        return bool(first <= before.times[-1])
    except TypeError:  # only one of them names a time zone
        return True
