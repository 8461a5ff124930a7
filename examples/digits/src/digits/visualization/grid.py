"""Images in a grid, with Pillow."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from .charts import INK, PAPER, font_for, write

COLUMNS, TILE, LARGEST_TITLE, GAP, LINE = 8, 128, 180, 8, 19  # all but the first in pixels


def batch_grid(images: ArrayLike, titles: Sequence[str], path: Path) -> None:
    """Save a grid of images, floats (N, C, H, W) from 0 to 1 with C 1 or 3, each with its title."""
    pixels = (np.nan_to_num(np.asarray(images)).clip(0, 1) * 255).round().astype(np.uint8)
    count, _, height, width = pixels.shape
    tiles = np.broadcast_to(pixels, (count, 3, height, width)).transpose(0, 2, 3, 1)
    side = max(height, width)
    # Small images are enlarged by an integer factor, so that single pixels can be seen.
    scale = max(1, TILE // side) if side <= 2 * TILE else 2 * TILE / side
    size = max(1, round(width * scale)), max(1, round(height * scale))
    letters, texts = font("".join(titles)), [title.split("\n") for title in titles]
    longest = math.ceil(max(letters.getlength(line) for text in texts for line in text))
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
            while letters.getlength(line) > step_x - GAP:
                line = line.removesuffix("…")[:-1] + "…"
            draw.text((middle, top + size[1] + 2 + LINE * number), line, INK, letters, anchor="ma")
    write(path, sheet.save)


def font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Matplotlib's font has more letters than Pillow's; find_spec imports nothing.
    spec = find_spec("matplotlib")
    folder = Path(spec.origin if spec and spec.origin else "").parent / "mpl-data/fonts/ttf"
    file = Path((font_for(text)[1] if spec else "") or folder / "DejaVuSans.ttf")
    return ImageFont.truetype(file, 15) if file.is_file() else ImageFont.load_default(15)
