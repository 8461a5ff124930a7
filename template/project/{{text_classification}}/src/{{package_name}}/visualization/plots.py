"""Pictures of this kind of data."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .charts import GREY, INK, PAPER, confusion_matrix, curves, write

__all__ = ["confusion_matrix", "curves", "text_table"]

FONT: Path | None = None  # a font file with the letters of your texts; None is DejaVu Sans
SIZE, LINE, GAP, WIDEST = 14, 22, 16, 720  # in pixels


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Save rows of text as a picture; cells that are wider than WIDEST are cut off.

    Letters that the font lacks are drawn as escapes, `\\u4f60`.
    """
    file = _font_file()
    font = ImageFont.truetype(file, SIZE)

    def drawn(text: str) -> str:
        known = _letters(file)
        text = "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in text[:400])
        while font.getlength(text) > WIDEST:
            text = text.removesuffix("…")[:-1] + "…"
        return text

    table = [[drawn(cell) for cell in row] for row in [header, *rows]]
    columns = zip(*table, strict=True)
    widths = [max(round(font.getlength(cell)) for cell in column) for column in columns]
    lefts = [GAP + sum(widths[:i]) + i * GAP for i in range(len(widths))]
    size = lefts[-1] + widths[-1] + GAP, LINE * len(table) + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(table):
        top = GAP // 2 + LINE * number
        if number % 2:
            draw.rectangle((0, top, size[0], top + LINE - 1), PAPER)
        for left, cell in zip(lefts, row, strict=True):
            draw.text((left, top + LINE // 2), cell, INK if number else GREY, font, anchor="lm")
    write(path, sheet.save)


@cache
def _letters(file: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(file)).get_charmap())


def _font_file() -> Path:
    from matplotlib import get_data_path

    return FONT or Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
