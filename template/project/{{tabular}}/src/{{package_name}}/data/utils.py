"""Data utils: split tables into train/valid/test, check a data folder."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from ..config import load, locate
from ..errors import UserError
from ..options import Config
from .columns import Columns, fit, number
from .options import Data
from .splits import SPLITS, check_new, draw, table
from .tables import Row, find_tables, read_folder, read_rows

MOST = 20  # problems of a kind that are told one by one


def configured() -> Data:
    """The section `data` of configs/train, or its defaults where there is no such file."""
    files = list(locate("configs", inside=True).glob("train.*"))
    return load(Config, files).data if files else Data()


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Write the rows of a CSV file, or of a folder of them, to `folder`/train, valid and test.

    `valid` and `test` are shares of the rows; equal rows stay together. Returns the number of rows
    in each split. Raises UserError, before it writes any, if that cannot be done.
    """
    check_new(folder, valid, test)
    delimiter = configured().delimiter
    groups: dict[tuple[str, ...], int] = {}
    header: list[str] = []
    for path in find_tables(source) if source.is_dir() else [source]:
        for row in read_rows(path, delimiter):
            header = header or list(row.cells)
            if row.cells.keys() != {*header}:
                odd = ", ".join(row.cells.keys() ^ {*header})
                raise UserError(f"{row.where}: not the columns of the rows before: {odd}")
            cells = tuple(row.cells[name] for name in header)
            groups[cells] = groups.get(cells, 0) + 1
    distinct = list(groups)
    parts = draw(len(groups), valid, test, seed, f"{source}: different rows")
    for part, indices in parts.items():
        (folder / part).mkdir(parents=True)
        with open(folder / part / f"{source.stem}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            writer.writerow(header)
            for cells in (distinct[index] for index in indices):
                writer.writerows([cells] * groups[cells])
    return {p: sum(groups[distinct[i]] for i in indices) for p, indices in parts.items()}


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every row: a table of rows per split and class or range, and a list of problems.

    Problems are what can't be read or does not fit the columns of train/, and rows that are in two
    splits. `options` are those of configs/train if not given.
    """
    options = (options or configured()).model_copy(update={"folder": str(folder)})
    columns, problems = None, list[str]()
    try:
        columns = Columns(fit(read_folder(folder / "train", options.delimiter), options))
    except UserError as error:
        problems.append(str(error))
    targets: dict[str, list[str]] = {part: [] for part in SPLITS}
    bad, twins, seen = list[str](), list[str](), dict[bytes, tuple[str, str]]()
    for part in SPLITS:
        try:
            files = find_tables(folder / part)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in files:
            try:
                for row in read_rows(path, options.delimiter):
                    targets[part].append(row.cells.get(options.target, ""))
                    other, twin = seen.setdefault(_digest(row, options.ignore), (part, row.where))
                    if other != part:
                        twins.append(f"{row.where}: the same row is in {other}: {twin}")
                    bad += _problem(row, columns)
            except UserError as error:  # the rest of the file can't be read
                problems.append(str(error))
        if not targets[part]:
            problems.append(f"{folder / part}: holds no rows")
    for found in (bad, twins):
        problems += found[:MOST]
        if len(found) > MOST:
            problems.append(f"{folder}: and {len(found) - MOST:,} more rows like these")
    return _summary(targets, columns), list(dict.fromkeys(problems))


def _digest(row: Row, ignore: list[str]) -> bytes:
    cells = sorted(item for item in row.cells.items() if item[0] not in ignore)
    return hashlib.blake2b(repr(cells).encode(), digest_size=16).digest()


def _problem(row: Row, columns: Columns | None) -> list[str]:
    try:
        if columns:
            columns.tensors([row])
    except UserError as error:
        return [str(error)]
    return []


def _summary(targets: dict[str, list[str]], columns: Columns | None) -> str:
    """Rows by split, and by class or range of the target; then what the columns are."""
    if columns is None:
        return table({part: Counter({"rows": len(targets[part])}) for part in SPLITS})
    if columns.classes:
        names = columns.classes
        places = {part: [names.index(t) for t in targets[part] if t in names] for part in SPLITS}
    else:
        values = {part: [v for v in map(number, targets[part]) if v is not None] for part in SPLITS}
        edges = np.unique(np.quantile(values["train"], (0.25, 0.5, 0.75, 1)))
        names = [f"{columns.target} up to {edge:,.6g}" for edge in edges[:-1]]
        names.append(f"{columns.target} above")
        places = {part: np.searchsorted(edges[:-1], values[part]).tolist() for part in SPLITS}
    counts = {}
    for part in SPLITS:
        counts[part] = Counter(dict.fromkeys(names, 0))
        counts[part].update(names[place] for place in places[part])
    sized = zip(columns.categories, columns.sizes, strict=True)
    kinds = {"numbers": columns.numbers, "categories": [f"{n} ({s - 1})" for n, s in sized]}
    lines = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return "\n".join([table(counts), *lines])
