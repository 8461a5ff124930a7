"""Pictures: grids of images with Pillow, charts with matplotlib.

Matplotlib is slow to import, so only what draws a chart does; it needs no display.
"""

import math
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, BLUE, ORANGE, GREY = "#f2f2f2", "#222222", "#1f5fa8", "#d9731a", "#888888"
COLUMNS, TILE, LARGEST_TITLE, GAP, LINE = 8, 96, 160, 8, 16  # all but the first in pixels


def batch_grid(images: ArrayLike, titles: Sequence[str], path: Path) -> None:
    """Save a grid of images, floats (N, C, H, W) from 0 to 1 with C 1 or 3, each with its title.

    Small images are enlarged by a whole factor, so that each pixel shows.
    """
    pixels = (np.nan_to_num(np.asarray(images)).clip(0, 1) * 255).round().astype(np.uint8)
    count, _, height, width = pixels.shape
    tiles = np.broadcast_to(pixels, (count, 3, height, width)).transpose(0, 2, 3, 1)
    side = max(height, width)
    scale = max(1, TILE // side) if side <= 2 * TILE else 2 * TILE / side
    size = max(1, round(width * scale)), max(1, round(height * scale))
    font, texts = _font(), [title.split("\n") for title in titles]
    longest = math.ceil(max(font.getlength(line) for text in texts for line in text))
    step_x = GAP + max(size[0], min(longest, LARGEST_TITLE))
    step_y = GAP + size[1] + LINE * max(map(len, texts)) + 2
    rows = math.ceil(count / COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, count) * step_x + GAP, rows * step_y + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(index, COLUMNS)
        middle, top = column * step_x + (step_x + GAP) // 2, row * step_y + GAP
        picture = Image.fromarray(tile).resize(size, Image.Resampling.BOX)
        sheet.paste(picture, (middle - size[0] // 2, top))
        for number, line in enumerate(text):
            while font.getlength(line) > step_x - GAP:
                line = line.removesuffix("…")[:-1] + "…"
            draw.text((middle, top + size[1] + 2 + LINE * number), line, INK, font, anchor="ma")
    _write(path, sheet.save)


def worst_mistakes(mistakes: Sequence[tuple[ArrayLike, str, str, float]], path: Path) -> None:
    """Save images (C, H, W) with their class, the class they were taken for, and how surely."""
    titles = [f"{truth}\n→ {taken}\n{share:.0%}" for _, truth, taken, share in mistakes]
    images = np.array([np.asarray(image) for image, _, _, _ in mistakes] or np.ones((1, 1, 1, 1)))
    batch_grid(images, titles or ["no mistakes"], path)


def curves(metrics_csv: Path, path: Path) -> None:
    """Save an axis for each metric: a run's `train_<metric>` and `valid_<metric>` by `epoch`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    table = np.atleast_1d(np.genfromtxt(metrics_csv, delimiter=",", names=True))
    names = [name[6:] for name in table.dtype.names or () if name.startswith("valid_")]
    line = "o" if len(table) == 1 else "-"  # one point makes no line
    figure = Figure((5 * len(names) + 5, 3.6), layout="constrained", dpi=110)
    *charts, last = (figure.add_subplot(1, len(names) + 1, i + 1) for i in range(len(names) + 1))
    for name, axes in zip(names, charts, strict=True):
        for split, colour in (("train", GREY), ("valid", BLUE)):
            axes.plot(table["epoch"], table[f"{split}_{name}"], line, color=colour, label=split)
        axes.set(title=name, xlabel="epoch")
        axes.legend(frameon=False)
    last.plot(table["epoch"], table["learning_rate"], line, color=ORANGE)
    last.set(title="learning rate", xlabel="epoch", ylim=(0, None))
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _write(path, figure.savefig)


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], path: Path) -> None:
    """Save counts (C, C), rows are the truth; coloured by share, with numbers up to 20 classes."""
    from matplotlib.figure import Figure

    counts, size = np.asarray(matrix), len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right, total = np.trace(counts), counts.sum()
    names = [name.replace("$", r"\$") for name in classes]  # not mathematics
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
    _write(path, figure.savefig)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Matplotlib's has more letters than Pillow's; to look where it lies imports nothing.
    matplotlib = Path(getattr(find_spec("matplotlib"), "origin", None) or "")
    file = matplotlib.with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(file, 13) if file.is_file() else ImageFont.load_default(13)


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write beside `path`, then rename: a reader never sees half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
