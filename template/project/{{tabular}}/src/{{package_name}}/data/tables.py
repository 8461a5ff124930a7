"""Reads CSV files as rows of text; every error names the file and the line."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ..errors import UserError

MAX_COLUMNS = 100_000
MAX_NAME = 1000  # characters of a column's name; a longer one is a mistake
MAX_LINE = 2**26  # characters of a line


class Row(NamedTuple):
    """A row: its file and line, and its cells by column, without blanks around them."""

    where: str
    cells: dict[str, str]


def find_tables(folder: Path) -> list[Path]:
    """All CSV files below `folder`, sorted; UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; data/README.md shows what belongs there")
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".csv")
    files = sorted(p for p in found if not p.name.startswith(".") and p.is_file())
    if not files:
        raise UserError(f"{folder}: holds no CSV files")
    return files


def delimiter_of(header: str) -> str:
    """The separator that splits the first line of a file into the most cells."""
    counts = dict.fromkeys(",;\t|", 0)
    for sign in counts:
        with suppress(csv.Error):  # with a wrong separator, a cell may be too long
            counts[sign] = len(next(csv.reader([header], delimiter=sign), []))
    return max(counts, key=counts.__getitem__)


def read_rows(
    path: Path, delimiter: str | None = None, problems: list[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header, or of standard input for the path `-`.

    Without a delimiter, `delimiter_of` detects it. Empty lines are skipped. Raises UserError for an
    empty file, a duplicate or missing name in the header, a row with more or fewer cells than the
    header, and files not in CSV or UTF-8. If `problems` is given, it receives the messages of bad
    rows instead.
    """
    piped = str(path) == "-"
    with nullcontext(sys.stdin) if piped else open(path, encoding="utf-8-sig", newline="") as file:
        reader: Any = None
        try:
            lines = _bounded(file, path)
            first = next(lines, "")
            sign = delimiter or delimiter_of(first)
            reader = csv.reader(chain([first], lines), delimiter=sign, strict=True)
            header = [" ".join(cell.strip().splitlines()) for cell in next(reader, [])]
            _check_header(header, path)
            for cells in _lines(reader, path, problems):
                where = f"{path}:{reader.line_num}"
                if len(cells) == len(header):
                    yield Row(where, dict(zip(header, map(str.strip, cells), strict=True)))
                elif cells:
                    found = f"{len(cells)} cells, but the header names {len(header)} columns"
                    bad = f"{where}: {found}; put a cell that has {sign!r} in quotes"
                    if problems is None:
                        raise UserError(bad)
                    problems.append(bad)
        except csv.Error as error:
            line = reader.line_num if reader else 1
            raise UserError(f"{path}:{line}: not CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); save it as such") from error


def _bounded(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file; UserError for one that is too long to hold its cells in memory."""
    for number in count(1):
        if not (line := file.readline(MAX_LINE)):
            return
        if len(line) == MAX_LINE:
            most = f"MAX_LINE in data/tables.py, {MAX_LINE:,} characters"
            raise UserError(f"{path}:{number}: is longer than {most}; is it a table?")
        yield line


def _lines(reader: Any, path: Path, problems: list[str] | None) -> Iterator[list[str]]:
    """Yield the lines of a reader; lines that are not CSV raise csv.Error, or go to `problems`."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if problems is None:
                raise
            problems.append(f"{path}:{reader.line_num}: not CSV: {error}")


def first_delimiter(path: Path) -> str:
    """The delimiter of a file, detected in its header."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return delimiter_of(file.readline())


def _check_header(header: list[str], path: Path) -> None:
    if not header:
        raise UserError(f"{path}: is empty; its first line should name the columns")
    if len(header) > MAX_COLUMNS:
        most = f"{len(header):,} columns; MAX_COLUMNS in data/tables.py is {MAX_COLUMNS:,}"
        raise UserError(f"{path}:1: has {most}; remove some, or raise that")
    for name, times in Counter(header).items():
        if not name:
            number = header.index(name) + 1
            raise UserError(f"{path}:1: column {number} has no name; name it or remove it")
        if times > 1:
            raise UserError(f"{path}:1: {times} columns are called {name!r}; rename or remove one")
        if len(name) > MAX_NAME:
            what = f"the name of column {header.index(name) + 1} has {len(name):,} characters"
            raise UserError(f"{path}:1: {what}; shorten it, or close its quotes")


def read_folder(
    folder: Path, delimiter: str | None = None, problems: list[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of all CSV files below `folder`; UserError as for `read_rows`.

    If `problems` is given, it receives the messages of bad files and rows instead.
    """
    for path in find_tables(folder):
        try:
            yield from read_rows(path, delimiter, problems)
        except UserError as error:
            if problems is None:
                raise
            problems.append(str(error))
