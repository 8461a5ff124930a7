"""Pictures of this kind of data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .charts import BLUE, GREY, INK, ORANGE, confusion_matrix, curves, write

__all__ = [
    "confusion_matrix",
    "curves",
    "distributions",
    "importance",
    "predictions",
    "residuals",
    "roc",
]

Column = NDArray[Any] | Sequence[str]
"""Numbers (N,), NaN where one is missing, or N texts."""

Numbers = Mapping[str, NDArray[Any]]
"""Numbers (N,) of each target."""

# At most: columns in a picture, categories, ranges of a number, targets.
PANELS, BARS, BINS, TARGETS = 24, 12, 10, 8
COLOURS = (BLUE, ORANGE, "seagreen", "purple", "firebrick", "goldenrod", "teal", GREY)  # of targets


def distributions(columns: Mapping[str, Column], path: Path) -> None:
    """Save a histogram of each column; it has to be fast, because each epoch draws it."""
    figure, panels = _grid(columns, layout=None)
    high = figure.get_figheight()
    figure.subplots_adjust(0.05, 0.35 / high, 0.98, 1 - 0.35 / high, 0.22, 0.42)
    for axes, column in panels:
        if isinstance(column, np.ndarray):
            known = column[~np.isnan(column)]
            counts, edges = np.histogram(known, bins=30)
            axes.stairs(counts, edges, fill=True, color=BLUE)
            axes.locator_params(nbins=5)
            if missing := len(column) - len(known):
                axes.set_title(f"{axes.get_title()} ({missing} missing)")
        else:
            groups = _groups(column)
            counts = np.array([len(rows) for rows in groups.values()])
            axes.barh(range(len(groups)), counts, color=BLUE, alpha=0.35)
            for place, (name, count) in enumerate(zip(groups, counts, strict=True)):
                text = f" {_text(name[:24])}: {count}"
                axes.text(0, place, text, color=ORANGE if name == "missing" else INK, va="center")
            axes.invert_yaxis()
            axes.set(xticks=[], yticks=[])
    write(path, figure.savefig)


def predictions(truths: Numbers, predictions: Numbers, log: bool, path: Path) -> None:
    """Save predicted against true values of each target, and a histogram of the errors."""
    shown = list(truths)[:TARGETS]
    from matplotlib.ticker import LogLocator

    figure = _figure(11, 4.8 * len(shown))
    rows = figure.subplots(len(shown), 2, squeeze=False)
    for name, (left, right) in zip(shown, rows, strict=True):
        truth, predicted = truths[name], predictions[name]
        left.scatter(truth, predicted, s=7, color=BLUE, alpha=0.4, linewidths=0)
        left.axline((truth[0], truth[0]), (truth[0] + 1, truth[0] + 1), color=INK, linewidth=1)
        scale, label = "log" if log else "linear", _text(name)
        left.set(xscale=scale, yscale=scale, xlabel=f"true {label}", ylabel=f"predicted {label}")
        for axis in (left.xaxis, left.yaxis) if log else ():  # the default labels overlap
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter("")
        errors = predicted - truth
        reach = float(np.quantile(np.abs(errors), 0.98)) or 1.0
        right.hist(errors.clip(-reach, reach), bins=60, color=BLUE)
        right.axvline(0, color=INK, linewidth=1)
        right.set(xlabel=f"predicted - true {label} (the farthest 2 % at both ends)", ylabel="rows")
        mean, bias = np.abs(errors).mean(), errors.mean()
        right.set_title(f"mean absolute error {mean:,.4g}, mean {bias:,.4g}")
    _save(figure, path)


def residuals(columns: Mapping[str, Column], errors: Numbers, label: str, path: Path) -> None:
    """Save the errors of each target by each column's values: the median, and the range of 80 %.

    The values of a numeric column are grouped into ranges with equally many rows.
    """
    figure, panels = _grid(columns)
    shown = list(errors)[:TARGETS]
    ends = [-1e-9, 1e-9]
    for axes, column in panels:
        if isinstance(column, np.ndarray):
            edges = np.unique(np.nanquantile(column, np.linspace(0, 1, BINS + 1)))
            places = np.searchsorted(edges[1:-1], column, side="right")
            known = ~np.isnan(column)
            ranges = (np.flatnonzero(known & (places == p)) for p in range(len(edges)))
            parts: list[Any] = [rows for rows in ranges if len(rows)]
            x = [float(np.median(column[rows])) for rows in parts]
        else:
            groups = _groups(column)
            parts, x = list(groups.values()), list(map(float, range(len(groups))))
            _names(axes, list(groups))
        apart = (max(x) - min(x) or 1.0) / max(1, len(x)) / (2 * len(shown))
        for place, name in enumerate(shown):
            spans = [np.quantile(errors[name][rows], (0.1, 0.5, 0.9)) for rows in parts]
            low, middle, high = np.array(spans).T
            colour = COLOURS[place if len(shown) > 1 else int(not isinstance(column, np.ndarray))]
            at = np.array(x) + apart * (place - (len(shown) - 1) / 2)
            reach = [middle - low, high - middle]
            axes.errorbar(at, middle, reach, fmt="o", color=colour, capsize=3, label=_text(name))
            ends += [low.min(), high.max()]
        axes.axhline(0, color=INK, linewidth=0.8)
    for axes, _ in panels:
        axes.set_ylim(1.1 * min(ends), 1.1 * max(ends))
    if len(shown) > 1:
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    figure.supylabel(_text(label))
    _save(figure, path)


def importance(losses: Mapping[str, float], label: str, path: Path) -> None:
    """Save the importance of each column, the highest first."""
    names = sorted(losses, key=losses.__getitem__)[-2 * PANELS :]
    figure = _figure(7, 1.2 + 0.32 * len(names))
    axes = figure.subplots()
    axes.barh([_text(name) for name in names], [losses[name] for name in names], color=BLUE)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(_text(label))
    axes.set_title("with the values of one column shuffled")
    _save(figure, path)


def roc(scores: NDArray[Any], targets: NDArray[Any], classes: Sequence[str], path: Path) -> None:
    """Save the receiver operating characteristic of each class against all others.

    `scores` are (N, C), `targets` (N,). Of two classes only the second is drawn, else up to ten.
    """
    figure = _figure(6, 5.6)
    axes = figure.subplots()
    for c in range(1 if len(classes) == 2 else 0, min(len(classes), 10)):
        positive = targets == c
        order = np.argsort(-scores[:, c], kind="stable")
        last = np.append(np.diff(scores[order, c]) != 0, True)  # the last of rows with equal scores
        hits, misses = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
        rates = [np.append(0, n / max(1, n[-1])) for n in (misses, hits)]
        area = float(np.trapezoid(rates[1], rates[0]))
        axes.plot(*rates, label=f"{_text(classes[c])}: {area:.3f}")
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(frameon=False, title="area under the curve", loc="lower right")
    _save(figure, path)


def _grid(
    columns: Mapping[str, Column], layout: Literal["constrained"] | None = "constrained"
) -> tuple[Any, list[tuple[Any, Column]]]:
    """A figure, and an axis with its title for each column."""
    shown = list(columns.items())[:PANELS]
    across = min(4, len(shown))
    down = math.ceil(len(shown) / across)
    figure = _figure(2.9 * across + 0.4, 2.3 * down + 0.2, layout)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes[len(shown) :]:
        axis.remove()
    panels = []
    for axis, (name, column) in zip(axes, shown, strict=False):
        axis.set_title(_text(name))
        panels.append((axis, column))
    return figure, panels


def _groups(texts: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each text, the most frequent first."""
    rows: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        rows.setdefault(text, []).append(index)
    return dict(sorted(rows.items(), key=lambda item: -len(item[1]))[:BARS])


def _names(axes: Any, names: Sequence[str]) -> None:
    short = [_text(name if len(name) < 14 else f"{name[:12]}…") for name in names]
    turn = 90 if sum(map(len, short)) > 20 else 0
    axes.set_xticks(range(len(short)), short, rotation=turn)


def _figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Any:
    from matplotlib.figure import Figure

    return Figure((width, height), layout=layout, dpi=100)


def _text(name: str) -> str:
    return name.replace("$", r"\$")  # matplotlib reads $ as mathematics


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    write(path, figure.savefig)
