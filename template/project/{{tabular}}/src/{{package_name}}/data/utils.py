"""Data utils: split tables into train/valid/test, check a data folder."""

import csv
import hashlib
import json
import math
from array import array
from collections import Counter
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .columns import FOR_CLASSES, FOR_NUMBERS, Columns, decimal_of, fit, number
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table
from .tables import Row, find_tables, first_delimiter, read_folder, read_rows

KEPT = 50_000  # rows of a split whose numbers are kept in memory, at least, if it has more


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
    the rows can't be split.
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
            raise UserError(f"{row.where}: other columns than the rows before: {odd}; rename them")
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


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every row: a table of rows per split and class or range, and a list of problems.

    Problems are rows that can't be read, don't fit the columns of train/, or are in two splits.
    Lines below the table describe the columns. `settings` receives overrides of `options` that fit
    the data better, such as `data.ignore=["id"]`.
    """
    options = (options or Data()).model_copy(update={"folder": str(folder)})
    columns, problems, better = None, list[str](), list[str]()
    odd, advice = "", ""
    try:
        odd, advice = _task(folder / "train", options)
        better += advice.split()
        # Check the rows with the advice applied, or each row would have the same problem.
        if advice == FOR_CLASSES:
            options = options.model_copy(update={"task": "classification"})
            problems.append(f"{folder / 'train'}: {odd}; set {advice}")
        elif advice and advice != FOR_NUMBERS:
            options = options.model_copy(update={"target_log": False})
            problems.append(f"{folder / 'train'}: {odd}; set {advice}")
        rows = read_folder(folder / "train", options.delimiter, problems)
        columns = Columns(fit(rows, options, problems))
    except UserError as error:
        problems.append(str(error))
    counts = dict.fromkeys(SPLITS, 0)
    bad, twins, facts = list[str](), list[str](), Facts()
    seen: dict[str, dict[bytes, str]] = {part: {} for part in SPLITS}
    for part in SPLITS:
        block: list[Row] = []
        try:
            for row in read_folder(folder / part, options.delimiter, problems):
                counts[part] += 1
                digest = _digest(row, options.ignore)
                other = next((p for p in SPLITS if p != part and digest in seen[p]), None)
                if other:
                    twin = seen[other][digest]
                    twins.append(f"{row.where}: the same row is in {other}: {twin}; remove one")
                else:
                    again = seen[part].setdefault(digest, row.where) != row.where
                    facts.twice += again
                    facts.place = facts.place or row.where * again
                if columns:
                    facts.add(part, row, columns)
                block.append(row)
                if len(block) == 1000:
                    bad += _problems(block, columns)
                    block = []
        except UserError as error:
            problems.append(str(error))
        bad += _problems(block, columns)
        if not counts[part]:
            problems.append(f"{folder / part}: holds no rows")
    text = _summary(counts, facts, columns) + left_out(folder, [".csv"])
    if columns:
        text += facts.lines(columns, options, better)
        text += f"\n{odd}; set {advice}" if odd else ""
        if not options.delimiter:
            sign = first_delimiter(find_tables(folder / "train")[0])
            text += f"\ndelimiter: {sign!r} (data.delimiter)" if sign != "," else ""
    if settings is not None:
        settings += better
    return text, list(dict.fromkeys([*problems, *bad, *twins]))


class Facts:
    """Facts about rows: values that are missing, duplicate, or would spoil a training unseen."""

    def __init__(self) -> None:
        self.twice, self.place = 0, ""  # rows, and where the first is
        self.steps = dict.fromkeys(SPLITS, 1)  # of how many rows one is in `values`
        self.rows: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.labels = {part: Counter[str]() for part in SPLITS}
        self.targets: dict[str, dict[str, Any]] = {part: {} for part in SPLITS}
        self.values: dict[str, dict[str, Any]] = {part: {} for part in SPLITS}
        self.unknown = {part: Counter[str]() for part in SPLITS}  # categories train/ does not have
        self.classes: dict[str, dict[str, str]] = {}  # of columns that tell it: the class of a text

    def add(self, part: str, row: Row, columns: Columns) -> None:
        """Add a row of a split."""
        if self.rows[part] % self.steps[part] == 0:
            self._keep(part, row, columns)
        self.rows[part] += 1
        for name in columns.targets:
            text = row.cells.get(name, "")
            if columns.classes:
                self.labels[part][text] += 1
            elif (value := number(text, columns.decimal)) is not None:
                self.targets[part].setdefault(name, array("d")).append(value)
        codes = columns.codes.items()
        self.unknown[part].update(n for n, known in codes if row.cells.get(n, "") not in known)
        if part != "train":
            return
        names = (*columns.numbers, *columns.categories)
        self.missing.update(n for n in names if row.cells.get(n, "") in columns.missing)
        if not columns.classes:
            return
        if self.rows[part] == 1:
            self.classes = {name: {} for name in names}
        label = row.cells.get(columns.targets[0], "")
        for name, known in list(self.classes.items()):
            if known.setdefault(row.cells.get(name, ""), label) != label or len(known) > 10_000:
                del self.classes[name]

    def _keep(self, part: str, row: Row, columns: Columns) -> None:
        """Keep the numbers of a row; of very many rows, every second one, then every fourth …"""
        kept = self.values[part]
        for name in (*columns.numbers, *(() if columns.classes else columns.targets)):
            value = number(row.cells.get(name, ""), columns.decimal)
            kept.setdefault(name, array("d")).append(math.nan if value is None else value)
        if max(map(len, kept.values()), default=0) == 2 * KEPT:
            self.values[part] = {name: values[::2] for name, values in kept.items()}
            self.steps[part] *= 2

    def lines(self, columns: Columns, options: Data, better: list[str]) -> str:
        """Lines to print; `better` receives the override that ignores columns of row numbers."""
        sized = zip(columns.categories, columns.sizes, strict=True)
        numbers = [name for name in columns.numbers if name not in columns.dates]
        missing = [f"{name} {count}" for name, count in self.missing.most_common()]
        kinds = {"no value": missing, "numbers": numbers}
        kinds["categories"] = [f"{name} ({size - 1})" for name, size in sized]
        lines = [f"{kind}: {some(names)}" for kind, names in kinds.items() if names]
        if self.twice:
            what = f"{self.twice:,} rows occur twice in their split"
            lines.insert(0, f"{what}, the first in {self.place}")
        lines += columns.found()
        values = {name: np.array(self.values["train"][name]) for name in numbers}
        counting = [
            name
            for name, v in values.items()
            if len(v) >= 20 and name not in options.numeric
            if (v % 1 == 0).all() and (np.diff(v) > 0).all()
        ]
        values = {name: v for name, v in values.items() if name not in counting}
        cells = self.values["train"].items()  # the target's, too
        lines += [line for n, v in cells if n not in counting and (line := far(n, np.array(v)))]
        lines += self._unlike(values, columns) + self._telling(values, columns)
        if counting:
            setting = f"data.ignore={json.dumps([*options.ignore, *counting], ensure_ascii=False)}"
            what = "only number the rows" if len(counting) > 1 else "only numbers the rows"
            lines.append(f"{some(counting)} rises from row to row; if it {what}, set {setting}")
            better.append(setting)
        return "".join(f"\n{line}" for line in lines)

    def _unlike(self, values: dict[str, NDArray[np.float64]], columns: Columns) -> list[str]:
        """Lines on columns that most rows of valid/ or test/ have otherwise than train/."""
        lines, trained = list[str](), self.rows["train"]
        for part in SPLITS[1:]:
            names, half = list[str](), max(5, self.rows[part] / 2)
            for name, v in values.items():
                seen, others = v[~np.isnan(v)], np.array(self.values[part].get(name, []))
                if 2 * len(seen) > len(v):
                    inside = (others >= seen.min()) & (others <= seen.max())
                    names += [name] if (~inside).sum() > max(5, len(others) / 2) else []
            for name in columns.categories:
                if self.unknown[part][name] > half and 2 * self.unknown["train"][name] < trained:
                    names.append(name)
            what = f"most rows of {part} have values that train doesn't have, in: {some(names)}"
            lines += [f"{what}; are units and spelling the same?"] if names else []
        return lines

    def _telling(self, values: dict[str, NDArray[np.float64]], columns: Columns) -> list[str]:
        """Lines on columns that give the target away."""
        rows = self.rows["train"]
        names = [n for n, known in self.classes.items() if 10 * len(known) <= rows]
        for truth in () if columns.classes else columns.targets:
            target = np.array(self.values["train"][truth])
            for name, v in values.items():
                both = ~np.isnan(v) & ~np.isnan(target)
                if both.sum() >= max(20, len(v) / 2) and abs(ranks(v[both], target[both])) > 0.9995:
                    names.append(name)
        what = f"the target follows from: {some(names)}"
        return [f"{what}; if that is not known before, list it in data.ignore"] if names else []


def ranks(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The correlation of the ranks of two columns; 0 if one has few different values."""
    if min(len(np.unique(first)), len(np.unique(second))) < 10:
        return 0.0
    one, other = (np.argsort(np.argsort(v, kind="stable")) for v in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def far(name: str, values: NDArray[np.float64]) -> str:
    """A line on a value that is repeated and far from all others, such as -999; or nothing."""
    known = values[~np.isnan(values)]
    for edge in (known.min(), known.max()) if len(known) else ():
        others = known[known != edge]
        if len(others) > len(known) - 3 or len(np.unique(others)) < 10:
            continue
        low, high = others.min(), others.max()
        if max(low - edge, edge - high) > high - low:
            what = f"{name} is {edge:g} in several rows, in others {low:g} to {high:g}"
            return f"{what}; if that means no value, list it in data.missing"
    return ""


def _task(folder: Path, options: Data) -> tuple[str, str]:
    """How the targets of train/ don't fit the task, and the overrides that fit; or empty texts."""
    rows = list(islice(read_folder(folder, options.delimiter, []), 1000))
    for name in options.targets:
        texts = [text for row in rows if (text := row.cells.get(name, ""))]
        texts = [text for text in texts if text not in options.missing]
        values = [number(text, options.decimal or decimal_of(texts)) for text in texts]
        others, several = values.count(None), len(options.targets) > 1
        if options.task == "regression" and 2 * others > len(values) and not several:
            return f"target {name!r}: {others:,} of {len(values):,} are texts", FOR_CLASSES
        if options.task == "classification" and not others and len({*values}) > 50:
            return f"target {name!r}: {len({*values})} different numbers", FOR_NUMBERS
        log = options.task == "regression" and options.target_log
        if log and any(value is not None and value <= 0 for value in values):
            return f"target {name!r}: some have no logarithm", "data.target_log=false"
    return "", ""


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _digest(row: Row, ignore: list[str]) -> bytes:
    cells = sorted(item for item in row.cells.items() if item[0] not in ignore)
    return hashlib.blake2b(repr(cells).encode(), digest_size=16).digest()


def _problems(rows: list[Row], columns: Columns | None) -> list[str]:
    """The problems of rows: all are checked at once and, if one is bad, again in halves."""
    try:
        if columns and rows:
            columns.tensors(rows)
    except UserError as error:
        half = len(rows) // 2
        parts = rows[:half], rows[half:]
        return [p for part in parts for p in _problems(part, columns)] if half else [str(error)]
    return []


def _summary(rows: dict[str, int], facts: Facts, columns: Columns | None) -> str:
    """A table of rows by split, and by class or range of the target; or the ranges of several."""
    counts = {part: Counter({"rows": rows[part]}) for part in SPLITS}
    if columns is None:
        return table(counts)
    values = facts.targets
    if columns.several:
        train = values["train"].items()
        spans = [f"{name} {min(v):,.6g} to {max(v):,.6g}" for name, v in train]
        return f"{table(counts)}\ntargets: {some(spans)}"
    if columns.classes:
        labels = facts.labels
        of_classes = {p: Counter({n: labels[p][n] for n in columns.classes}) for p in SPLITS}
        return table(of_classes, "rows")
    of = {part: values[part].get(columns.target, array("d")) for part in SPLITS}
    edges = np.unique(np.quantile(of["train"] or [0.0], (0.25, 0.5, 0.75, 1)))
    names = [f"{columns.target} up to {edge:,.6g}" for edge in edges[:-1]]
    names.append(f"{columns.target} above" if len(names) else columns.target)
    for part in SPLITS:
        places = np.searchsorted(edges[:-1], of[part])
        found = np.bincount(places, minlength=len(names)).tolist()
        counts[part] = Counter(dict(zip(names, found, strict=True)))
    return table(counts)
