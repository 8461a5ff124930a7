"""The samples that `sweep --folds` divides: rows of tables."""

import csv
import io
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path

from ..errors import UserError
from .options import Data
from .tables import find_tables, first_delimiter, read_folder

OPTIONS = ("target", "task", "ignore", "delimiter")
"""The options of `data` that decide how rows are read and which are equal."""

Line = tuple[str, str]
"""The header and a row, as lines of a CSV file, which take less memory than cells."""


def samples(folder: Path, options: Data) -> Iterator[tuple[object, str | None, Line]]:
    """Yield the key, the class (or None) and the line of each row of train/ and valid/.

    Rows with one key are always in one fold: here, rows that are equal except for `data.ignore`.
    To keep more together, such as the rows of a patient, return what they share instead, such as
    `row.cells["patient"]`.
    """
    sign = options.delimiter or first_delimiter(find_tables(folder / "train")[0])
    names, header = list[str](), ""
    both = (read_folder(folder / split, options.delimiter) for split in ("train", "valid"))
    for row in chain.from_iterable(both):
        if not names:
            names = list(row.cells)
            header = _line(names, sign)
        if row.cells.keys() != {*names}:
            odd = ", ".join(sorted(row.cells.keys() ^ {*names}))
            raise UserError(f"{row.where}: other columns than the rows before: {odd}; rename them")
        cells = sorted(item for item in row.cells.items() if item[0] not in options.ignore)
        label = row.cells.get(options.targets[0]) if options.task == "classification" else None
        line = _line([row.cells[name] for name in names], sign)
        yield sha256(repr(cells).encode()).digest(), label, (header, line)


def write(lines: list[Line], split: Path) -> None:
    """Write rows, in their order, to train/ or valid/ of a fold."""
    split.mkdir(parents=True)
    with open(split / "rows.csv", "w", encoding="utf-8", newline="") as file:
        file.write(lines[0][0])
        file.writelines(line for _, line in lines)


def _line(cells: Sequence[str], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerow(cells)  # \r\n: cells with either are quoted
    return text.getvalue()
