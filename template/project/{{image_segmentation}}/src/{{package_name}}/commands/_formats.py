"""Masks: the formats that `import-data` reads, and how it draws and writes masks."""

import base64
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import UserError
from ._annotations import FORMATS, MAX_PIXELS, Item, Point, Report, Shape, sizes_of, used_classes
from ._coco import coco
from ._labelme import labelme
from ._masks import IGNORED, NO_CLASS, masks, read_mask
from ._yolo import yolo

BACKGROUND = ("background", "_background_")
Reader = Callable[[Path, Report], Iterator[Item]]


def by_size(read: Reader) -> Reader:
    """A reader that gives the largest objects first: in some formats, their order means nothing."""

    def ordered(source: Path, report: Report) -> Iterator[Item]:
        for item in read(source, report):
            yield item._replace(shapes=sorted(item.shapes, key=lambda shape: -area(shape)))

    return ordered


def area(shape: Shape) -> float:
    """The area of the box of an object."""
    left, top, right, bottom = shape.box
    return (right - left) * (bottom - top)


def draw(item: Item, classes: list[str]) -> Any:
    """The mask of an image; a later object covers an earlier one."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", item.size)
    for shape in item.shapes:
        value = NO_CLASS if shape.name in IGNORED else classes.index(shape.name)
        if isinstance(shape.pixels, dict):
            part = run_lengths(shape.where, shape.pixels, item.size)
            mask.paste(value, mask=Image.fromarray(part))
        elif isinstance(shape.pixels, str):
            part, (left, top) = small_mask(shape), (int(shape.box[0]), int(shape.box[1]))
            mask.paste(value, (left, top), part)
        elif not shape.polygons:
            raise UserError(f"{shape.where}: has no polygon or mask, only a box; draw one")
        for polygon in shape.polygons:
            if not shape.outline:
                mask.paste(value, mask=Image.fromarray(inside(polygon, item.size)))
            elif any(abs(n) > 10 * max(item.size) for point in polygon for n in point):
                raise UserError(f"{shape.where}: is far outside the image; fix or remove it")
            else:
                ImageDraw.Draw(mask).polygon(polygon, fill=value, outline=value)
    return mask


def inside(polygon: list[Point], size: tuple[int, int]) -> Any:
    """The pixels whose centres are inside a polygon, by the even-odd rule."""
    import numpy as np

    (width, height), last = size, polygon[-1]
    crossings = np.zeros((height, width + 1), bool)
    for point in polygon:
        (x, y), (x2, y2), last = last, point, point
        if y != y2:
            ends = (math.ceil(edge - 0.5) for edge in (min(y, y2), max(y, y2)))
            first, end = (min(max(0, row), height) for row in ends)
            rows = np.arange(first, end)
            columns = np.ceil(x + (rows + 0.5 - y) * (x2 - x) / (y2 - y) - 0.5)
            crossings[rows, columns.clip(0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings[:, :width], axis=1)


def small_mask(shape: Shape) -> Any:
    """The mask of a labelme shape, which covers only the shape's box."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.pixels)), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError("too large")
            return image.convert("L").point(lambda value: 255 * (value > 0))
    except Exception as error:  # PIL raises a dozen kinds
        raise UserError(f"{shape.where}: its mask is not a PNG ({error}); draw it again") from error


def run_lengths(where: str, rle: dict[str, Any], size: tuple[int, int]) -> Any:
    """Decode COCO's run lengths, which go down the columns, as numbers or as compressed text."""
    import numpy as np

    counts: Any = rle.get("counts")
    if isinstance(counts, str):
        found, value, shift = list[int](), 0, 0
        for letter in counts:
            bits = ord(letter) - 48
            if not 0 <= bits < 64 or shift > 30:
                raise UserError(f"{where}: damaged run lengths; export it again")
            value, shift = value | (bits & 31) << shift, shift + 5
            if not bits & 32:
                value -= (bits & 16 and 1) << shift
                found.append(value + (found[-2] if len(found) > 2 else 0))
                value = shift = 0
        counts = found
    whole = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
    if not whole or sum(counts) != size[0] * size[1] or rle.get("size") != [*size[::-1]]:
        raise UserError(f"{where}: the run lengths do not fit the image; export it again")
    return np.repeat(np.arange(len(counts)) % 2 > 0, counts).reshape(size).T


def class_names(items: list[Item], report: Report) -> list[str]:
    """The classes: those listed, for mask files; else the background and the objects' classes."""
    if any(isinstance(s.pixels, tuple) for item in items for s in item.shapes):
        return report.classes
    names = [name for name in used_classes(items, report) if name not in IGNORED]
    ground = next((name for name in names if name in BACKGROUND), BACKGROUND[0])
    return [ground, *(name for name in names if name != ground)]


def write(folder: Path, items: list[Item], classes: list[str], report: Report) -> None:
    """Write `folder`/masks/, and classes.txt beside `folder`."""
    import numpy as np
    from PIL import Image

    (folder.parent / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for item in items:
        with report.guard():
            if item.shapes and isinstance(item.shapes[0].pixels, tuple):
                path, colours = item.shapes[0].pixels
                values = read_mask(path, colours)
                if values.shape != item.size[::-1]:
                    found = f"{values.shape[1]} x {values.shape[0]}, its image {item.size}"
                    raise UserError(f"{path}: is {found}; make them the same")
                if wrong := {*np.unique(values).tolist()} - {*range(len(classes)), NO_CLASS}:
                    rule = f"the classes are 0 to {len(classes) - 1}, and 255 for none"
                    raise UserError(f"{path}: has the value {min(wrong)}; {rule}")
                mask = Image.fromarray(values.astype(np.uint8))
            else:
                mask = turned(draw(item, classes), item)
            target = folder / "masks" / f"{place(item.name)}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            mask.save(target)


def turned(mask: Any, item: Item) -> Any:
    """Turn a mask upright, as its image is read, if it was drawn on the stored pixels."""
    from PIL import Image

    if item.size == sizes_of(item.file)[1]:
        return mask
    with Image.open(item.file, formats=FORMATS) as image:
        turns = Image.Transpose
        way = {5: turns.TRANSPOSE, 6: turns.ROTATE_270, 7: turns.TRANSVERSE, 8: turns.ROTATE_90}
        return mask.transpose(way[image.getexif()[0x0112]])


def place(name: str) -> str:
    """The name that a mask shares with its image."""
    return PurePosixPath(name).with_suffix("").as_posix()


READERS = {"masks": masks, "labelme": labelme, "yolo": by_size(yolo), "coco": by_size(coco)}
