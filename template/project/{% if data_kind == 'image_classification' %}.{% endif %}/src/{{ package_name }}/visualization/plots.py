"""Grids of images with Pillow; charts with matplotlib's object interface: no display, no globals.

Matplotlib is slow to import, so only the functions that draw a chart do it.
"""

import csv
import math
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

BOX = Image.Resampling.BOX  # by a whole factor it repeats pixels, downwards it averages them
PAPER, INK, BLUE, ORANGE, GREY = "#f2f2f2", "#222222", "#1f5fa8", "#d9731a", "#888888"
TILE, LARGEST_TILE, LARGEST_TITLE, GAP, LINE = 96, 224, 160, 8, 16  # pixels
LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "perplexity")


def batch_grid(
    images: ArrayLike, titles: Sequence[str], path: str | Path, columns: int = 8
) -> None:
    """Save a grid of images with a title under each.

    `images` are floats in [0, 1] of shape (N, C, H, W), C 1 or 3: an array or a tensor on the CPU.
    Small ones are enlarged by a whole factor, so that each pixel shows. A newline in one of the N
    `titles` starts another line. Raises ValueError for other shapes, no images or not N titles.
    """
    pixels = np.nan_to_num(np.asarray(images, dtype=np.float32)).clip(0, 1)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size:
        raise ValueError(f"expected images of shape (N, 1 or 3, H, W), found {pixels.shape}")
    count, _, height, width = pixels.shape
    if len(titles) != count:
        raise ValueError(f"expected {count} titles, one for each image, found {len(titles)}")
    tiles = np.broadcast_to((pixels * 255).round().astype(np.uint8), (count, 3, height, width))
    side = max(height, width)
    scale = max(1, TILE // side) if side <= LARGEST_TILE else LARGEST_TILE / side
    size = max(1, round(width * scale)), max(1, round(height * scale))
    font, texts = _font("".join(titles), 13), [title.split("\n") for title in titles]
    longest = math.ceil(max(font.getlength(line) for text in texts for line in text))
    step_x = GAP + max(size[0], min(longest, LARGEST_TITLE))
    step_y = GAP + size[1] + LINE * max(map(len, texts)) + 2
    across, down = min(columns, count), math.ceil(count / columns)
    sheet = Image.new("RGB", (GAP + across * step_x, GAP + down * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (tile, text) in enumerate(zip(tiles.transpose(0, 2, 3, 1), texts, strict=True)):
        row, column = divmod(index, columns)
        middle, top = column * step_x + (step_x + GAP) // 2, row * step_y + GAP
        sheet.paste(Image.fromarray(tile).resize(size, BOX), (middle - size[0] // 2, top))
        for number, line in enumerate(text):
            while font.getlength(line) > step_x - GAP:
                line = line.removesuffix("…")[:-1] + "…"
            draw.text((middle, top + size[1] + 2 + LINE * number), line, INK, font, anchor="ma")
    _write(path, sheet.save)


def worst_mistakes(
    images: ArrayLike,
    truths: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    path: str | Path,
    columns: int = 8,
    limit: int = 32,
) -> None:
    """Save the wrongly classified images, the most confident mistake first; if none, say so.

    `images` are N as for `batch_grid`; `truths` and `predictions` are N class names, `confidences`
    N probabilities in [0, 1] of the predicted classes. The right ones are left out, and at most
    `limit` are drawn. Raises ValueError when the lengths differ.
    """
    pixels = np.asarray(images)
    answers = zip(range(len(pixels)), truths, predictions, confidences, strict=True)
    wrong = sorted((a for a in answers if a[1] != a[2]), key=lambda a: -a[3])[:limit]
    if wrong:
        short = max(len(truth + guess) for _, truth, guess, _ in wrong) <= 4
        title = "{} → {}  {:.0%}" if short else "{}\n→ {}\n{:.0%}"
        titles = [title.format(*answer[1:]) for answer in wrong]
        batch_grid(pixels[[answer[0] for answer in wrong]], titles, path, columns)
    else:
        sheet, text = Image.new("RGB", (480, 96), PAPER), "No mistakes"
        ImageDraw.Draw(sheet).text((240, 48), text, INK, _font(text, 20), anchor="mm")
        _write(path, sheet.save)


def curves(metrics_csv: str | Path, path: str | Path) -> None:
    """Save a run's curves: an axis per metric with its best epoch marked, and the learning rate.

    The table has `epoch`, `learning_rate` and any `train_<metric>`, `valid_<metric>`; an empty cell
    leaves a gap. Raises ValueError when a cell is no number, or a column or every row is missing.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with open(metrics_csv, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"epoch", "learning_rate"} <= rows[0].keys():
        raise ValueError(f"{metrics_csv}: needs epoch, learning_rate and at least one row")
    table = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    names = list(dict.fromkeys(name[6:] for name in table if name[:6] in ("train_", "valid_")))
    epochs, line = table["epoch"], "o" if len(rows) == 1 else "-"  # one point makes no line
    columns = min(3, max(1, len(names)))
    height = math.ceil(len(names) / columns)
    figure = Figure((5.5 * columns, 3.6 * height + 1.6), layout="constrained", dpi=110)
    grid = figure.add_gridspec(height + 1, columns, height_ratios=[3.6] * height + [1])
    for index, name in enumerate(names):
        axes = figure.add_subplot(grid[divmod(index, columns)], title=name)
        for split, colour in (("train", GREY), ("valid", BLUE)):
            if (values := table.get(f"{split}_{name}")) is not None:
                axes.plot(epochs, values, line, color=colour, label=split)
        if values is not None and not np.isnan(values).all():  # valid, the later one
            best = (np.nanargmin if name.endswith(LOWER_IS_BETTER) else np.nanargmax)(values)
            label = f"best: {values[best]:.4g}, epoch {epochs[best]:.0f}"
            axes.plot(epochs[best], values[best], "o", color=ORANGE, mfc="none", ms=10, label=label)
        axes.legend(frameon=False)
    axes = figure.add_subplot(grid[-1, :])
    axes.plot(epochs, table["learning_rate"], line, color=GREY, clip_on=False)
    axes.set(title="learning rate", xlabel="epoch", ylim=(0, None))
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _write(path, figure.savefig)


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], path: str | Path) -> None:
    """Save a confusion matrix, coloured by share of the true class; up to 20 classes with counts.

    `matrix` holds integer counts of shape (C, C): rows are the truth, columns the prediction.
    Longer names are cut at 24 letters. Raises ValueError when the shape is not (C, C) for C names.
    """
    from matplotlib.figure import Figure

    counts, size = np.asarray(matrix), len(classes)
    if counts.shape != (size, size) or not size:
        raise ValueError(f"expected counts of shape ({size}, {size}), found {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right, total = np.trace(counts), counts.sum()
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
    longest, shown = max(map(len, names)), range(0, size, math.ceil(size / 60))
    side = min(14.0, 2.6 + 0.42 * size) + 0.07 * longest  # inches
    figure = Figure((side + 0.8, side), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8, fraction=0.05)
    crowded, font = (longest + 1) * len(shown) > 10 * side, _font_file("".join(names))
    axes.set_xticks(shown, names[:: shown.step], rotation=90 if crowded else 0)
    axes.set_yticks(shown, names[:: shown.step])
    for label in axes.get_xticklabels() + axes.get_yticklabels():
        label.set(fontproperties=font, parse_math=False)
    axes.set_title(f"accuracy {right / max(total, 1):.2%} ({right} of {total})")
    if size <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else INK if count else "#bbbbbb"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    _write(path, lambda file: figure.savefig(file, bbox_inches="tight"))


def _font_file(text: str) -> Path | None:
    """Return a font that has the characters of `text`, if there is one."""
    origin = getattr(find_spec("matplotlib"), "origin", "")  # this way nothing is imported
    usual = Path(origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"  # European letters and "→"
    if all(letter < "\u0530" or letter in "→…" for letter in text):
        return usual if usual.exists() else None
    from matplotlib import font_manager, ft2font

    wanted = set(map(ord, text)) - {ord("\n")}
    files = (font.fname for font in font_manager.fontManager.ttflist if font.weight == 400)
    fits = (file for file in files if wanted <= ft2font.FT2Font(file).get_charmap().keys())
    return Path(next((file for file in fits if "LastResort" not in file), usual))  # all boxes


def _font(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    file = _font_file(text)
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def _write(path: str | Path, save: Callable[[Path], object]) -> None:
    """Let `save` write beside `path`, then rename: a reader never sees half a picture."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
