"""Pictures of this kind of data."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from .charts import BLUE, INK, ORANGE, PAPER, confusion_matrix, curves, write
from .grid import batch_grid, font

__all__ = ["batch_grid", "class_scores", "confusion_matrix", "curves", "masks", "overlay"]

SIDE = 192  # pixels of a tile
# Class 0 is black: in most data, it is the background. Others by Okabe and Ito.
COLOURS = [(0, 0, 0), (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167)]
NO_CLASS = (128, 128, 128)


def palette(num_classes: int) -> NDArray[np.uint8]:
    """A colour for each class: uint8 (C, 3)."""
    more = range(len(COLOURS), num_classes)
    hues = [colorsys.hsv_to_rgb(0.618 * index % 1, 0.7, 1.0) for index in more]
    colours = [*COLOURS, *(tuple(round(255 * part) for part in hue) for hue in hues)]
    return np.array(colours[:num_classes], dtype=np.uint8)


def overlay(image: ArrayLike, mask: ArrayLike | None, side: int = SIDE) -> Image.Image:
    """Draw a mask, classes (H, W), on an image, floats (C, H, W): as tints, and lines at borders.

    Class 0 has no tint, pixels below 0 are grey. The image is stretched to its full brightness, and
    enlarged by an integer factor or reduced so that its longer side has up to `side` pixels.
    """
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = np.percentile(pixels, (0.5, 99.5))
    pixels = ((pixels - low) / max(high - low, 1e-6)).clip(0, 1) * 255
    pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    longest = max(height, width)
    factor = side // longest if longest <= side else side / longest
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    picture = picture.resize(size, Image.Resampling.BOX)
    if mask is None:
        return picture
    scaled = Image.fromarray(np.asarray(mask, dtype=np.int32))
    classes = np.asarray(scaled.resize(size, Image.Resampling.NEAREST))
    # A line runs where neighbouring pixels differ in class, in the colour of the greater class.
    after = np.pad(classes, ((0, 1), (0, 1)), mode="edge")
    near_by = np.stack([classes, after[1:, :-1], after[:-1, 1:]])
    top, ends = near_by.max(axis=0), np.ptp(near_by, axis=0) > 0
    tint = np.where(top[..., None] < 0, NO_CLASS, palette(max(0, top.max()) + 1)[top.clip(0)])
    weight = np.where(ends, 0.9, np.where(classes == 0, 0, 0.35))[..., None]
    mixed = np.asarray(picture) * (1 - weight) + tint * weight
    return Image.fromarray(mixed.round().astype(np.uint8))


def masks(
    pairs: Sequence[tuple[ArrayLike, ArrayLike | None]],
    titles: Sequence[str],
    path: Path,
    classes: Sequence[str] = (),
) -> None:
    """Save a grid of images (C, H, W) of any sizes, each with its mask (H, W) over it, or none.

    With `classes`, a last tile says which colour each has.
    """
    tiles = []
    for image, mask in pairs:
        picture = overlay(image, mask)
        tile = Image.new("RGB", (SIDE, SIDE), PAPER)
        tile.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
        tiles.append(np.asarray(tile).transpose(2, 0, 1) / 255)
    if classes:
        tiles.append(np.asarray(legend(classes)).transpose(2, 0, 1) / 255)
        titles = [*titles, "classes"]
    batch_grid(np.array(tiles), titles, path)


def legend(classes: Sequence[str], line: int = 24) -> Image.Image:
    """A tile with the colour and the name of each class, as far as there is room."""
    tile, most = Image.new("RGB", (SIDE, SIDE), PAPER), SIDE // line - 1
    draw, letters = ImageDraw.Draw(tile), font("".join(classes))
    colours = [tuple(colour) for colour in palette(len(classes)).tolist()]
    rows: list[tuple[str, Any]] = [*zip(classes, colours, strict=True)][:most]
    left = len(classes) - len(rows)
    rows.append((f"and {left} more", PAPER) if left else ("no class", NO_CLASS))
    for number, (name, colour) in enumerate(rows):
        draw.rectangle((4, number * line + 4, 22, number * line + 18), colour)
        text = name if number else f"{name}: no tint"
        draw.text((30, number * line + 3), text, INK, letters)
    return tile


def class_scores(classes: Sequence[str], scores: dict[str, list[float]], path: Path) -> None:
    """Save bars of `iou` and `dice` for each class, in the order of the classes."""
    from matplotlib.figure import Figure

    names = [name.replace("$", r"\$") for name in classes]  # no TeX mathematics
    figure = Figure((6.4, 1.4 + 0.5 * len(names)), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlim=(0, 1.12), xlabel="overlap, 1 is best")
    places = np.arange(len(names))
    for (name, values), colour, shift in zip(
        scores.items(), (BLUE, ORANGE), (-0.2, 0.2), strict=True
    ):
        bars = axes.barh(places + shift, np.nan_to_num(values), 0.38, color=colour, label=name)
        axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    means = ", ".join(f"mean {name} {np.nanmean(values):.3f}" for name, values in scores.items())
    axes.set_title(means)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    write(path, figure.savefig)


def save_mask(mask: ArrayLike, num_classes: int, path: Path) -> None:
    """Save classes (H, W) as a PNG whose values are the classes, and whose palette shows them."""
    image = Image.fromarray(np.asarray(mask, dtype=np.uint8))
    image.putpalette(palette(num_classes).tobytes())
    write(path, image.save)
