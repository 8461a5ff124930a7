"""Charts that any kind of data can use, with matplotlib.

It is slow to import, so only functions that draw import it; it needs no display.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

PAPER, INK, BLUE, ORANGE, GREY = "#f2f2f2", "#222222", "#1f5fa8", "#d9731a", "#888888"


def curves(metrics_csv: Path, path: Path) -> None:
    """Plot a run's metrics, one chart each: `valid_<metric>`, and `train_<metric>` if any."""
    import yaml
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    table = np.atleast_1d(np.genfromtxt(metrics_csv, delimiter=",", names=True))
    columns = table.dtype.names or ()
    names = [name[6:] for name in columns if name.startswith("valid_")]
    line = "o" if len(table) == 1 else "-"  # one point makes no line
    unit = "epoch" if len({*table["epoch"]}) == len(table) else "step"
    across = min(3, len(names) + 1)
    rows = math.ceil((len(names) + 1) / across)
    figure = Figure((5 * across, 3.6 * rows), layout="constrained", dpi=110)
    *charts, last = (figure.add_subplot(rows, across, i + 1) for i in range(len(names) + 1))
    for name, axes in zip(names, charts, strict=True):
        for split, colour in (("train", GREY), ("valid", BLUE)):
            if (column := f"{split}_{name}") in columns:
                axes.plot(table[unit], table[column], line, color=colour, label=split)
        axes.set(title=name, xlabel=unit)
        axes.legend(frameon=False)
    last.plot(table[unit], table["learning_rate"], line, color=ORANGE)
    last.set(title="learning rate", xlabel=unit, ylim=(0, None))
    if (config := metrics_csv.with_name("config.yaml")).is_file():
        rule = yaml.safe_load(config.read_text(encoding="utf-8"))["checkpoint"]
        values = table[f"valid_{rule['monitor']}"] * (1 if rule["mode"] == "max" else -1)
        best = table[unit][np.argmax(np.nan_to_num(values, nan=-np.inf))]
        figure.suptitle(f"dotted: the best {unit}, {best:.0f}, by {rule['monitor']}", fontsize=10)
        for axes in figure.axes:
            axes.axvline(best, color=ORANGE, linestyle=":", zorder=0)
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    write(path, figure.savefig)


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], path: Path) -> None:
    """Draw counts (C, C), a row per true class, coloured by share; numbers for up to 20 classes."""
    from matplotlib.figure import Figure

    counts, size = np.asarray(matrix), len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right, total = np.trace(counts), counts.sum()
    names = [name.replace("$", r"\$") for name in classes]  # no TeX mathematics
    longest, step = max(map(len, names)), math.ceil(size / 60)
    side = min(14.0, 2.6 + 0.42 * size) + 0.07 * longest
    figure = Figure((side + 0.8, side), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set_xticks(range(0, size, step), names[::step], rotation=90 if longest > 3 else 0)
    axes.set_yticks(range(0, size, step), names[::step])
    axes.set_title(f"accuracy {right / max(total, 1):.2%} ({right} of {total})")
    if size <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else INK if count else "#bbbbbb"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    write(path, figure.savefig)


def font_for(text: str) -> tuple[str, str]:
    """An installed font with most of the letters that DejaVu Sans may lack: its name and file."""
    letters = {ord(letter) for letter in text if letter >= "\u0900" and letter.isalpha()}
    if not letters:
        return "DejaVu Sans", ""
    from matplotlib.font_manager import fontManager, get_font

    fonts = [entry for entry in fontManager.ttflist if "Last Resort" not in entry.name]
    missing = [len(letters - get_font(font.fname).get_charmap().keys()) for font in fonts]
    if min(missing):
        print("warning: no font has all letters of a picture; install a Noto font", file=sys.stderr)
    best = fonts[missing.index(min(missing))]
    return best.name, best.fname


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write beside `path`, then rename: a reader never sees half a picture."""
    figure: Any = getattr(save, "__self__", None)
    if hasattr(figure, "findobj"):  # a figure of matplotlib
        texts = figure.findobj(lambda artist: hasattr(artist, "set_fontfamily"))
        family = ["DejaVu Sans", font_for("".join(text.get_text() for text in texts))[0]]
        for text in texts:
            text.set_fontfamily(family)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
