"""Samples whose labels or numbers are in a table, `labels.csv`: reading, checking, splitting it."""

import csv
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from inspect import signature
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.dataset import SUFFIXES
from ..data.splits import SPLITS, check_new, sizes, table
from ..data.utils import check_folder
from ..errors import UserError
from . import inputs

NAME = "labels.csv"
MOST = 10  # problems in an error


class Row(NamedTuple):
    """A row: a sample."""

    cells: dict[str, str]  # by column
    values: dict[str, float]  # the numbers by column; or 1 for each label that the sample has
    file: Path | None
    item: Path | str  # the file, or for the kind of texts the text


class Table(NamedTuple):
    """The table of a folder."""

    path: Path
    columns: list[str]  # of labels or numbers; empty if one column lists the labels
    rows: list[Row]
    files: set[Path]  # those of rows with problems, too

    def names(self, problems: list[str]) -> list[str]:
        """The labels or the columns of numbers; a label that no sample has is a problem."""
        found = {name for row in self.rows for name in row.values}
        if unused := [name for name in self.columns if name not in found and self.rows]:
            problems.append(f"{self.path}: no row has the label {', '.join(unused)}; add some")
        return self.columns or sorted(found)

    def check(self, names: Sequence[str], problems: list[str]) -> None:
        """Compare with the names of the training data."""
        found = {*self.columns} or {name for row in self.rows for name in row.values}
        if odd := sorted(found ^ {*names} if self.columns else found - {*names}):
            what = "columns that are not in both" if self.columns else "labels that are not in"
            problems.append(f"{self.path}: {what} the table of train: {', '.join(odd)}")

    def matrix(self, names: Sequence[str]) -> Tensor:
        """The values, float64 (N, C)."""
        rows = [[row.values.get(name, 0.0) for name in names] for row in self.rows]
        return torch.tensor(rows, dtype=torch.float64)


# --- reading ---
def read(folder: Path, numbers: bool, problems: list[str]) -> Table:
    """The table in a folder; adds to `problems`. UserError if it can't be read at all."""
    path = folder / NAME
    try:
        with open(path, encoding="utf-8-sig", newline="") as content:
            reader = csv.reader(content, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; docs/labels.md shows one") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {error}; save it as UTF-8, with commas between cells") from error
    keys = [name for name in header if name in inputs.COLUMNS]
    columns = [name for name in header if name not in keys and name[:1] != "_"]
    both = not numbers and "labels" in columns and len(columns) > 1
    if len(keys) != 1 or not columns or len({*header}) < len(header) or "" in header or both:
        should = f"{' or '.join(inputs.COLUMNS)}, and labels or numbers, each once"
        should += "; names of other columns begin with _"
        raise UserError(f"{path}: has the columns {','.join(header)!r:.200}; it needs {should}")
    listed, rows = dict[str, int](), list[Row]()
    for number, cells in lines:
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells for {len(header)} columns")
            named = dict(zip(header, cells, strict=True))
            if keys == ["file"] and listed.setdefault(named["file"], number) != number:
                raise ValueError(f"{named['file']} is in line {listed[named['file']]}, too")
            file = _file(folder, named["file"]) if keys == ["file"] else None
            item = inputs.item(file or named[keys[0]])
            rows.append(Row(named, _values(named, columns, numbers), file, item))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    if not lines:
        problems.append(f"{path}: has no rows; add some")
    columns = [] if columns == ["labels"] and not numbers else columns
    return Table(path, columns, rows, {folder / name for name in listed})


def _file(folder: Path, name: str) -> Path:
    if not name or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError(f"file is {name!r}; should be a path below {folder}")
    if (folder / name).suffix.lower() not in SUFFIXES:
        raise ValueError(f"{name}: the formats are {', '.join(SUFFIXES)}")
    if not (folder / name).is_file():
        raise ValueError(f"{folder / name}: no such file")
    return folder / name


def _values(cells: Mapping[str, str], columns: list[str], numbers: bool) -> dict[str, float]:
    """The numbers of a row, or its labels; ValueError for others."""
    if columns == ["labels"] and not numbers:
        return dict.fromkeys(filter(None, map(str.strip, cells["labels"].split(";"))), 1.0)
    found = dict[str, float]()
    for name in columns:
        try:
            found[name] = float(cells[name])
        except ValueError:
            found[name] = math.nan
        if not (math.isfinite(found[name]) if numbers else found[name] in (0, 1)):
            should = "a number" if numbers else "0 or 1 (for numbers: run.task=numbers)"
            raise ValueError(f"{name} is {cells[name]!r}; should be {should}")
    return found if numbers else {name: 1.0 for name, value in found.items() if value}


def refuse(problems: Sequence[str]) -> None:
    """Raise UserError with the first MOST problems, if there are any."""
    if problems:
        more = f"\nand {len(problems) - MOST} more; see check-data" * (len(problems) > MOST)
        raise UserError("\n".join(problems[:MOST]) + more)


# --- check-data ---
def check(
    folder: Path, options: Any = None, settings: list[str] | None = None, *, numbers: bool
) -> tuple[str, list[str]]:
    """Read every sample; returns counts and problems, as `check_folder` of data/utils.py."""
    problems, tables = list[str](), dict[str, Table]()
    for split in SPLITS:
        try:
            tables[split] = read(folder / split, numbers, problems)
        except UserError as error:
            problems.append(str(error))
    refuse(problems if len(tables) < len(SPLITS) else [])
    names = tables["train"].names(problems)
    if hasattr(options, "text"):
        options = options.model_copy(update={"text": "line"})
    takes = signature(check_folder).parameters
    given = {"options": options, "settings": settings}
    given = {key: value for key, value in given.items() if key in takes}
    with tempfile.TemporaryDirectory() as view:  # check_folder reads a folder of one class
        for split, each in tables.items():
            each.check(names, problems)
            lay_out(each, Path(view, split, "samples"))
            there = {path for path in (folder / split).rglob("[!.]*") if path.is_file()}
            left = [path for path in there - each.files if path.suffix.lower() in SUFFIXES]
            if left and each.files:
                some = f"{len(left)} files are not in {NAME}, such as {min(left)}"
                problems.append(f"{folder / split}: {some}; add or remove them")
        text, found = check_folder(Path(view), **given)
        for split in SPLITS:
            own, real = str(Path(view, split, "samples")), str(folder / split)
            found = [line.replace(own, real) for line in found]
    lines = _ranges(tables, names) if numbers else _counts(tables, names)
    problems += [line.replace(f"{NAME}.txt, line", f"{NAME}, text") for line in found]
    lines += [line for line in text.splitlines()[3:] if "data.text=" not in line]
    return "\n".join(lines), problems


def lay_out(samples: Table, folder: Path) -> None:
    """Put the samples into a folder: links to files, or texts as lines of a file."""
    folder.mkdir(parents=True)
    texts = [row.item for row in samples.rows if isinstance(row.item, str)]
    if texts:
        (folder / f"{NAME}.txt").write_text("\n".join(texts), "utf-8")
    for file in (row.item for row in samples.rows if isinstance(row.item, Path)):
        place = folder / file.relative_to(samples.path.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(file.resolve())
        except OSError:  # Windows allows links to some users only
            shutil.copyfile(file, place)


def _counts(tables: Mapping[str, Table], names: Sequence[str]) -> list[str]:
    """Lines: the number of samples, and of those with each label; and which labels are rare."""
    counts = {split: Counter({"samples": len(each.rows)}) for split, each in tables.items()}
    for split, each in tables.items():
        counts[split].update(dict.fromkeys(names, 0))
        counts[split].update(name for row in each.rows for name in row.values)
    lines = table(counts).splitlines()[:-1]
    for split, fewest in (("train", 10), ("valid", 1), ("test", 1)):
        rare = [f"{name} {counts[split][name]}" for name in names if counts[split][name] < fewest]
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        lines += [f"few samples in {split}: {', '.join(rare[:5])}{more}"] * bool(rare)
    without = sum(not row.values for row in tables["train"].rows)
    mean = sum(len(row.values) for row in tables["train"].rows) / max(1, counts["train"]["samples"])
    lines.append(f"labels of a sample of train: {mean:.1f} on average; {without} have none")
    if mean <= 1 and (joined := [name for name in names if {*",|"} & {*name}]):
        lines.append(f"{joined[0]!r} is one label; if it should be several, separate them by ;")
    return lines


def _ranges(tables: Mapping[str, Table], names: Sequence[str]) -> list[str]:
    """Lines: the number of samples, and the range and mean of each number."""
    lines = table({s: Counter(samples=len(each.rows)) for s, each in tables.items()}).splitlines()
    for name in names:
        parts = list[str]()
        for split, each in tables.items():
            values = [row.values[name] for row in each.rows if name in row.values] or [math.nan]
            spread = f"{min(values):.6g} to {max(values):.6g}"
            parts.append(f"{split} {spread}, mean {sum(values) / len(values):.6g}")
        lines.append(f"{name}: {'; '.join(parts)}")
    return [*lines[:2], *lines[3:]]


# --- split-data, and the folds of a sweep ---
class Item(NamedTuple):
    """A row, and the place of its file in a new folder."""

    row: Row
    place: Path | None


def split(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Any = None,
    *,
    numbers: bool,
) -> dict[str, int]:
    """Copy a folder with a table into `folder`/train, valid and test; returns the counts.

    Equal samples stay together; rare labels are divided first. UserError, before it copies any.
    """
    check_new(folder, valid, test)
    problems, groups = list[str](), dict[object, list[Row]]()
    for row in read(source, numbers, problems).rows:
        groups.setdefault(_content(row), []).append(row)
    refuse(problems)
    sizes(len(groups), valid, test, f"{source}: different samples")
    labels = [Counter(n for row in g for n in row.values if not numbers) for g in groups.values()]
    shares = {"train": 1 - valid - test, "valid": valid, "test": test}
    chosen = stratify(labels, [len(group) for group in groups.values()], shares, seed)
    parts: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for part, group in zip(chosen, groups.values(), strict=True):
        parts[part] += [_item(row, source) for row in group]
    for part, items in parts.items():
        for file, place in write(items, folder / part):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    return {part: len(items) for part, items in parts.items()}


def stratify(
    labels: Sequence[Counter[str]], counts: Sequence[int], shares: Mapping[str, float], seed: int
) -> list[str]:
    """The split of each group of samples: iterative stratification (Sechidis et al., 2011).

    Of the labels, the one that the fewest groups left have is divided next. Each of these groups
    goes where most samples of that label are missing. Three samples of a label go to three splits.
    """
    chosen, left = [""] * len(labels), Counter(name for group in labels for name in group)
    room = {split: share * sum(counts) for split, share in shares.items()}
    wanted = {name: _wanted(sum(group[name] for group in labels), shares) for name in left}
    order = random.Random(seed).sample(range(len(labels)), len(labels))
    for _ in range(len(left) + 1):
        name = min((name for name in left if left[name] > 0), key=left.__getitem__, default="")
        for index in order:
            if chosen[index] or (name and name not in labels[index]):
                continue
            want = wanted.get(name, room)
            *_, part = max((want[part], room[part], part) for part in SPLITS)
            chosen[index], room[part] = part, room[part] - counts[index]
            left.subtract(labels[index].keys())
            for label, count in labels[index].items():
                wanted[label][part] -= count
    for name in left:  # a model can't find what it has never seen
        having = [index for index in order if name in labels[index]]
        if all(chosen[index] != "train" for index in having):
            chosen[having[0]] = "train"
    return chosen


def _wanted(count: int, shares: Mapping[str, float]) -> dict[str, float]:
    if count < len(SPLITS):
        return {"train": float(count), "valid": 0.0, "test": 0.0}
    other = {split: max(1.0, shares[split] * count) for split in SPLITS[1:]}
    return {"train": count - sum(other.values()), **other}


def _content(row: Row) -> object:
    """What equal samples have in common."""
    return row.item if isinstance(row.item, str) else sha256(row.item.read_bytes()).digest()


def _item(row: Row, folder: Path, below: str = "") -> Item:
    return Item(row, below / row.file.relative_to(folder) if row.file else None)


def samples(
    folder: Path, options: Any, *, numbers: bool
) -> Iterator[tuple[object, str | None, Item]]:
    """The key, the rarest label and the row of each sample of train/ and valid/, for folds."""
    problems = list[str]()
    tables = {split: read(folder / split, numbers, problems) for split in SPLITS[:2]}
    refuse(problems)
    rows = [(split, row) for split, each in tables.items() for row in each.rows]
    counts = Counter(name for _, row in rows for name in row.values)
    for split, row in rows:
        label = None if numbers else min(row.values, key=counts.__getitem__, default=None)
        yield _content(row), label, _item(row, folder / split, split)


def write(items: Sequence[Item], folder: Path) -> list[tuple[Path, Path]]:
    """Write rows as the table of a folder; returns each file and its place."""
    folder.mkdir(parents=True)
    with open(folder / NAME, "w", encoding="utf-8", newline="") as file:
        columns = list(items[0].row.cells) if items else ["file"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row, place in items:
            writer.writerow(row.cells | ({"file": place.as_posix()} if place else {}))
    return [(row.file, folder / place) for row, place in items if row.file and place]
