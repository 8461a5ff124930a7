"""Pictures of this kind of data."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from .charts import curves, write
from .grid import batch_grid, font

__all__ = ["Mark", "batch_boxes", "curves", "draw_boxes", "precision_recall", "results"]

TRUTH, MISSED, RIGHT, WRONG = "#ffffff", "#ff5c5c", "#4dc3ff", "#ffb000"  # seen on dark, too
TILE, COLUMNS = 240, 4  # pixels; of the sheet of results


class Mark(NamedTuple):
    """A box in an image: left, top, right, bottom in its pixels."""

    box: Sequence[float]
    colour: str = TRUTH
    text: str = ""


def paint(image: Image.Image, marks: Sequence[Mark], side: int) -> Image.Image:
    """The image in colour, scaled so that its longer side is `side`, with boxes on it."""
    scale = side / max(image.size)
    shape = [max(1, round(length * scale)) for length in image.size]
    picture = image.convert("RGB").resize((shape[0], shape[1]), Image.Resampling.BILINEAR)
    draw, letters = ImageDraw.Draw(picture), font("".join(mark.text for mark in marks))
    for mark in marks:
        left, top, right, bottom = (round(value * scale) for value in mark.box)
        corners = left, top, max(left + 1, right - 1), max(top + 1, bottom - 1)
        draw.rectangle(corners, outline=mark.colour, width=1 if side < 400 else 2)
        if mark.text:
            room = picture.width - round(letters.getlength(mark.text))
            place = max(0, min(left + 2, room)), max(0, top - 18)
            draw.rectangle(draw.textbbox(place, mark.text, letters), fill="#000000")
            draw.text(place, mark.text, mark.colour, letters)
    return picture


def batch_boxes(
    images: ArrayLike,
    boxes: Sequence[Sequence[Sequence[float]]],
    titles: Sequence[str],
    path: Path,
    names: Sequence[Sequence[str]] | None = None,
) -> None:
    """Save images, floats (N, C, H, W) from 0 to 1, each with its named boxes and a title."""
    tiles = []
    for image, some, texts in zip(
        np.asarray(images), boxes, names or [[""] * len(some) for some in boxes], strict=True
    ):
        marks = [Mark(box, text=text) for box, text in zip(some, texts, strict=True)]
        tiles.append(np.asarray(paint(_picture(image), marks, TILE)))
    batch_grid(np.stack(tiles).transpose(0, 3, 1, 2) / 255, titles, path)


def draw_boxes(image: Image.Image, marks: Sequence[Mark], path: Path) -> None:
    """Save an image with boxes; a small one enlarged."""
    write(path, paint(image, marks, max(512, *image.size)).save)


def results(images: Sequence[ArrayLike], marks: Sequence[Sequence[Mark]], path: Path) -> None:
    """Save images (C, H, W), at least one, with boxes that were found, missed or wrong."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = Figure((3.3 * columns, 3.3 * rows + 0.5), layout="constrained", dpi=100)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, pixels, some in zip(grid, images, marks, strict=False):
        image = np.asarray(pixels)
        axes.imshow(_picture(image).convert("RGB"))
        for (left, top, right, bottom), colour, text in some:
            line = "--" if colour == TRUTH else "-"
            sides = right - left, bottom - top
            axes.add_patch(
                Rectangle((left - 0.5, top - 0.5), *sides, fill=False, ec=colour, ls=line, lw=1.6)
            )
            back = {"facecolor": "black", "alpha": 0.6, "pad": 0.8, "edgecolor": "none"}
            if text:
                # In the right half, a text ends at the box, so that it stays within the image.
                side, x = ("left", left) if left + right < image.shape[-1] else ("right", right)
                label = axes.text(x, top - 1, text, color=colour, fontsize=9, bbox=back)
                label.set(ha=side, va="bottom")
    meanings = {"object": TRUTH, "found": RIGHT, "missed": MISSED, "false alarm": WRONG}
    handles = [
        Rectangle((0, 0), 1, 1, fc="#444444", ec=colour, ls="--" if colour == TRUTH else "-", lw=2)
        for colour in meanings.values()
    ]
    size = {"handlelength": 3.0, "handleheight": 1.6}  # dashes need the room
    figure.legend(handles, meanings, loc="outside upper center", ncols=4, frameon=False, **size)
    write(path, figure.savefig)


def precision_recall(precision: NDArray[np.float64], path: Path) -> None:
    """Save curves from precision by overlap (10), recall (101) and class, -1 for unknown."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure((6.8, 4.2), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    known = precision[:, :, (precision > -1).all(axis=(0, 1))]
    recall = np.linspace(0, 1, precision.shape[1])
    for index in range(0, len(precision), 2):
        if known.size:
            mean = known[index].mean(axis=1)
            colour = colormaps["viridis"](index / len(precision))
            label = f"{0.5 + 0.05 * index:.2f}: {mean.mean():.3f}"
            axes.plot(recall, mean, color=colour, label=label)
    axes.set_title("mean over classes" if known.shape[2] > 1 else "")
    if known.size:
        title = "average precision\nby overlap"
        figure.legend(title=title, frameon=False, loc="outside right upper")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    write(path, figure.savefig)


def _picture(image: NDArray[np.float32]) -> Image.Image:
    """Convert floats (C, H, W) to a Pillow image."""
    pixels = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
