"""CSV files as rows of text; every error names the file and the line."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError


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


def read_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """The rows of a CSV file with a header, or of standard input for the path `-`.

    Raises UserError for a file that is empty, a header with a name twice or none, a row with more
    or fewer cells than the header, and what is no CSV or no UTF-8. Empty lines are passed over.
    """
    piped = str(path) == "-"
    with nullcontext(sys.stdin) if piped else open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(header, path)
            for cells in reader:
                if not cells:
                    continue
                where = f"{path}:{reader.line_num}"
                if len(cells) != len(header):
                    count = f"{len(cells)} cells, but the header names {len(header)} columns"
                    raise UserError(f"{where}: {count}; a text with commas needs quotes")
                yield Row(where, dict(zip(header, map(str.strip, cells), strict=True)))
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); save it as such") from error


def _check_header(header: list[str], path: Path) -> None:
    if not header:
        raise UserError(f"{path}: is empty; its first line should name the columns")
    for name, count in Counter(header).items():
        if not name:
            number = header.index(name) + 1
            raise UserError(f"{path}:1: column {number} has no name; name it or remove it")
        if count > 1:
            raise UserError(f"{path}:1: {count} columns are called {name!r}; rename or remove one")


def read_folder(folder: Path, delimiter: str) -> Iterator[Row]:
    """The rows of all CSV files below `folder`, one after the other; UserError as above."""
    for path in find_tables(folder):
        yield from read_rows(path, delimiter)
