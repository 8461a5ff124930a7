"""Reads series from CSV files, `<split>/*.csv`, with a time column and one for each series."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
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
from .tables import (
    EMPTY,
    find_tables,
    find_time,
    name_of,
    read_chunks,
    read_long,
    read_times,
    refuse_long,
)

MOST = 100  # the maximum number of problems in an error


@dataclass(frozen=True)
class Series:
    """One file: float32 `values` (C, T) of `columns`, at `times` a regular `step` apart."""

    name: str
    columns: list[str]
    time_column: str
    times: list[clock.Time]
    step: clock.Step
    last: str  # the last time as it is written
    values: NDArray[np.float32]
    known: NDArray[np.float32]  # (K, T + `ahead`): `data.known`, then `data.calendar`

    def later(self, steps: Iterable[int]) -> list[clock.Time]:
        """The times that many steps after the last one; UserError if there is no such date."""
        try:
            return [clock.after(self.times, self.step, step) for step in steps]
        except (OverflowError, ValueError) as error:
            advice = "the year 9999 is the last one; shift the times"
            raise UserError(f"{self.name}: no date comes after {self.last}: {advice}") from error


def read_series(
    path: Path | None,
    data: Data | None = None,
    columns: Sequence[str] = (),
    time_column: str | None = None,
    ahead: int = 0,
) -> Series:
    """Read `columns` (all but the time column and `data.known`, if empty) of a file, or of
    standard input for None.

    With `data.missing` "interpolate", empty cells and missing rows are interpolated linearly; at
    an end, they get the nearest value. With `data.known`, the last `ahead` rows are the future, in
    which only these columns have values.

    Raises UserError, with each line, if the file is not a table, a cell is not a number, times are
    not in order or not at a regular step, or values are missing and `data.missing` is "refuse".
    """
    data, name, bad = data or Data(), name_of(path), list[str]()
    form, time = data.time_format, data.time_column or time_column
    long = data.series_column
    chunks = read_long(path, long, time, form, bad) if long else read_chunks(path, bad)
    (_, (header,)), first = next(chunks), next(chunks, ([], []))
    time = header[0] if long else time or find_time(name, header, first[1][:100], form)
    columns = list(columns or data.columns)
    columns = columns or [column for column in header if column not in (time, *data.known)]
    keys = dict.fromkeys(columns, "columns") | dict.fromkeys(data.known, "known")
    _check_columns(name, header, {time: "time_column"} | keys)
    lines, times, last = array("q"), list[clock.Time](), ""
    parts = [np.empty((len(keys), 0), np.float32)]
    for numbers, rows in chain([first] if first[0] else [], chunks):
        cells = dict(zip(header, zip(*rows, strict=True), strict=True))
        refuse_long(name, numbers[0], cells, time)
        lines.extend(numbers)
        texts = list(map(str.strip, cells[time]))
        times += read_times(name, numbers, texts, time, form, bad)
        last = texts[-1]
        part = [_numbers(name, numbers, cells[c], c, bad) for c in keys]
        parts.append(np.array(part, np.float32).reshape(len(keys), len(rows)))
    values = np.concatenate(parts, axis=1)
    full = ~np.isnan(values)
    end, absent = _end(name, lines, full, [*keys], data, ahead)
    refuse(bad + absent)
    if not columns or len(lines) < 2:
        raise UserError(f"{name}: should have a column beside the times, and two rows or more")
    places, step = _steps(name, lines, times, lambda time: clock.write(time, last, form), data)
    count, now = int(places[-1]) + 1, int(places[end - 1]) + 1
    for (column, key), some in zip(keys.items(), full, strict=True):
        if not some.any():
            raise UserError(f"{name}, column {column!r}: holds no values; see data.{key}")
    if count > len(times):
        times = [clock.after(times, step, place) for place in range(1 - count, 1)]
    if count > values.shape[1] or not full.all():
        each = zip(full, values, strict=True)
        steps = np.arange(count)
        values = np.array([np.interp(steps, places[k], v[k]) for k, v in each], np.float32)
    if now < count:
        times, last = times[:now], clock.write(times[now - 1], last, form)
    series, known = np.split(values, [len(columns)])
    made = Series(name, columns, time, times, step, last, series[:, :now], known[:, : now + ahead])
    return _with_calendar(made, data, ahead)


def _check_columns(name: str, header: Sequence[str], keys: Mapping[str, str]) -> None:
    """Raise UserError if a column, which a key of `data` names, is not in the file."""
    for column, key in keys.items():
        if column not in header:
            there = ", ".join(header)
            raise UserError(f"{name}: no column {column!r} (there are: {there}); see data.{key}")


def _end(
    name: str,
    lines: Sequence[int],
    full: NDArray[np.bool_],
    columns: Sequence[str],
    data: Data,
    ahead: int,
) -> tuple[int, list[str]]:
    """The number of rows before the future, and problems: missing values of (columns, rows)."""
    series, end, bad = len(columns) - len(data.known), len(lines), list[str]()
    if data.known and end:  # the future begins after the last row with a value of a series
        end -= int(full[:series, ::-1].any(axis=0).argmax())
        if end < len(lines) and not ahead:
            what = "no series has a value from here on; only `run` takes such rows"
            bad.append(f"{name}, line {lines[end]}: {what}; remove them")
    if data.missing == "refuse":
        for row, column in np.argwhere(~full.T).tolist():
            if row < end or column >= series:
                place = f"{name}, line {lines[row]}, column {columns[column]!r}"
                bad.append(f"{place}: no value; fill it in, or set data.missing=interpolate")
    return end, bad


def _with_calendar(series: Series, data: Data, ahead: int) -> Series:
    """Add `data.calendar` to what is known; UserError if too few rows of the future are known."""
    given = series.known.shape[1] - len(series.times)
    if data.known and given < ahead:
        names = ", ".join(data.known)
        need = f"a forecast needs {ahead} more rows with {names}, and other cells empty"
        raise UserError(f"{series.name}: {need}; there are {given}; add the others")
    if not data.calendar:
        return series
    times = [*series.times, *series.later(range(1, ahead + 1))]
    try:
        rows = clock.calendar(times, series.step, data.calendar)
    except ValueError as error:
        raise UserError(f"{series.name}: data.calendar: {error}; remove it") from error
    known = np.concatenate([series.known, rows]) if data.known else rows
    return replace(series, known=known)


def _steps(
    name: str,
    lines: Sequence[int],
    times: Sequence[clock.Time],
    written: Callable[[clock.Time], str],
    data: Data,
) -> tuple[NDArray[np.int64], clock.Step]:
    """The number of steps from the first row to each row, and the step, which is that of most rows.

    UserError if times are not in order, not at the step, or missing and `data.missing` refuses.
    """
    try:
        away, unit = clock.positions(times)
        gaps = np.diff(away)
        in_order = bool((gaps > 0).all())
    except TypeError:
        in_order = False
    if not in_order:
        raise UserError(_disorder(name, lines, times, written))
    step = float(np.sort(gaps)[(len(gaps) - 1) // 2]), unit
    steps, bad = gaps / step[0], list[str]()
    for i in np.flatnonzero(np.abs(steps - 1) > 1e-3).tolist():
        place = f"{name}, line {lines[i + 1]}: {written(times[i + 1])}"
        if abs(steps[i] - round(steps[i])) > 1e-3 or steps[i] < 1:
            should = f"should be {clock.describe(step)} after the row before, as most are"
            bad.append(f"{place} {should}; fix the times")
        elif data.missing == "refuse":
            left = f"{round(steps[i]) - 1} rows are missing before it"
            bad.append(f"{place}: {left}; add them, or set data.missing=interpolate")
    refuse(bad)
    places = np.rint(away / step[0]).astype(np.int64)
    if places[-1] >= 2 * len(times):
        raise UserError(f"{name}: {len(times)} rows for {places[-1] + 1} steps; fix the times")
    return places, step


def _disorder(
    name: str,
    lines: Sequence[int],
    times: Sequence[clock.Time],
    written: Callable[[clock.Time], str],
) -> str:
    """What is wrong with the first time that is not later than the one before."""
    before: Any = times[0]
    for line, time in zip(lines[1:], times[1:], strict=True):
        place = f"{name}, line {line}: {written(time)}"
        try:
            if time == before:
                advice = "each time has one row, with a column for each series"
                return f"{place} is the same time as the row before; {advice}"
            if time < before:
                advice = "sort the rows by time, each time with one row"
                return f"{place} is earlier than the row before; {advice}"
        except TypeError:
            return f"{place} can't be compared with the row before; write all times in one form"
        before = time
    return f"{name}: the times can't be compared; write all of them in one form"


def _numbers(
    name: str,
    lines: Sequence[int],
    texts: Sequence[str],
    column: str,
    bad: list[str],
) -> NDArray[np.float64]:
    """The numbers of a column, NaN where it has none; `bad` receives what is not a number."""
    try:
        values = np.array(list(map(float, texts)))
        if (np.abs(values) < 1e30).all():  # false if one is missing
            return values
    except ValueError:
        pass
    values = np.empty(len(texts))
    for i, (line, text) in enumerate(zip(lines, map(str.strip, texts), strict=True)):
        place = f"{name}, line {line}, column {column!r}"
        if text.lower() in EMPTY:
            values[i] = math.nan
            continue
        try:
            values[i] = float(text)
        except ValueError:
            values[i] = math.inf
        if not abs(values[i]) < 1e30:
            advice = "fix it, or leave the column out of data.columns"
            bad.append(f"{place}: {text!r} is not a number; {advice}")
            values[i] = 0.0  # not NaN: a value is there
    return values


def refuse(problems: Sequence[str]) -> None:
    """Raise UserError with the first MOST problems, if there are any."""
    if problems:
        more = [f"and {len(problems) - MOST:,} more"] if len(problems) > MOST else []
        raise UserError("\n".join([*problems[:MOST], *more]))


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of one split: past (C, context) and future (C, horizon), float32, as in the files.

    A file of `valid` or `test` continues the file of the same name in the split before,
    if there is one: the past of its first windows comes from there, their future never does.

    Attributes:
        series: one for each file, with the rows of its past from the split before.
        counts: the number of windows of each file.

    Raises UserError if a file can't be used, has too few rows, other columns or another step.
    `columns`, `step` and `time_column` that are not given are those of the first file.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        data: Data,
        columns: Sequence[str],
        step: clock.Step | None,
        time_column: str | None = None,
    ):
        self.data, self.columns, self.step = data, list(columns), step
        self.time_column = time_column
        self.series, self.counts = list[Series](), list[int]()
        for path in find_tables(folder / split):
            series = self._with_past(path, folder, split)
            self.series.append(series)
            length, window = len(series.times), data.context + data.horizon
            if length < window:
                need = f"a window needs {data.context} of data.context + {data.horizon} to forecast"
                raise UserError(f"{path}: {length} rows are too few; {need}")
            self.counts.append(1 + (length - window) // data.stride)
        self.ends = list(accumulate(self.counts))
        self.values = [torch.from_numpy(series.values) for series in self.series]
        self.known = [torch.from_numpy(series.known) for series in self.series]

    def _with_past(self, path: Path, folder: Path, split: str) -> Series:
        series, taken = self._read(path), 0
        for before in reversed(SPLITS[: SPLITS.index(split)]):
            earlier = folder / before / path.relative_to(folder / split)
            if taken == self.data.context or not earlier.is_file():
                break
            past = self._read(earlier)
            if not clock.same(past.later([1])[0], series.times[0]):
                advice = "fix the times, or rename the file if it is another series"
                raise UserError(f"{path}: does not begin one step after {earlier}; {advice}")
            rows = slice(-(self.data.context - taken), None)
            times = past.times[rows]
            taken += len(times)
            values = np.concatenate([past.values[:, rows], series.values], axis=1)
            known = np.concatenate([past.known[:, rows], series.known], axis=1)
            series = replace(series, times=times + series.times, values=values, known=known)
        return series

    def _read(self, path: Path) -> Series:
        series = read_series(path, self.data, self.columns, self.time_column)
        self.columns = self.columns or series.columns
        self.time_column = self.time_column or series.time_column
        self.step = self.step or series.step
        check_step(series, self.step)
        return series

    def apart(self, most: int) -> dict[int, int]:
        """Up to `most` windows of the first file with separate futures: index to first row."""
        indices = range(0, self.counts[0], -(-self.data.horizon // self.data.stride))[:most]
        return {index: index * self.data.stride + self.data.context for index in indices}

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self._cut(self.values, index)
        return window[:, : self.data.context], window[:, self.data.context :]

    def known_in(self, index: int) -> Tensor:
        """What is known of a window, past and future: (K, context + horizon)."""
        return self._cut(self.known, index)

    def _cut(self, rows: Sequence[Tensor], index: int) -> Tensor:
        number = bisect_right(self.ends, index)
        start = (index - self.ends[number] + self.counts[number]) * self.data.stride
        return rows[number][:, start : start + self.data.context + self.data.horizon]


class WithKnown(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Past, known inputs and future: `made` are the windows or, transformed, those of a loader."""

    def __init__(self, made: Any, windows: Windows):
        self.made, self.windows = made, windows

    def __getitem__(self, key: Any) -> tuple[Tensor, Tensor, Tensor]:
        (past, future), index = self.made[key], key if isinstance(key, int) else key[1]
        return past, self.windows.known_in(index), future


def check_step(series: Series, step: clock.Step) -> None:
    """Raise UserError if the rows of a file are not `step` apart."""
    if series.step[1] != step[1] or not math.isclose(series.step[0], step[0], rel_tol=1e-6):
        steps = f"its rows are {clock.describe(series.step)} apart"
        raise UserError(f"{series.name}: {steps}; those to train on are {clock.describe(step)}")
