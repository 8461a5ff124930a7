"""Detects the columns of the training rows, and converts rows to tensors.

What is detected is kept as `info`, plain values, so that a checkpoint can be used without the data.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, islice
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

FOR_CLASSES = (  # the overrides of a classification
    "data.task=classification loss.name=CrossEntropyLoss "
    "checkpoint.monitor=auroc checkpoint.mode=max"
)
FOR_NUMBERS = (  # the overrides of a regression
    "data.task=regression loss.name=HuberLoss checkpoint.monitor=rmse checkpoint.mode=min"
)
LARGEST = 1e100  # the squares of larger numbers overflow
FARTHEST = 10.0  # standard deviations from the mean; values beyond are clipped
QUANTILES = 200

Curve = list[list[float]]
"""Values, and their normalized values; linear between two values, constant outside."""


def number(text: str, decimal: str = ".") -> float | None:
    """A number within LARGEST, or None; thousands separators are not supported."""
    if decimal == ",":
        text = "" if "." in text else text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST and "_" not in text else None


def day(text: str) -> float | None:
    """The days from 1970 to a date in ISO 8601, with or without a time, or None."""
    try:
        date = datetime.fromisoformat(text) if "-" in text else None
    except ValueError:
        return None
    if date is None:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() / 86400


def decimal_of(texts: Iterable[str]) -> str:
    """The decimal sign: a comma if some numbers have one and none has a point, else a point.

    A comma before three digits decides nothing, since it could separate thousands.
    """
    found = [match for text in texts if (match := re.fullmatch(r"[-+]?\d+([.,])(\d+)", text))]
    commas = {len(match[2]) != 3 for match in found if match[1] == ","}
    return "," if True in commas and all(match[1] == "," for match in found) else "."


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names: numbers by value, then texts."""
    keys = {name: number(name) for name in names}
    return sorted(keys, key=lambda name: (keys[name] is None, keys[name] or 0.0, name))


def standard(values: NDArray[np.float64]) -> Curve:
    """Normalize to mean 0 and standard deviation 1."""
    reach = FARTHEST * (float(values.std()) or 1.0)
    middle = float(values.mean())
    return [[middle - reach, middle + reach], [-FARTHEST, FARTHEST]]


def quantile(values: NDArray[np.float64]) -> Curve:
    """Normalize to a normal distribution by rank, so that outliers have little effect."""
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    normal = np.array([NormalDist().inv_cdf(share) for share in shares])
    known, place = np.unique(np.quantile(values, shares), return_inverse=True)
    means = np.bincount(place, normal) / np.bincount(place)  # equal quantiles get one value
    return [known.tolist(), means.tolist()]


CURVES = {"standard": standard, "quantile": quantile}


def fit(rows: Iterable[Row], options: Data, found: list[str] | None = None) -> dict[str, Any]:
    """Detect in training rows the columns' kinds, categories, normalization and classes.

    A column is numeric if all its values are numbers or all are dates, and categorical if none is;
    `options` override that. Raises UserError for a mix, and if options name unknown columns.
    If `found` is given, it receives the messages of bad rows and columns instead.
    """
    rows = iter(rows)
    if not (first := next(rows, None)):
        raise UserError(f"{options.folder}/train: holds no rows")
    head = [first, *islice(rows, min(999, 1_000_000 // len(first.cells)))]  # bounds the memory
    problems = list[str]()
    for key in ("ignore", "numeric", "categorical", "target"):
        for name in options.targets if key == "target" else getattr(options, key):
            if name not in first.cells:
                hint = did_you_mean(name, first.cells)
                problems.append(f"data.{key}: {first.where}: no column {name!r}{hint}")
    if problems:
        raise UserError("\n".join(problems))
    names = [name for name in first.cells if name not in (*options.targets, *options.ignore)]
    if not names:
        raise UserError(f"{first.where}: no columns to predict {options.target!r} from")
    seen = (row.cells.get(name, "") for row in head for name in (*names, *options.targets))
    decimal, missing = options.decimal or decimal_of(seen), {"", *options.missing}
    numbers = {name: array("d") for name in names}
    texts: dict[str, Counter[str]] = {name: Counter() for name in names}
    places: dict[str, tuple[str, str]] = {}  # the first text of a column, rather no date; where
    targets = {name: array("d") for name in options.targets}
    classes, count = set[str](), 0
    for row in chain(head, rows):
        if row.cells.keys() != first.cells.keys():
            odd = ", ".join(sorted(row.cells.keys() ^ first.cells.keys()))
            wrong = f"{row.where}: not the columns of {first.where}: {odd}; rename or remove them"
            if found is None:
                raise UserError(wrong)
            found.append(wrong)
            continue
        count += 1
        for name in names:
            if (text := row.cells[name]) not in missing:
                value = None if name in options.categorical else number(text, decimal)
                if value is None:
                    dated = name in places and day(places[name][0]) is not None
                    if name not in places or (dated and day(text) is None):
                        places[name] = text, row.where
                    texts[name][text] += 1
                else:
                    numbers[name].append(value)
        try:
            for name, truths in targets.items():
                text = target_text(row, name, missing)
                if options.task == "regression":
                    truths.append(target_number(row, text, name, options.target_log, decimal))
                else:
                    classes.add(text)
        except UserError as error:
            if found is None:
                raise
            found.append(str(error))
    dates = []
    for name in names:
        days = [] if numbers[name] or name in options.categorical else [*map(day, texts[name])]
        if days and None not in days:
            numbers[name].extend(np.repeat(np.array(days, float), [*texts[name].values()]))
            texts[name].clear()
            dates.append(name)
        message = _check(name, numbers[name], texts[name], places.get(name), options, count)
        problems += [message] if message else []
    if options.task == "classification" and len(classes) < 2:
        only = f"column {options.target!r} has only one class; set another data.target"
        problems.append(f"{options.folder}/train: {only}")
    if found is not None:
        found += problems
        names = [name for name in names if numbers[name] or texts[name]]
    elif problems:
        raise UserError("\n".join(problems))
    curve, means, deviations = CURVES[options.normalize], list[float](), list[float]()
    for values in map(np.array, targets.values()):
        means.append(float(values.mean()) if len(values) else 0.0)
        deviations.append(float(values.std()) or 1.0 if len(values) else 1.0)
    several = isinstance(options.target, list)
    return {
        "target": options.target,
        "task": options.task,
        "numbers": {n: curve(np.array(numbers[n])) for n in names if not texts[n]},
        "dates": dates,  # among the numbers, as days
        "categories": {n: in_order(texts[n]) for n in names if texts[n]},
        "decimal": decimal,
        "missing": sorted(missing),
        "classes": in_order(classes),
        "log": options.task == "regression" and options.target_log,
        "mean": means if several else means[0],
        "deviation": deviations if several else deviations[0],
    }


def _check(
    name: str,
    numbers: Sequence[float],
    texts: Counter[str],
    place: tuple[str, str] | None,
    options: Data,
    count: int,
) -> str | None:
    """The message for a column that is neither numeric nor categorical."""
    if not numbers and not texts:
        return f"column {name!r} is empty in all training rows; list it in data.ignore"
    text, where = place or ("", "")
    if texts and (numbers or name in options.numeric):
        advice = "fix it, or list the column in data.categorical, or the text in data.missing"
        return f"{where}: column {name!r}: {not_a_number(text)}; {advice}"
    form = re.compile(r"(\d{1,4}|[A-Za-z]{3,9})([ ./-])(\d{1,2}|[A-Za-z]{3,9}),?\2\d{1,4}( .*)?")
    if texts and name not in options.categorical and all(map(form.fullmatch, texts)):
        advice = "write dates as 2026-01-31, or list the column in data.categorical or data.ignore"
        return f"{where}: column {name!r}: {text!r} looks like a date; {advice}"
    if len(texts) > max(100, count / 2) and name not in options.categorical:
        advice = "if it only names the row, list it in data.ignore, else in data.categorical"
        return f"{where}: column {name!r} has {len(texts):,} different texts; {advice}"
    return None


def not_a_number(text: str) -> str:
    """The message for a text in place of a number."""
    commas = re.fullmatch(r"[-+]?[\d.]+,\d+", text)
    hint = " (if the comma is a decimal one, set data.decimal=,)" if commas else ""
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", text):
        hint = " (remove commas between thousands; if it is a decimal one, set data.decimal=,)"
    with suppress(ValueError):
        if LARGEST < abs(float(text)) < math.inf:
            return f"{text!r} is above {LARGEST:g}"
    return f"{text!r} is not a finite number{hint}"


def target_text(row: Row, name: str, missing: Container[str]) -> str:
    """The target of a row; UserError if it has none."""
    if (text := row.cells.get(name, "")) in missing:
        said = f" ({text!r}: data.missing)" if text else ""
        advice = "add it, or remove the row"
        raise UserError(f"{row.where}: no value for the target {name!r}{said}; {advice}")
    return text


def target_number(row: Row, text: str, target: str, log: bool, decimal: str) -> float:
    """The target of a row as a number, or its logarithm; UserError if it has none."""
    value, where = number(text, decimal), f"{row.where}: target {target!r}"
    if value is None:
        raise UserError(f"{where}: {not_a_number(text)}; fix it, or for classes set {FOR_CLASSES}")
    if log and value <= 0:
        raise UserError(f"{where}: {text} has no logarithm; set data.target_log=false")
    return math.log(value) if log else value


class Columns:
    """Converts rows to tensors and back, with the result of `fit`.

    Attributes:
        numbers, categories: the names of the columns, in the order of the model's inputs.
        sizes: the number of codes of each categorical column; 0 means missing or unknown.
        several: whether `data.target` is a list, so that targets are (N, T), not (N,).
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self.target, self.classes, self.log = info["target"], list(info["classes"]), info["log"]
        self.several = isinstance(self.target, list)
        self.targets: list[str] = self.target if self.several else [self.target]
        self.decimal, self.missing = info["decimal"], frozenset(info["missing"])
        self.dates = list(info["dates"])
        self.mean, self.deviation = info["mean"], info["deviation"]
        self.units = torch.tensor([self.mean, self.deviation])  # on the device of `decode`
        self.curves: dict[str, Curve] = info["numbers"]
        self.codes: dict[str, dict[str, int]] = {
            name: {text: code for code, text in enumerate(texts, 1)}
            for name, texts in info["categories"].items()
        }
        self.numbers, self.categories = list(self.curves), list(self.codes)
        self.sizes = [1 + len(codes) for codes in self.codes.values()]

    def found(self) -> list[str]:
        """Lines on what was detected rather than configured."""
        dates, comma = ", ".join(self.dates), self.decimal == ","
        lines = [f"dates, as numbers of days: {dates} (else: data.categorical)"] if dates else []
        return [*lines, "decimal sign: a comma (data.decimal)"] if comma else lines

    def tensors(self, rows: Iterable[Row], targets: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, categories and targets of N rows; without `targets`, these are empty.

        Numbers are float32 (N, 2, A): the normalized value, 0 where it is missing; and 1 where it
        is missing, else 0. Categories are int64 (N, B). Targets (N,), or (N, T) for a list of them,
        are float32 with mean 0 and deviation 1, or int64, the index of a class. Raises UserError
        for an invalid row.
        """
        values, codes = array("d"), array("q")
        truths = array("q" if self.classes else "d")
        count = 0
        for row in rows:
            count += 1
            values.extend(self._values(row))
            codes.extend(self._codes(row))
            if targets:
                truths.extend(self._truth(row, name) for name in self.targets)
        raw = np.array(values).reshape(count, len(self.numbers))
        numbers = np.zeros((count, 2, len(self.numbers)), np.float32)
        for column, (known, seen) in enumerate(self.curves.values()):
            numbers[:, 0, column] = np.interp(raw[:, column], known, seen)
        numbers[:, 1] = np.isnan(raw)
        numbers[:, 0][np.isnan(raw)] = 0
        coded = np.array(codes, np.int64).reshape(count, len(self.codes))
        truth = torch.tensor(truths, dtype=torch.int64 if self.classes else torch.float64)
        if self.several:
            truth = truth.view(-1, len(self.targets))
        if not self.classes:
            mean, deviation = torch.tensor([self.mean, self.deviation], dtype=torch.float64)
            truth = ((truth - mean) / deviation).float()
        return torch.from_numpy(numbers), torch.from_numpy(coded), truth

    def _values(self, row: Row) -> list[float]:
        """The numbers of a row, NaN where one is missing; UserError for a text."""
        values = []
        for name in self.numbers:
            text, value = self._cell(row, name), None
            if text in self.missing:
                value = math.nan
            elif name in self.dates:
                value = day(text)
            else:
                value = number(text, self.decimal)
            if value is None:
                kind = "date such as 2026-01-31" if name in self.dates else "number"
                seen = "but all training values of this column are; fix it"
                raise UserError(f"{row.where}: column {name!r}: {text!r} is not a {kind}, {seen}")
            values.append(value)
        return values

    def _truth(self, row: Row, name: str) -> Any:
        """A target of a row: a number, its logarithm if `log`, or the index of its class."""
        text = target_text(row, name, self.missing)
        if not self.classes:
            return target_number(row, text, name, self.log, self.decimal)
        if text not in self.classes:
            hint = did_you_mean(text, self.classes)
            advice = f"add training rows of it, or remove the row{hint}"
            raise UserError(f"{row.where}: no training row has the class {text!r}; {advice}")
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
        """Columns by name, in the units of the files: arrays (N,) with NaN, and lists of texts."""
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
        self.units = self.units.to(outputs.device)
        mean, deviation = self.units
        values = outputs.float() * deviation + mean
        return values.exp() if self.log else values
