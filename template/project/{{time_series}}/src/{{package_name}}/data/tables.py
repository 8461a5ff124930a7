"""CSV files of series: reads rows in parts, and finds the time column."""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import UserError
from . import clock

MAX_COLUMNS = 10_000
MAX_NAME = 1000  # characters of a column's name; a longer one is a mistake
MAX_LINE = 2**24  # characters of a line
CHUNK, MAX_CELLS = 1000, 1_000_000  # the most rows and cells that are kept as text
EMPTY = {"", "na", "n/a", "nan", "null", "none"}  # missing values, in lower case

Chunk = tuple[list[int], list[list[str]]]
"""Line numbers, and the cells of each line."""


def find_tables(folder: Path) -> list[Path]:
    """All CSV files below `folder`, sorted, without hidden folders; UserError if there are none."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".csv")
    shown = (path for path in found if "/." not in f"/{path.relative_to(folder).as_posix()}")
    files = [path for path in shown if not path.is_dir()]
    if not files:
        raise UserError(f"{folder}: holds no .csv files; see data/README.md")
    return sorted(files)


def name_of(path: Path | None) -> str:
    """The name of a file, or of standard input for None, in messages."""
    return "standard input" if path is None else str(path)


def read_chunks(path: Path | None, problems: list[str] | None = None) -> Iterator[Chunk]:
    """Yield the header, then the rows in chunks, of a file, or of standard input for None.

    Raises UserError if it can't be read, is not text or not a table. If `problems` is given, it
    receives the messages of bad lines instead.
    """
    name, given = name_of(path), nullcontext(sys.stdin)
    try:
        with given if path is None else open(path, encoding="utf-8-sig", newline="") as file:
            yield from _chunks(name, file, problems)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}; give the path of a CSV file") from error


def _bounded(name: str, file: TextIO) -> Iterator[str]:
    """The lines of a file; UserError for one that is too long to hold its cells in memory."""
    for number in count(1):
        if not (line := file.readline(MAX_LINE)):
            return
        if len(line) == MAX_LINE:
            most = f"MAX_LINE in data/tables.py, {MAX_LINE:,} characters"
            raise UserError(f"{name}, line {number}: is longer than {most}; is it a table?")
        yield line


def _chunks(name: str, file: TextIO, problems: list[str] | None) -> Iterator[Chunk]:
    reader = csv.reader(_bounded(name, file), strict=True)
    lines, rows, header = list[int](), list[list[str]](), list[str]()
    while True:
        wrong = ""
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            wrong, row = str(error), []
        if not header and not wrong:
            header = [" ".join(cell.strip().splitlines()) for cell in row]
            _check_header(name, header)
            yield [1], [header]
            continue
        if any(row) and len(row) != len(header):
            wrong = f"{len(row)} cells under a header of {len(header)}"
        if wrong:
            message = f"{name}, line {reader.line_num}: {wrong}; fix the line"
            if problems is None or not header:
                raise UserError(message)
            problems.append(message)
        elif any(row):
            lines.append(reader.line_num)
            rows.append(row)
        if len(rows) == CHUNK or len(rows) * len(header) > MAX_CELLS:
            yield lines, rows
            lines, rows = [], []
    if not header:
        _check_header(name, header)
    if rows:
        yield lines, rows


def _check_header(name: str, header: Sequence[str]) -> None:
    if not header:
        raise UserError(f"{name}: is empty, or begins with an empty line; see data/README.md")
    if len(header) > MAX_COLUMNS:
        most = f"{len(header):,} columns; MAX_COLUMNS in data/tables.py is {MAX_COLUMNS:,}"
        raise UserError(f"{name}, line 1: has {most}; remove some, or raise that")
    for column, times in Counter(header).items():
        if not column or times > 1:
            what = "two columns are called" if column else "a column is called"
            raise UserError(f"{name}, line 1: {what} {column!r}; rename it")
        if len(column) > MAX_NAME:
            what = f"the name of a column has {len(column):,} characters, above {MAX_NAME:,}"
            raise UserError(f"{name}, line 1: {what}; shorten it, or close its quotes")


def find_time(
    name: str, header: Sequence[str], rows: Sequence[Sequence[str]], form: str | None
) -> str:
    """The time column: the one called time, or the only one that contains times.

    Times are dates, or else evenly spaced numbers. UserError if no column or several fit.
    """
    if named := sorted(column for column in header if column.lower() == "time"):
        return named[-1]
    dates, even, odd = list[str](), list[str](), 0
    for column, cells in zip(header, zip(*rows, strict=True), strict=False):
        texts = [cell.strip() for cell in cells]
        try:
            times = clock.parse_all(texts, form)
        except ValueError:
            odd += 1  # to try all formats takes a millisecond per column
            dates += [column] if odd <= 100 and clock.formats(texts) else []
            continue
        kinds = {isinstance(time, datetime) for time in times}
        if kinds == {True}:
            dates.append(column)
        elif kinds == {False} and len(times) > 1:  # no number looks like 20240131
            with np.errstate(all="ignore"):
                steps = np.diff(np.array(times, np.float64))
            if 0 < steps[0] < math.inf and np.allclose(steps, steps[0], rtol=0.01, atol=0):
                even.append(column)
    if len(found := dates or even) == 1:
        if _is_time(found[0]):
            raise UserError(f"{name}, line 1: {found[0]!r} is not a name; add a line with names")
        return found[0]
    advice = "set data.time_column, and data.time_format if the times are not ISO 8601"
    if found:
        names = " and ".join(map(repr, found))
        raise UserError(f"{name}, line 1: no column 'time', and {names} contain times; {advice}")
    advice += "; year and quarter become one column, as 1959Q1"
    raise UserError(f"{name}, line 1: no column 'time', and no other contains times; {advice}")


def read_long(
    path: Path | None,
    series: str,
    time: str | None,
    form: str | None,
    problems: list[str] | None = None,
) -> Iterator[Chunk]:
    """Like `read_chunks` for a table in long format, a row for each time and series.

    The rows that it yields have one time each, in order, and a column for each series; with several
    columns of values, a column for each series and column. The time is the first column.
    """
    name, chunks = name_of(path), read_chunks(path, problems)
    (_, (header,)), first = next(chunks), next(chunks, ([], []))
    for column, key in ((series, "series_column"), (time or header[0], "time_column")):
        if column not in header:
            there = ", ".join(header)
            raise UserError(f"{name}: no column {column!r} (there are: {there}); see data.{key}")
    time = time or find_time(name, header, first[1][:100], form)
    values = [column for column in header if column not in (time, series)]
    table, places = dict[str, dict[str, str]](), dict[str, int]()
    columns, filled = dict[str, None](), 0
    for lines, rows in chain([first], chunks):
        for line, row in zip(lines, rows, strict=True):
            cells = dict(zip(header, map(str.strip, row), strict=True))
            who, when = cells[series], cells[time]
            names = [f"{who} {column}" if len(values) > 1 else who for column in values]
            known = table.setdefault(when, {})
            places.setdefault(when, line)
            if not who or not known.keys().isdisjoint(names):
                wrong = f"{who!r} has two rows of the time {when}; remove one"
                wrong = wrong if who else f"no text in column {series!r}; fill it in"
                _report(f"{name}, line {line}: {wrong}", problems)
            else:
                known.update(zip(names, map(cells.__getitem__, values), strict=True))
                columns.update(dict.fromkeys(names))
                filled += len(values)
    if len(table) * len(columns) > 20 * filled + MAX_CELLS:
        what = f"{len(table):,} times and {len(columns):,} series, most without a value"
        raise UserError(f"{name}: {what}; use a file for each group of series with the same times")
    yield from _wide(name, time, form, list(columns), table, places)


def _wide(
    name: str,
    time: str,
    form: str | None,
    columns: list[str],
    table: Mapping[str, Mapping[str, str]],
    places: Mapping[str, int],
) -> Iterator[Chunk]:
    """The header, then the rows of `table`, which has cells by time and column, in their order."""
    _check_header(name, [time, *columns])
    yield [1], [[time, *columns]]
    times = list(table)
    with suppress(ValueError, TypeError):  # `read_times` says what is wrong
        order: Any = clock.parse_all(times, form)
        times = [times[i] for i in sorted(range(len(times)), key=order.__getitem__)]
    size = max(1, min(CHUNK, MAX_CELLS // (1 + len(columns))))
    for begin in range(0, len(times), size):
        part = times[begin : begin + size]
        rows = [[when, *(table[when].get(column, "") for column in columns)] for when in part]
        yield [places[when] for when in part], rows


def _report(problem: str, problems: list[str] | None) -> None:
    if problems is None:
        raise UserError(problem)
    problems.append(problem)


def refuse_long(name: str, line: int, cells: Mapping[str, Sequence[str]], time: str) -> None:
    """Raise UserError for a table in long format: times repeat for each name in another column."""
    if len({*cells[time]}) == len(cells[time]):
        return
    for column, texts in cells.items():
        names = {*texts}
        if column != time and len(names) < len(texts) and not any(map(_is_number, names)):
            raise UserError(
                f"{name}, line {line}: long format: the times repeat for each text in {column!r}; "
                f"set data.series_column={json.dumps(column, ensure_ascii=False)}"
            )


def _is_time(text: str) -> bool:
    try:
        return bool(clock.parse(text))
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    try:
        return text.strip().lower() in EMPTY or math.isfinite(float(text))
    except ValueError:
        return False


def read_times(
    name: str,
    lines: Sequence[int],
    texts: Sequence[str],
    column: str,
    form: str | None,
    problems: list[str],
) -> list[clock.Time]:
    """The times of rows; `problems` receives a message for each that is not a time.

    Raises UserError if all of them have another format.
    """
    try:
        return clock.parse_all(texts, form)
    except ValueError:
        pass
    times = list[clock.Time]()
    could = [] if form else [f'data.time_format="{known}"' for known in clock.formats(texts)]
    for line, text in zip(lines, texts, strict=True):
        try:
            times.append(clock.parse(text, form))
        except ValueError as error:
            wrong = f"{name}, line {line}, column {column!r}: {text!r} is not a time"
            if could:
                raise UserError(f"{wrong} in ISO 8601; set {' or '.join(could)}") from error
            advice = "; write 2026-01-31, 2026-01-31T12:00, 2026Q1 or a number"
            of_form = f" of data.time_format={form!r}; fix one of them"
            problems.append(wrong + (of_form if form else advice))
    return times
