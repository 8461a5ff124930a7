"""Series in CSV files, `<split>/*.csv`: a column `time`, and one for each series."""

import csv
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from . import clock
from .options import Data
from .splits import SPLITS

EMPTY = {"", "na", "n/a", "nan", "null", "none"}  # what a missing value may be written as


@dataclass(frozen=True)
class Series:
    """One file: float32 `values` (C, T) of `columns`, at `times` a regular `step` apart."""

    name: str
    columns: list[str]
    times: list[clock.Time]
    step: clock.Step
    last: str  # the last time as it is written
    values: NDArray[np.float32]

    def later(self, steps: Iterable[int]) -> list[clock.Time]:
        """The times that many steps after the last one; UserError if there is no such date."""
        try:
            return [clock.after(self.times, self.step, step) for step in steps]
        except (OverflowError, ValueError) as error:
            advice = "the year 9999 is the last one; shift the times"
            raise UserError(f"{self.name}: no date comes after {self.last}: {advice}") from error


def find_tables(folder: Path) -> list[Path]:
    """All CSV files below `folder`, sorted; UserError if there are none."""
    files = [path for path in folder.rglob("*.csv") if path.is_file() and path.name[0] != "."]
    if not files:
        raise UserError(f"{folder}: holds no .csv files; see data/README.md")
    return sorted(files)


def read_text(path: Path | None) -> tuple[str, str]:
    """A name for messages and the text of a file, or of standard input; UserError without it."""
    if path is None:
        return "standard input", sys.stdin.read()
    try:
        return str(path), path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the path of a CSV file") from error


def read_rows(name: str, text: str) -> tuple[list[str], list[int], list[list[str]]]:
    """The header, and the lines and cells of all rows; UserError if they are no table."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    lines, rows = list[int](), list[list[str]]()
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for row in reader:
            if any(row):
                lines.append(reader.line_num)
                rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}; mend it") from error
    if not header:
        raise UserError(f"{name}: is empty, or begins with an empty line; see data/README.md")
    if "time" not in header:
        should = "the first line should name the columns, 'time' and the series, between commas"
        raise UserError(f"{name}, line 1: no column 'time'; {should}")
    for column in header:
        if not column or header.count(column) > 1:
            raise UserError(f"{name}, line 1: {column!r} names no column or two; rename it")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            what = f"{len(row)} cells under a header of {len(header)}"
            raise UserError(f"{name}, line {line}: {what}; mend the line")
    return header, lines, rows


def read_series(path: Path | None, columns: Sequence[str] = (), missing: str = "refuse") -> Series:
    """Read `columns`, or all but `time`, of a file, or of standard input for None.

    With `missing` "interpolate", empty cells and rows that are left out get the values on a
    straight line between their neighbours; at an end, the nearest value.

    Raises UserError, with the line, where the file is no table, a cell no number, or a time not
    after the one before or not at a regular step; where a value is missing and may not be.
    """
    name, text = read_text(path)
    header, lines, rows = read_rows(name, text)
    columns = list(columns) or [column for column in header if column != "time"]
    if absent := [column for column in columns if column not in header]:
        there = ", ".join(header)
        raise UserError(f"{name}: no column {absent[0]!r} (there are: {there}); see data.columns")
    if not columns or len(rows) < 2:
        raise UserError(f"{name}: should have a column beside 'time', and two rows or more")
    at = {column: header.index(column) for column in ["time", *columns]}
    times, values = list[clock.Time](), np.empty((len(columns), len(rows)), dtype=np.float32)
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        times.append(_time(f"{name}, line {line}", row[at["time"]], times))
        for c, column in enumerate(columns):
            place = f"{name}, line {line}, column {column!r}"
            values[c, i] = _number(place, row[at[column]], missing)
    away, unit = clock.positions(times)
    step = float(np.sort(np.diff(away))[(len(away) - 2) // 2]), unit  # of most rows
    steps = np.diff(away) / step[0]
    for i in np.flatnonzero(np.abs(steps - 1) > 1e-3).tolist():
        place = f"{name}, line {lines[i + 1]}: {rows[i + 1][at['time']]}"
        if abs(steps[i] - round(steps[i])) > 1e-3 or steps[i] < 1:
            should = f"should be {clock.describe(step)} after the row before, as most are"
            raise UserError(f"{place} {should}; mend the times")
        if missing == "refuse":
            left = f"{round(steps[i]) - 1} rows are missing before it"
            raise UserError(f"{place}: {left}; add them, or set data.missing=interpolate")
    places = np.rint(away / step[0]).astype(int)
    if places[-1] >= 2 * len(times):
        raise UserError(f"{name}: {len(times)} rows for {places[-1] + 1} steps; mend the times")
    everywhere = np.arange(places[-1] + 1)
    for column, known in zip(columns, np.isfinite(values), strict=True):
        if not known.any():
            raise UserError(f"{name}, column {column!r}: holds no values; see data.columns")
    filled = [np.interp(everywhere, places[np.isfinite(v)], v[np.isfinite(v)]) for v in values]
    times = [clock.after(times, step, int(place)) for place in everywhere - places[-1]]
    last = rows[-1][at["time"]]
    return Series(name, columns, times, step, last, np.array(filled, dtype=np.float32))


def _time(place: str, text: str, before: Sequence[clock.Time]) -> clock.Time:
    try:
        time: Any = clock.parse(text)
    except ValueError as error:
        example = "a date such as 2026-01-31 or 2026-01-31T12:00, or a number"
        raise UserError(f"{place}, column 'time': {text!r} is no time; write {example}") from error
    try:
        if before and time <= before[-1]:
            wrong = "the same time as" if time == before[-1] else "earlier than"
            raise UserError(f"{place}: {text} is {wrong} the row before; sort the rows by time")
    except TypeError as error:
        wrong = f"{text} can't be compared with the row before"
        raise UserError(f"{place}: {wrong}; write all times in one form") from error
    return time


def _number(place: str, text: str, missing: str) -> float:
    if text.lower() in EMPTY:
        if missing == "refuse":
            raise UserError(f"{place}: no value; fill it in, or set data.missing=interpolate")
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not abs(value) < 1e30:
        raise UserError(f"{place}: {text!r} is no number; mend it, or leave it out of data.columns")
    return value


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of one split: past (C, context) and future (C, horizon), float32, as in the files.

    A file of `valid` or `test` goes on where the file of the same name in the split before ends,
    if there is one: the past of its first windows comes from there, their future never does.

    Attributes:
        series: one for each file, with the rows of the past that it was given.
        samples: the file and the first row of each window.

    Raises UserError if a file can't be used, or doesn't fit to the others: other `columns` (none:
    those of the first file), another step (None: that of the first file), too few rows.
    """

    def __init__(
        self, folder: Path, split: str, data: Data, columns: Sequence[str], step: clock.Step | None
    ):
        self.data, self.columns, self.step = data, list(columns), step
        self.series, self.samples = list[Series](), list[tuple[int, int]]()
        files = find_tables(folder / split)
        for number, path in enumerate(files):
            series = self._with_past(path, folder, split)
            self.series.append(series)
            length, window = len(series.times), data.context + data.horizon
            if length < window:
                need = f"a window needs {data.context} of data.context + {data.horizon} to forecast"
                raise UserError(f"{path}: {length} rows are too few; {need}")
            starts = range(0, length - window + 1, data.stride)
            self.samples += [(number, start) for start in starts]
        self.values = [torch.from_numpy(series.values) for series in self.series]

    def _with_past(self, path: Path, folder: Path, split: str) -> Series:
        series, taken = self._read(path), 0
        for before in reversed(SPLITS[: SPLITS.index(split)]):
            earlier = folder / before / path.relative_to(folder / split)
            if taken == self.data.context or not earlier.is_file():
                break
            past = self._read(earlier)
            if not clock.same(past.later([1])[0], series.times[0]):
                advice = "mend the times, or rename it, and it stands alone"
                raise UserError(f"{path}: doesn't go on where {earlier} ends; {advice}")
            rows = slice(-(self.data.context - taken), None)
            times, values = past.times[rows], past.values[:, rows]
            taken += len(times)
            values = np.concatenate([values, series.values], axis=1)
            series = replace(series, times=times + series.times, values=values)
        return series

    def _read(self, path: Path) -> Series:
        series = read_series(path, self.columns, self.data.missing)
        self.columns = self.columns or series.columns
        self.step = self.step or series.step
        check_step(series, self.step)
        return series

    def apart(self, most: int) -> dict[int, int]:
        """Up to `most` windows of the first file whose futures share no row: index to first row."""
        first = [row for file, row in self.samples if not file]
        indices = range(0, len(first), -(-self.data.horizon // self.data.stride))[:most]
        return {index: first[index] + self.data.context for index in indices}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, start = self.samples[index]
        now = start + self.data.context
        values = self.values[number]
        return values[:, start:now], values[:, now : now + self.data.horizon]


def check_step(series: Series, step: clock.Step) -> None:
    """UserError if the rows of a file are not `step` apart."""
    if series.step[1] != step[1] or not math.isclose(series.step[0], step[0], rel_tol=1e-6):
        steps = f"its rows are {clock.describe(series.step)} apart"
        raise UserError(f"{series.name}: {steps}; those to train on are {clock.describe(step)}")
