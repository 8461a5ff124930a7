"""Data utils: split series into train/valid/test by time, check a data folder."""

import csv
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from . import clock
from .dataset import Series, check_step, read_series
from .options import Data
from .splits import SPLITS, check_new, left_out, sizes, table
from .tables import find_tables, read_chunks

SEASONS: dict[tuple[float, str], tuple[int, ...]] = {  # steps per period, usual ones first
    (600, "seconds"): (144, 1008),
    (900, "seconds"): (96, 672),
    (1800, "seconds"): (48, 336),
    (3600, "seconds"): (24, 12, 168, 8760),
    (86400, "seconds"): (7, 5, 28, 30, 364, 365),
    (604800, "seconds"): (52, 4, 13, 26),
    (1, "months"): (12, 3, 6),
    (3, "months"): (4, 2),
}


def split_folder(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Data | None = None,
) -> dict[str, int]:
    """Cut a CSV file, or each one below a folder, into `folder`/train, then valid, then test.

    `valid` and `test` are shares of the rows of each file (of its times, if it has
    `options.series_column`), at least one. The split is by time, so
    `seed` has no effect. Returns the number of rows in each split. Raises UserError, before it
    writes any, if the rows can't be split.
    """
    check_new(folder, valid, test)
    options = (options or Data()).model_copy(update={"missing": "interpolate"})
    files = find_tables(source) if source.is_dir() else [source]
    parts: dict[Path, dict[str, int]] = {}
    starts: dict[Path, tuple[str, list[Any]]] = {}
    for file in files:
        series = read_series(file, options)  # refuses what is not a series
        count = sum(len(rows) for _, rows in read_chunks(file)) - 1
        count = len(series.times) if options.series_column else count
        parts[file] = sizes(count, valid, test, f"{file}: rows")
        starts[file] = series.time_column, [series.times[n] for n in _starts(parts[file])]
    for file, counts in parts.items():
        rows = chain.from_iterable(rows for _, rows in read_chunks(file))
        header, name = next(rows), file.relative_to(source) if source.is_dir() else file.name
        cut: Any = {split: islice(rows, count) for split, count in counts.items()}
        if options.series_column:
            cut = _by_time(rows, header, *starts[file], options.time_format)
        for split, part in cut.items():
            path = folder / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", encoding="utf-8", newline="") as target:
                writer = csv.writer(target, lineterminator="\n")
                writer.writerows(chain([header], part))
    return {split: sum(counts[split] for counts in parts.values()) for split in SPLITS}


def _starts(counts: Mapping[str, int]) -> list[int]:
    """The numbers of the first rows of valid and test."""
    return [counts["train"], counts["train"] + counts["valid"]]


def _by_time(
    rows: Iterable[list[str]], header: list[str], column: str, starts: list[Any], form: str | None
) -> dict[str, list[list[str]]]:
    """The rows of a long table by split; `starts` are the first times of valid and test."""
    place = header.index(column)
    found: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
    for row in rows:
        time: Any = clock.parse(row[place].strip(), form)
        found[SPLITS[sum(time >= start for start in starts)]].append(row)
    return found


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every file: a table of rows per split and file, and a list of problems.

    Problems are what `read_series` refuses, files with other columns than the first training file,
    files that do not continue the same file of the split before, and rows that are in two splits.
    Lines below the table describe the series. `settings` receives overrides of `options` that fit
    the data better, such as `data.season=12`.
    """
    options = options or Data()
    counts = {split: Counter[str]() for split in SPLITS}
    problems, before = list[str](), dict[Path, Series]()
    train, better, seen = list[Series](), list[str](), list[tuple[tuple[str, Path], Series]]()
    for split in SPLITS:
        try:
            files = find_tables(folder / split)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in files:
            name = path.relative_to(folder / split)
            try:
                series, wrong = _read(path, options, train[0].time_column if train else None)
                problems += wrong
                better = ["data.missing=interpolate"] if wrong else better
                check_step(series, (train or [series])[0].step)
                train += [series] if split == "train" or not train else []
                if {*series.columns} != {*train[0].columns}:
                    problems.append(f"{path}: has other columns than {train[0].name}; rename them")
                others = (each for at, each in seen if at[0] != split and at[1] != name)
                problems += _copies(path, series, others, options.horizon)
                seen.append(((split, name), series))
                joins = split == "valid" or (folder / "valid" / name).is_file()
                problems += _out_of_place(path, series, before.get(name), joins)
            except UserError as error:
                problems += str(error).splitlines()
            else:
                before[name] = series
                counts[split][name.as_posix()] = len(series.times)
    if not train:
        raise UserError("\n".join(problems))
    first = train[0]
    lines = _describe(first, options.time_format)
    shortest = min(len(series.times) for series in train)
    later = [n for split in SPLITS[1:] for n in counts[split].values()]
    fits = _windows(shortest, later, first.step, options)
    better += [f"data.{key}={value}" for key, value in fits.items()]
    if "season" in fits:
        usual = f"rows {clock.describe(first.step)} apart usually repeat after {fits['season']}"
        lines.append(f"{usual}; set data.season={fits['season']}")
    if sizes := [setting for setting in better if "context" in setting or "horizon" in setting]:
        window = f"data.context={options.context} and data.horizon={options.horizon}"
        lines.append(f"{window} do not fit {shortest} rows to train on; set {' '.join(sizes)}")
    if settings is not None:
        settings += better
    return "\n".join([table(counts) + left_out(folder, [".csv"]), *lines]), problems


def _describe(first: Series, form: str | None) -> list[str]:
    """Lines on the first training file: the ranges of values, the times, columns to leave out."""
    spans = zip(first.columns, first.values.min(axis=1), first.values.max(axis=1), strict=True)
    values = [f"{column} {low:.4g} to {high:.4g}" for column, low, high in spans]
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    lines = [f"values: {', '.join(values[:5])}{more}"]
    begin = clock.write(first.times[0], first.last, form)
    lines.append(f"{first.name}: {begin} to {first.last}")
    lines.append(f"times: column {first.time_column!r}, {clock.describe(first.step)} apart")
    for column, steps in zip(first.columns, np.diff(first.values), strict=True):
        if (steps == 1).all():
            lines.append(f"column {column!r} counts the rows; leave it out of data.columns")
    return lines


def _read(path: Path, options: Data, time_column: str | None) -> tuple[Series, list[str]]:
    """A file, with missing values interpolated; and the problems that name these values."""
    try:
        return read_series(path, options, (), time_column), []
    except UserError as error:
        wrong = str(error)
    try:
        filled = options.model_copy(update={"missing": "interpolate"})
        return read_series(path, filled, (), time_column), wrong.splitlines()
    except UserError as error:
        raise UserError("\n".join(dict.fromkeys(f"{wrong}\n{error}".splitlines()))) from error


def _out_of_place(path: Path, series: Series, before: Series | None, joins: bool) -> list[str]:
    """What is wrong with the first time of a file, compared with the same file of a split before.

    If `joins`, the file should begin one step after the end of that.
    """
    if before is None:
        return []
    if _begins_within(series, before):
        return [f"{path}: begins before {before.name} ends; cut it there"]
    if joins and not clock.same(before.later([1])[0], series.times[0]):
        advice = "fix the times, or rename the file if it is another series"
        return [f"{path}: does not begin one step after {before.name}; {advice}"]
    return []


def _copies(path: Path, series: Series, others: Iterable[Series], least: int) -> list[str]:
    """A problem for each of `others` that has the same rows: `least` or more, with changing values.

    Rows are the same if all values at the times that both files have are equal.
    """
    found = list[str]()
    for other in others:
        pair: Any = [series, other]
        with suppress(TypeError, ValueError):  # a time zone in only one of them; other columns
            early, late = sorted(pair, key=lambda each: each.times[0])
            begin = bisect_left(early.times, late.times[0])
            rows = early.values[[early.columns.index(column) for column in late.columns], begin:]
            both = late.values[:, : rows.shape[1]]
            changes = both.shape[1] >= least and (both != both[:, :1]).any()
            if changes and np.array_equal(rows[:, : both.shape[1]], both):
                found.append(f"{path}: the same rows as in {other.name}; remove one")
    return found


def _windows(rows: int, later: list[int], step: clock.Step, options: Data) -> dict[str, int]:
    """The options of windows to change for `rows` to train on, `later` rows and the step."""
    usual = SEASONS.get((round(step[0], 6), step[1]), (options.season,))
    season = options.season if options.season in (1, *usual) else usual[0]
    horizon = max(1, min([options.horizon, rows // 4, *later]))
    context = options.context if options.context + horizon <= rows else max(2, rows // 2)
    if season > context and 2 * season + horizon <= rows:
        context = 2 * season
    fits = {"context": context, "horizon": horizon, "season": min(season, context)}
    return {key: value for key, value in fits.items() if value != getattr(options, key)}


def _begins_within(series: Series, before: Series) -> bool:
    first: Any = series.times[0]
    try:
        return bool(first <= before.times[-1])
    except TypeError:  # only one of them names a time zone
        return True
