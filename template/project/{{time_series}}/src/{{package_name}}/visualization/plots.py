"""Pictures of this kind of data."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .charts import BLUE, GREY, INK, ORANGE, curves, write

__all__ = ["curves", "errors", "forecasts", "windows"]

Values = NDArray[np.float32]
MOST = 6  # maximum series in a picture


def windows(past: Values, future: Values, columns: Sequence[str], path: Path) -> None:
    """Save pasts (N, C, context) and futures (N, C, horizon): one series of each window.

    They are drawn one below the other in a single chart, which is fast, and standardized by mean
    and deviation of their past.
    """
    from matplotlib.figure import Figure

    now, names = past.shape[2], [_plain(columns[i % len(columns)]) for i in range(len(past))]
    steps = np.arange(1 - now, 1 + future.shape[2])
    figure = Figure((10, 0.6 * len(past) + 1), layout="constrained", dpi=100)
    axes = figure.add_subplot(xlabel="steps from the last known one")
    for i in range(len(past)):
        values = np.concatenate([past[i], future[i]], axis=1)[i % len(columns)]
        values = (values - values[:now].mean()) / (values[:now].std() or 1.0) - 5.0 * i
        axes.plot(steps[:now], values[:now], color=BLUE, lw=1.1, label="past: the model sees it")
        ahead = slice(now - 1, None)
        axes.plot(steps[ahead], values[ahead], color=ORANGE, lw=1.4, label="future: it forecasts")
    axes.set_yticks(-5.0 * np.arange(len(past)), names)
    axes.set_xlim(steps[0], steps[-1])
    axes.axvspan(0, steps[-1], color=ORANGE, alpha=0.08, lw=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    _legend(figure, entries=2)
    write(path, figure.savefig)


def forecasts(
    times: Sequence[datetime | float],
    truth: Values,
    ways: Mapping[str, Mapping[int, Values]],
    columns: Sequence[str],
    path: Path,
    bands: Mapping[int, Values] | None = None,
    levels: Sequence[float] = (),
) -> None:
    """Save forecasts, and the truth (C, T) from a little before them.

    `ways` are kinds of forecasts, such as "model": values (C, horizon) by the first row of each.
    `bands` are quantiles (C, horizon, levels) by the first row; the outermost ones are named.
    """
    parts = next(iter(ways.values()))
    length = next(iter(parts.values())).shape[1]
    rows = slice(max(0, min(parts) - length), max(parts) + length)
    figure, charts = _charts(min(MOST, len(columns)), across=1, width=10, height=1.6)
    for series, axes in enumerate(charts):
        axes.plot(times[rows], truth[series, rows], color=INK, lw=1, label="truth")
        for start, band in (bands or {}).items():
            for low in range(len(levels) // 2):
                ends = band[series][:, low], band[series][:, -1 - low]
                named = f"{levels[0]:.4g} to {levels[-1]:.4g}"
                label = named if (start, low) == (min(bands or {}), 0) else None
                _band(axes, times[start : start + length], ends, label)
        for (name, made), colour in zip(ways.items(), (BLUE, ORANGE), strict=False):
            for start, values in made.items():
                span = times[start : start + length]
                style: Any = {"lw": 1.6} if length > 1 else {"marker": "o", "ms": 3}
                label = name if start == min(made) else None
                axes.plot(span, values[series], color=colour, label=label, **style)
                axes.axvline(times[start], color=GREY, lw=0.4, alpha=0.5)
        axes.set_title(_plain(columns[series]), fontsize=9, loc="left")
    _legend(figure)
    write(path, figure.savefig)


def _band(axes: Any, span: Sequence[Any], ends: tuple[Any, Any], label: str | None) -> None:
    """Draw an interval; of a single step as a line."""
    if len(span) > 1:
        axes.fill_between(span, *ends, color=BLUE, alpha=0.18, lw=0, label=label)
    else:
        axes.vlines(span, *ends, color=BLUE, alpha=0.4, lw=3, label=label)


def errors(ways: Mapping[str, Values], columns: Sequence[str], path: Path) -> None:
    """Save the mean absolute error (C, horizon) of each kind of forecast by steps ahead."""
    shown = min(MOST, len(columns))
    figure, charts = _charts(shown, across=min(3, shown), width=3.6, height=2.4)
    for series, axes in enumerate(charts):
        for (name, values), colour in zip(ways.items(), (BLUE, ORANGE, GREY), strict=False):
            steps = np.arange(1, values.shape[1] + 1)
            axes.plot(steps, values[series], ".-", color=colour, label=name)
        axes.set_ylim(0, None)
        axes.set_title(_plain(columns[series]), fontsize=9)
    figure.supxlabel("steps ahead", fontsize=9)
    figure.supylabel("mean absolute error", fontsize=9)
    _legend(figure)
    write(path, figure.savefig)


def _charts(count: int, across: int, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    down = -(-count // across)
    size = max(5.0, width * across), height * down + 0.7
    figure = Figure(size, layout="constrained", dpi=100)
    charts = [figure.add_subplot(down, across, i + 1) for i in range(count)]
    for axes in charts:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, charts


def _legend(figure: Any, entries: int | None = None) -> None:
    handles, labels = (both[:entries] for both in figure.axes[0].get_legend_handles_labels())
    where = "outside upper center"
    figure.legend(handles, labels, loc=where, ncols=len(labels), frameon=False, fontsize=9)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # matplotlib reads $ as mathematics
