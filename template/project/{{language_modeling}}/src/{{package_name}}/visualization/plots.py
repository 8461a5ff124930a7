"""Pictures of this kind of data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .charts import BLUE, curves, write

__all__ = ["PAGE", "batch_page", "curves", "position_curve", "surprise_page", "write"]

COLUMNS, PAGE = 96, 1600  # characters of a line, and of a page
DPI, SIZE, CELL = 100, 9.568, 8  # at this size a character is a whole number of pixels wide
MARKS = {"\n": "↵", "\t": "→", "": "∎"}  # "" ends a document
LOST = "□"  # an unknown character, or one that is not in the font


def batch_page(windows: Sequence[Sequence[str]], path: Path) -> None:
    """Save windows of characters, one below the other, special ones on a blue background."""
    values = [[0.6 if sign in MARKS or sign == "\ufffd" else 0.0 for sign in w] for w in windows]
    title = "↵ ends a line, ∎ a document; □ is unknown, or not in this font"
    _page(windows, values, path, title, "Blues", (0, 1), breaks=())


def surprise_page(signs: Sequence[str], bits: ArrayLike, label: str, path: Path) -> None:
    """Save characters on background colours that show the surprise of each, in bits."""
    title = "How surprising the model found each character of the text, given those before it"
    _page([signs], [np.asarray(bits)], path, title, "OrRd", (0, 10), ("\n", ""), label)


def position_curve(bits: ArrayLike, label: str, path: Path) -> None:
    """Save mean bits (L,) by position in the window: how much does a longer context help?"""
    from matplotlib.figure import Figure

    values = np.asarray(bits)
    figure = Figure((7, 3.6), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlabel="position in the window", ylabel=label)
    axes.plot(np.arange(1, len(values) + 1), values, ".-", color=BLUE, markersize=4)
    axes.set(ylim=(0, None), title="Surprise by position: later characters have more context")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    write(path, figure.savefig)


def _page(
    blocks: Sequence[Sequence[str]],
    values: Sequence[ArrayLike],
    path: Path,
    title: str,
    colours: str,
    limits: tuple[float, float],
    breaks: Sequence[str],
    label: str = "",
) -> None:
    """Save blocks of characters on coloured backgrounds, with a colour bar if there is a label.

    A line ends at the end of a block, when it is full, or after one of `breaks`.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = FontProperties(family="DejaVu Sans Mono", size=SIZE)  # comes with matplotlib
    drawn = get_font(findfont(font)).get_charmap()
    columns = min(COLUMNS, max(64, *map(len, blocks)))
    lines, grounds = list[str](), list[np.ndarray]()
    for block, ground in zip(blocks, map(np.asarray, values), strict=True):
        start = 0
        for index, sign in enumerate(block, 1):
            if sign in breaks or index - start == columns or index == len(block):
                signs = [MARKS.get(sign, sign) for sign in block[start:index]]
                lines.append("".join(s if ord(s) in drawn else LOST for s in signs))
                grounds.append(np.pad(ground[start:index], (0, columns - index + start)))
                start = index
        lines.append("")
        grounds.append(np.zeros(columns))
    rows, grounds = len(lines) - 1, grounds[:-1]  # without the gap at the end
    width, height = columns * CELL / DPI, rows * 2.2 * CELL / DPI  # inches
    extra = 0.9 if label else 0.0
    figure = Figure((width + 0.3 + extra, height + 0.5), dpi=DPI)
    whole = figure.get_size_inches()
    box = 0.15 / whole[0], 0.1 / whole[1], width / whole[0], height / whole[1]
    axes = figure.add_axes(box)
    extent = (0, columns, rows, 0)
    image = axes.imshow(grounds, colours, aspect="auto", extent=extent, alpha=0.75)
    image.set_clim(*limits)
    axes.axis("off")
    axes.set_title(title, fontsize=10, loc="left")
    for row, line in enumerate(lines[:rows]):
        y = row + 0.5
        axes.text(0, y, line, va="center_baseline", fontproperties=font, parse_math=False)
    if label:
        bar = figure.add_axes((box[0] + box[2] + 0.1 / whole[0], box[1], 0.15 / whole[0], box[3]))
        figure.colorbar(image, cax=bar, label=label)
    write(path, figure.savefig)
