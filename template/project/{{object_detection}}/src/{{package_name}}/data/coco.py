"""Read and check annotations in COCO's format, so that no model is trained on mistakes."""

import json
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from ..errors import UserError

ANNOTATIONS = "annotations.json"
MAX_BYTES = 2_000_000_000  # of annotations.json, which take ten times as much memory
MAX_SIDE = 10_000_000  # pixels
MOST = 20  # problems that are listed one by one


class Picture(NamedTuple):
    """An image and its objects."""

    path: Path
    size: tuple[int, int]  # width, height, as the annotations say
    boxes: list[list[float]]  # left, top, right, bottom in pixels
    names: list[str]  # the class of each box
    entry: dict[str, Any]  # its row in `images`


def load(folder: Path) -> dict[str, Any]:
    """`folder`/annotations.json; UserError if it is missing, is not JSON, or lacks a list."""
    path = folder / ANNOTATIONS
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in folder.glob("*.json")))
        advice = f"rename {others}" if others else "data/README.md shows what belongs there"
        raise UserError(f"{path}: no such file; {advice}")
    if path.stat().st_size > MAX_BYTES:
        most = f"MAX_BYTES in data/coco.py, {MAX_BYTES:,} bytes"
        raise UserError(f"{path}: is larger than {most}; split it into several, or raise that")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also: not UTF-8, thousands of digits or levels
        raise UserError(f"{path}: not JSON ({error}); export it again") from error
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path}: has no list of objects {key!r}; COCO's format needs it")
    return dict(content)


def class_names(folder: Path) -> list[str]:
    """The names of the categories, in the order of their ids; UserError if there are none."""
    rows = _by_id(folder, load(folder)["categories"], "category")
    if not rows:
        where = f"{folder / ANNOTATIONS}"
        raise UserError(f"{where}: has no categories; give each class an id and a name")
    names = [_field(folder, rows[key], "category", "name", str) for key in sorted(rows)]
    if twice := {name for name in names if names.count(name) > 1}:
        where = f"{folder / ANNOTATIONS}: category {min(twice)!r}"
        raise UserError(f"{where}: duplicate name; merge the two")
    return names


def read(folder: Path) -> list[Picture]:
    """Every image of a split with its objects, in the order of the file; crowds are left out.

    Raises UserError with all that is wrong, a line for each, up to `MOST`.
    """
    pictures, problems = list[Picture](), list[str]()
    for item in scan(folder):
        if isinstance(item, UserError):
            problems.append(str(item))
        else:
            pictures.append(item)
    if len(problems) > MOST:
        more = f"{len(problems) - MOST:,} more problems; check-data lists all"
        problems = [*problems[:MOST], f"{folder / ANNOTATIONS}: {more}"]
    if problems:
        raise UserError("\n".join(problems))
    return pictures


def scan(folder: Path) -> Iterator[Picture | UserError]:
    """Yield what `read` returns, and each problem as a UserError where it is found."""
    path, content = folder / ANNOTATIONS, load(folder)
    images = _by_id(folder, content["images"], "image")
    categories = _by_id(folder, content["categories"], "category")
    if not images:
        raise UserError(f"{path}: has no images; add some, or name another data.folder")
    objects: dict[Any, list[tuple[list[float], str]]] = {key: [] for key in images}
    for number, row in enumerate(content["annotations"], start=1):
        try:
            where = f"{path}: annotation {row.get('id', f'number {number}')}"
            for key, known in (("image_id", images), ("category_id", categories)):
                if not isinstance(row.get(key), int | str) or row[key] not in known:
                    found = repr(row.get(key))
                    raise UserError(f"{where}: there is no {key} {found}; fix or remove it")
            bbox = row.get("bbox") or _around(row.get("segmentation"))  # labelme may have none
            box = _box(where, bbox, *_size(folder, images[row["image_id"]]))
            if not row.get("iscrowd"):
                name = _field(folder, categories[row["category_id"]], "category", "name", str)
                if (box, name) in objects[row["image_id"]]:
                    raise UserError(f"{where}: the box {bbox} is given twice; remove one")
                objects[row["image_id"]].append((box, name))
        except UserError as error:
            yield error
    keys = dict[Path, Any]()  # of the images so far
    for key, image in images.items():
        try:
            name = _field(folder, image, "image", "file_name", str).replace("\\", "/")
            if PureWindowsPath(name).anchor or ".." in name.split("/"):
                advice = "write it as it is below images/"
                raise UserError(f"{path}: image {key}: file_name {name!r} leads out; {advice}")
            file = folder / "images" / name
            if not isfile(file) and isfile(folder / name):  # images/1.jpg, or no images/
                file = folder / name
            if not isfile(file):  # False for too long names
                claim = f"no such file, but {path} has it as image {key}"
                raise UserError(f"{file}: {claim}; add or remove it")
            if (twin := keys.setdefault(file, key)) != key:
                raise UserError(f"{path}: image {key}: {name!r} is image {twin}, too; merge them")
            boxes, names = [box for box, _ in objects[key]], [name for _, name in objects[key]]
            yield Picture(file, _size(folder, image), boxes, names, image)
        except UserError as error:
            yield error


def _by_id(folder: Path, rows: list[dict[str, Any]], what: str) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        key = row.get("id")
        if not isinstance(key, int | str) or key in found:  # some tools write text
            where = f"{folder / ANNOTATIONS}: {what} number {number}"
            problem = "is a duplicate" if isinstance(key, int | str) else "is not a number or text"
            raise UserError(f"{where}: the id {key!r} {problem}; give it its own")
        found[key] = row
    return found


def _field(folder: Path, row: dict[str, Any], what: str, key: str, kind: type) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or not value:
        where = f"{folder / ANNOTATIONS}: {what} {row['id']}"
        raise UserError(f"{where}: {key} should be a {kind.__name__}, found {value!r}; fix it")
    return value


def _size(folder: Path, image: dict[str, Any]) -> tuple[int, int]:
    width, height = (_field(folder, image, "image", key, int) for key in ("width", "height"))
    if not (0 < width < MAX_SIDE and 0 < height < MAX_SIDE):
        where = f"{folder / ANNOTATIONS}: image {image['id']}"
        raise UserError(f"{where}: no image is {width} x {height}; fix its width and height")
    return width, height


def _around(polygons: Any) -> Any:
    """The box around polygons [[x, y, x, y, ...], ...], as COCO's bbox; None if there are none."""
    if not (isinstance(polygons, list) and all(isinstance(part, list) for part in polygons)):
        return None
    numbers = [number for part in polygons for number in part]
    odd = any(len(part) < 6 or len(part) % 2 for part in polygons)
    if odd or not all(map(_is_number, numbers)):
        return None
    x, y = ([n for part in polygons for n in part[first::2]] for first in (0, 1))
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)] if numbers else None


def _box(where: str, bbox: Any, width: int, height: int) -> list[float]:
    """Left, top, right, bottom of COCO's left, top, width, height; cut off at the image's edge."""
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox))):
        wanted = "bbox should be [left, top, width, height], or segmentation polygons"
        raise UserError(f"{where}: {wanted}, found {bbox!r}; fix or remove it")
    left, top, right, bottom = bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]
    if bbox[2] <= 0 or bbox[3] <= 0:
        raise UserError(f"{where}: the box {bbox} has no size; fix or remove it")
    cut = [max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)]
    beyond = max(abs(a - b) for a, b in zip(cut, (left, top, right, bottom), strict=True))
    if beyond > 2 or cut[0] >= cut[2] or cut[1] >= cut[3]:  # tools round, so a little is allowed
        size = f"{width} x {height}"
        raise UserError(f"{where}: the box {bbox} leaves the image of {size}; fix or remove it")
    if max(bbox) <= 1:
        advice = "bbox is in pixels, not in fractions of the image"
        raise UserError(f"{where}: the box {bbox} has no value above 1; {advice}")
    return cut


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e9  # nor infinite, nor NaN
