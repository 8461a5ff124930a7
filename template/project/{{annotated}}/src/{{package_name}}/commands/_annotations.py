"""Types and functions that all readers of `import-data` share."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from ..errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # others may start programs
MAX_PIXELS = 89_478_485  # where Pillow warns
MAX_BYTES = 2_000_000_000  # of COCO's single file; a file for one image has MAX_TEXT
MAX_TEXT = 100_000_000  # labelme may put the whole image into it
SPLIT = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:\d{4})?", re.IGNORECASE)
Point = tuple[float, float]
Box = tuple[float, float, float, float]
NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)


class Shape(NamedTuple):
    """An object of an image."""

    where: str  # file and line, for messages
    name: str  # of its class
    box: Box  # left, top, right, bottom in pixels, as annotated
    polygons: Sequence[list[Point]] = ()
    pixels: Any = None  # COCO's run lengths, or labelme's mask as text
    ignore: bool = False  # COCO's crowds, VOC's difficult objects
    instance: Any = None  # the same for all shapes of one object
    outline: bool = False  # whether pixels on the edge of a polygon are part of it


class Item(NamedTuple):
    """An image and its objects."""

    split: str  # train, valid or test; empty if the source has none
    name: str  # below images/
    file: Path
    size: tuple[int, int]  # width, height of the pixels that the objects were drawn on
    shapes: list[Shape]


class Report:
    """Problems, and notes on what was changed, one line each; and the classes in their order."""

    def __init__(self) -> None:
        self.problems, self.notes, self.classes = list[str](), list[str](), list[str]()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Record a UserError as a problem, so that reading continues with the next line."""
        try:
            yield
        except UserError as error:
            self.problems.append(str(error))


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """The text of a file; UserError if it is missing, too large, or not UTF-8."""
    try:
        if path.stat().st_size > most:
            raise UserError(f"{path}: has more than {most:,} bytes; split it, or remove images")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); add or remove it") from error


def read_json(path: Path, most: int = MAX_TEXT) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(read_text(path, most))
    except (ValueError, RecursionError) as error:  # also for thousands of digits or levels
        raise UserError(f"{path}: not JSON ({error}); export it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: should be a JSON object, found a {type(content).__name__}")
    return content


def rows_of(where: str, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under a key of a JSON object."""
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{where}: has no list of objects {key!r}; export it again")
    return rows


def numbers(where: str, values: Iterable[Any]) -> list[float]:
    """The values as numbers; UserError for text, NaN, and numbers too large for a pixel."""
    found = list[float]()
    for value in values:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) < 1e9:
            raise UserError(f"{where}: {str(value)[:40]!r} is not a number of pixels; fix it")
        found.append(number)
    return found


def pairs(where: str, values: Iterable[Any]) -> list[Point]:
    """x, y, x, y, … as points."""
    flat = numbers(where, values)
    if not flat or len(flat) % 2:
        raise UserError(f"{where}: {len(flat)} coordinates; should be pairs of x and y")
    return list(zip(flat[::2], flat[1::2], strict=True))


def around(points: Iterable[Point]) -> Box:
    """The box around points."""
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x), max(y)


def safe(where: str, name: Any) -> str:
    """A file name with forward slashes; UserError if it is empty, or leads out of its folder."""
    text = name.replace("\\", "/") if isinstance(name, str) else ""
    if not text or PureWindowsPath(text).anchor or ".." in text.split("/") or "\0" in text:
        raise UserError(f"{where}: unsafe file name {str(name)[:80]!r}; write it without folders")
    return text


def split_of(parts: Iterable[str]) -> str:
    """The split that one of these words names; empty if none does."""
    found = (match[1].lower() for part in parts if (match := SPLIT.fullmatch(part)))
    return {"train": "train", "val": "valid", "test": "test"}.get(next(found, ""), "")


def one_line(name: str) -> str:
    """The name of a class without line breaks, since lists have one class per line."""
    return " ".join(name.split())


def is_file(path: Path) -> bool:
    """Whether this is a file; False if the name is too long for the file system."""
    return os.path.isfile(path)


def find(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder with these suffixes, sorted; skips hidden files and folders."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    shown = (p for p in found if not any(s[0] == "." for s in p.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


def sizes_of(file: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size of an image as it is stored, and as its EXIF orientation turns it upright."""
    from PIL import Image  # every command imports this file

    try:
        with Image.open(file, formats=FORMATS) as image:
            size, turned = image.size, image.getexif().get(0x0112) in (5, 6, 7, 8)
    except Exception as error:  # PIL raises a dozen kinds
        reason = getattr(error, "strerror", None) or "damaged, or another format"
        raise UserError(f"{file}: not an image ({reason}); fix or remove it") from error
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{file}: has more than {MAX_PIXELS:,} pixels; scale it down")
    return size, size[::-1] if turned else size


def drawn_on(where: str, file: Path, width: Any, height: Any) -> tuple[int, int]:
    """The image size that annotations refer to: the upright one if they don't record a size.

    UserError if they record a size that the file does not have: their boxes would not fit.
    """
    stored, upright = sizes_of(file)
    said = tuple(round(number) for number in numbers(where, (width or 0, height or 0)))
    if 0 in said or said == upright:
        return upright
    if said != stored:
        claim = f"says {said[0]} x {said[1]}, but {file} is {upright[0]} x {upright[1]}"
        raise UserError(f"{where}: {claim}; its boxes may not fit; fix one of them")
    return stored


def used_classes(items: list[Item], report: Report) -> list[str]:
    """The classes that have objects, in the order of the source, or sorted; a note names others."""
    used = {shape.name for item in items for shape in item.shapes}
    classes = list(dict.fromkeys(map(one_line, report.classes)))  # equal names are one class
    if unused := [name for name in classes if name not in used]:
        few = ", ".join(unused[:5]) + ", …" * (len(unused) > 5)
        report.notes.append(f"{len(unused)} classes have no objects and are left out: {few}")
    return [name for name in classes or sorted(used) if name in used]
