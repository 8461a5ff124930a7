"""Data utils: split tables into train/valid/test, check a data folder."""

import csv
import hashlib
from array import array
from collections import Counter
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import UserError
from .columns import Columns, fit, number
from .options import Data
from .splits import SPLITS, check_new, draw, table
from .tables import Row, find_tables, first_delimiter, read_folder, read_rows

MOST = 20  # problems of a kind that are told one by one


def split_folder(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Data | None = None,
) -> dict[str, int]:
    """Write the rows of a CSV file, or of a folder of them, to `folder`/train, valid and test.

    `valid` and `test` are shares of the rows; rows that are equal but for `options.ignore` stay
    together. Returns the number of rows in each split. Raises UserError, before it writes any, if
    that cannot be done.
    """
    check_new(folder, valid, test)
    options = options or Data()
    files = find_tables(source) if source.is_dir() else [source]
    groups: dict[bytes, int] = {}
    of_rows, header = array("q"), list[str]()  # the group of each row
    for row in chain.from_iterable(read_rows(file, options.delimiter) for file in files):
        header = header or list(row.cells)
        if row.cells.keys() != {*header}:
            odd = ", ".join(row.cells.keys() ^ {*header})
            raise UserError(f"{row.where}: not the columns of the rows before: {odd}")
        of_rows.append(groups.setdefault(_digest(row, options.ignore), len(groups)))
    parts = draw(len(groups), valid, test, seed, f"{source}: different rows")
    split_of = {group: part for part, indices in parts.items() for group in indices}
    counts = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        writers = {}
        for part in SPLITS:
            (folder / part).mkdir(parents=True)
            path = folder / part / f"{source.stem}.csv"
            file = stack.enter_context(open(path, "w", encoding="utf-8", newline=""))
            sign = options.delimiter or first_delimiter(files[0])
            writers[part] = csv.writer(file, delimiter=sign, lineterminator="\n")
            writers[part].writerow(header)
        again = chain.from_iterable(read_rows(file, options.delimiter) for file in files)
        for row, group in zip(again, of_rows, strict=True):
            counts[split_of[group]] += 1
            writers[split_of[group]].writerow([row.cells[name] for name in header])
    return counts


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every row: a table of rows per split and class or range, and a list of problems.

    Problems are what can't be read or does not fit the columns of train/, and rows that are in two
    splits.
    """
    options = (options or Data()).model_copy(update={"folder": str(folder)})
    columns, problems = None, list[str]()
    try:
        columns = Columns(fit(read_folder(folder / "train", options.delimiter), options))
    except UserError as error:
        problems.append(str(error))
    targets: dict[str, list[str]] = {part: [] for part in SPLITS}
    bad, twins = list[str](), list[str]()
    seen: dict[str, dict[bytes, str]] = {part: {} for part in SPLITS}
    for part in SPLITS:
        try:
            files = find_tables(folder / part)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in files:
            block: list[Row] = []
            try:
                for row in read_rows(path, options.delimiter):
                    targets[part].append(row.cells.get(options.target, ""))
                    digest = _digest(row, options.ignore)
                    other = next((p for p in SPLITS if p != part and digest in seen[p]), None)
                    if other:
                        twin = seen[other][digest]
                        twins.append(f"{row.where}: the same row is in {other}: {twin}")
                    else:
                        seen[part].setdefault(digest, row.where)
                    block.append(row)
                    if len(block) == 1000:
                        bad += _problems(block, columns)
                        block = []
            except UserError as error:  # the rest of the file can't be read
                problems.append(str(error))
            bad += _problems(block, columns)
        if not targets[part]:
            problems.append(f"{folder / part}: holds no rows")
    for found in (bad, twins):
        problems += found[:MOST]
        if len(found) > MOST:
            problems.append(f"{folder}: and {len(found) - MOST:,} more rows like these")
    summary = _summary(targets, columns)
    if columns and not options.delimiter:
        sign = first_delimiter(find_tables(folder / "train")[0])
        summary += f"\ndelimiter: {sign!r} (data.delimiter)" if sign != "," else ""
    return summary, list(dict.fromkeys(problems))


def _digest(row: Row, ignore: list[str]) -> bytes:
    cells = sorted(item for item in row.cells.items() if item[0] not in ignore)
    return hashlib.blake2b(repr(cells).encode(), digest_size=16).digest()


def _problems(rows: list[Row], columns: Columns | None) -> list[str]:
    """What is wrong with each row: all at once where nothing is, else in ever smaller parts."""
    try:
        if columns and rows:
            columns.tensors(rows)
    except UserError as error:
        half = len(rows) // 2
        parts = rows[:half], rows[half:]
        return [p for part in parts for p in _problems(part, columns)] if half else [str(error)]
    return []


def _summary(targets: dict[str, list[str]], columns: Columns | None) -> str:
    """Rows by split, and by class or range of the target; then what the columns are."""
    if columns is None:
        return table({part: Counter({"rows": len(targets[part])}) for part in SPLITS})
    if columns.classes:
        names = columns.classes
        places = {part: [names.index(t) for t in targets[part] if t in names] for part in SPLITS}
    else:
        read = {part: [number(t, columns.decimal) for t in targets[part]] for part in SPLITS}
        values = {part: [v for v in read[part] if v is not None] for part in SPLITS}
        edges = np.unique(np.quantile(values["train"], (0.25, 0.5, 0.75, 1)))
        names = [f"{columns.target} up to {edge:,.6g}" for edge in edges[:-1]]
        names.append(f"{columns.target} above")
        places = {part: np.searchsorted(edges[:-1], values[part]).tolist() for part in SPLITS}
    counts = {}
    for part in SPLITS:
        counts[part] = Counter(dict.fromkeys(names, 0))
        counts[part].update(names[place] for place in places[part])
    sized = zip(columns.categories, columns.sizes, strict=True)
    numbers = [name for name in columns.numbers if name not in columns.dates]
    kinds = {"numbers": numbers, "categories": [f"{n} ({s - 1})" for n, s in sized]}
    lines = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return "\n".join([table(counts), *lines, *columns.found()])
