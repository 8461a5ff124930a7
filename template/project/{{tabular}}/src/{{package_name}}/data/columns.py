"""Columns: what the training rows say of them, and from text to tensors with that.

What was found is kept as `info`: plain values, so that a checkpoint needs no data.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import did_you_mean
from ..errors import UserError
from .options import Data
from .tables import Row

MISSING = ("", "NA", "N/A", "NaN", "nan", "null")
FARTHEST = 10.0  # standard deviations from the mean: what lies beyond counts as if it lay there
QUANTILES = 200

Curve = list[list[float]]
"""Values and what the model sees for them; linear in between, constant beyond."""


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def in_order(names: Iterable[str]) -> list[str]:
    """Numbers by their value, then texts by letter."""
    keys = {name: number(name) for name in names}
    return sorted(keys, key=lambda name: (keys[name] is None, keys[name] or 0.0, name))


def standard(values: NDArray[np.float64]) -> Curve:
    """To mean 0 and standard deviation 1."""
    reach = FARTHEST * (float(values.std()) or 1.0)
    middle = float(values.mean())
    return [[middle - reach, middle + reach], [-FARTHEST, FARTHEST]]


def quantile(values: NDArray[np.float64]) -> Curve:
    """To a normal distribution, by rank: what is far out comes near, and no outlier matters."""
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    normal = np.array([NormalDist().inv_cdf(share) for share in shares])
    known, place = np.unique(np.quantile(values, shares), return_inverse=True)
    means = np.bincount(place, normal) / np.bincount(place)  # of quantiles that are equal
    return [known.tolist(), means.tolist()]


CURVES = {"standard": standard, "quantile": quantile}


def fit(rows: Iterable[Row], options: Data) -> dict[str, Any]:
    """What training rows say of their columns: kinds, categories, normalization, classes.

    A column is numeric if all its values are numbers, and categorical if none is, but for
    `options`. Raises UserError for anything in between, and where options name unknown columns.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{options.folder}/train: holds no rows")
    for key in ("ignore", "numeric", "categorical", "target"):
        value = getattr(options, key)
        for name in [value] if key == "target" else value:
            if name not in first.cells:
                hint = did_you_mean(name, first.cells)
                raise UserError(f"data.{key}: {first.where}: no column {name!r}{hint}")
    names = [name for name in first.cells if name not in (options.target, *options.ignore)]
    if not names:
        raise UserError(f"{first.where}: no columns to predict {options.target!r} from")
    numbers = {name: array("d") for name in names}
    texts: dict[str, dict[str, str]] = {name: {} for name in names}  # and where each is first
    targets, classes, count = array("d"), set[str](), 0
    for row in (first, *rows):
        if row.cells.keys() != first.cells.keys():
            names_here = ", ".join(row.cells.keys() ^ first.cells.keys())
            raise UserError(f"{row.where}: not the columns of {first.where}: {names_here}")
        count += 1
        for name in names:
            if (text := row.cells[name]) not in MISSING:
                value = None if name in options.categorical else number(text)
                if value is None:
                    texts[name].setdefault(text, row.where)
                else:
                    numbers[name].append(value)
        if options.task == "regression":
            targets.append(target_number(row, options.target, options.target_log))
        else:
            classes.add(target_text(row, options.target))
    for name in names:
        _check(name, numbers[name], texts[name], options, count)
    if options.task == "classification" and len(classes) < 2:
        raise UserError(f"{options.folder}/train: column {options.target!r} has one class alone")
    curve, truths = CURVES[options.normalize], np.array(targets or [0.0])
    return {
        "target": options.target,
        "task": options.task,
        "numbers": {n: curve(np.array(numbers[n])) for n in names if not texts[n]},
        "categories": {n: in_order(texts[n]) for n in names if texts[n]},
        "classes": in_order(classes),
        "log": options.task == "regression" and options.target_log,
        "mean": float(truths.mean()),
        "deviation": float(truths.std()) or 1.0,
    }


def _check(
    name: str, numbers: Sequence[float], texts: dict[str, str], options: Data, count: int
) -> None:
    """UserError for a column that is neither numeric nor categorical."""
    if not numbers and not texts:
        raise UserError(f"column {name!r} is empty in all training rows; list it in data.ignore")
    text, where = next(iter(texts.items()), ("", ""))
    if texts and (numbers or name in options.numeric):
        advice = "mend it, or list the column in data.categorical"
        raise UserError(f"{where}: column {name!r}: {text!r} is no number; {advice}")
    if len(texts) > max(100, count / 2) and name not in options.categorical:
        advice = "if it only names the row, list it in data.ignore, else in data.categorical"
        raise UserError(f"{where}: column {name!r} has {len(texts):,} different texts; {advice}")


def target_text(row: Row, name: str) -> str:
    """The target of a row; UserError if it has none."""
    if row.cells.get(name, "") in MISSING:
        raise UserError(f"{row.where}: no value for the target {name!r}; add it, or remove the row")
    return row.cells[name]


def target_number(row: Row, name: str, log: bool) -> float:
    """The target of a row as a number, or its logarithm; UserError if that cannot be."""
    text = target_text(row, name)
    value = number(text)
    if value is None:
        advice = "mend it, or set data.task to classification"
        raise UserError(f"{row.where}: target {name!r}: {text!r} is no finite number; {advice}")
    if log and value <= 0:
        raise UserError(f"{row.where}: target {name!r}: {text} has no logarithm: data.target_log")
    return math.log(value) if log else value


class Columns:
    """From rows to tensors and back, by what `fit` found.

    Attributes:
        numbers, categories: the names of the columns, in the order in which a model gets them.
        sizes: for each categorical column how many codes it has; 0 is for missing and unknown.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self.target, self.classes, self.log = info["target"], list(info["classes"]), info["log"]
        self.mean, self.deviation = info["mean"], info["deviation"]
        self.curves: dict[str, Curve] = info["numbers"]
        self.codes: dict[str, dict[str, int]] = {
            name: {text: code for code, text in enumerate(texts, 1)}
            for name, texts in info["categories"].items()
        }
        self.numbers, self.categories = list(self.curves), list(self.codes)
        self.sizes = [1 + len(codes) for codes in self.codes.values()]

    def tensors(self, rows: Iterable[Row], targets: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, categories and targets of N rows (no targets where they are not asked for).

        Numbers are float32 (N, 2, A): the normalized value, 0 where it is missing; and 1 where it
        is missing, else 0. Categories are int64 (N, B). Targets (N,) are float32 with mean 0 and
        deviation 1, or int64, the index of a class. Raises UserError for a row that won't do.
        """
        values, codes = array("d"), array("q")
        truths = array("q" if self.classes else "d")
        count = 0
        for row in rows:
            count += 1
            values.extend(self._values(row))
            codes.extend(self._codes(row))
            if targets:
                truths.append(self._truth(row))  # type: ignore[arg-type]
        raw = np.array(values).reshape(count, len(self.numbers))
        numbers = np.zeros((count, 2, len(self.numbers)), np.float32)
        for column, (known, seen) in enumerate(self.curves.values()):
            numbers[:, 0, column] = np.interp(raw[:, column], known, seen)
        numbers[:, 1] = np.isnan(raw)
        numbers[:, 0][np.isnan(raw)] = 0
        coded = np.array(codes, np.int64).reshape(count, len(self.codes))
        truth = torch.tensor(truths, dtype=torch.int64 if self.classes else torch.float64)
        if not self.classes:
            truth = ((truth - self.mean) / self.deviation).float()
        return torch.from_numpy(numbers), torch.from_numpy(coded), truth

    def _values(self, row: Row) -> list[float]:
        """The numbers of a row, NaN where one is missing; UserError for a text."""
        values = []
        for name in self.numbers:
            text = self._cell(row, name)
            value = math.nan if text in MISSING else number(text)
            if value is None:
                seen = "which the training data have as numbers"
                raise UserError(f"{row.where}: column {name!r}, {seen}: {text!r} is no number")
            values.append(value)
        return values

    def _truth(self, row: Row) -> float | int:
        """The target of a row, its logarithm if asked for, or the index of its class."""
        if not self.classes:
            return target_number(row, self.target, self.log)
        text = target_text(row, self.target)
        if text not in self.classes:
            hint = did_you_mean(text, self.classes)
            raise UserError(f"{row.where}: {text!r} is no class of the training data{hint}")
        return self.classes.index(text)

    def _codes(self, row: Row) -> list[int]:
        return [codes.get(self._cell(row, name), 0) for name, codes in self.codes.items()]

    def _cell(self, row: Row, name: str) -> str:
        try:
            return row.cells[name]
        except KeyError:
            needed = (n for n in (*self.numbers, *self.categories) if n not in row.cells)
            what = f"{row.where}: lacks columns that the model needs"
            raise UserError(f"{what}: {', '.join(needed)}") from None

    def readable(self, numbers: Tensor, categories: Tensor) -> dict[str, Any]:
        """Columns by name, as the files have them: arrays (N,) with NaN, and lists of texts."""
        columns: dict[str, Any] = {}
        for column, (name, (raw, seen)) in enumerate(self.curves.items()):
            values = np.interp(numbers[:, 0, column].numpy(), seen, raw)
            columns[name] = np.where(numbers[:, 1, column].numpy() > 0, np.nan, values)
        for column, (name, codes) in enumerate(self.codes.items()):
            texts = ["missing", *codes]
            columns[name] = [texts[code] for code in categories[:, column].tolist()]
        return columns

    def decode(self, outputs: Tensor) -> Tensor:
        """Outputs or targets of a regression in the target's units."""
        values = outputs.float() * self.deviation + self.mean
        return values.exp() if self.log else values
