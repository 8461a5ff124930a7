"""Reads COCO's format for `import-data`, as Roboflow, CVAT and others write it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ._annotations import (
    MAX_BYTES,
    NO_BOX,
    Item,
    Point,
    Report,
    Shape,
    around,
    drawn_on,
    find,
    is_file,
    numbers,
    pairs,
    read_json,
    rows_of,
    safe,
    split_of,
)


def coco(source: Path, report: Report) -> Iterator[Item]:
    """Read one JSON file for each split, named as by Roboflow, CVAT or COCO itself."""
    if not source.is_dir():
        root, files = source.parent, [source]
    else:
        root, found = source, find(source, (".json",))
        files = [
            f for f in found if f.name.startswith(("instances_", "_annotations", "annotations"))
        ]
        files = files or found
    if not files:
        raise UserError(f"{source}: has no .json files; COCO's are in annotations/")
    ordered = dict[str, None]()
    for file in files:
        with report.guard():
            content = read_json(file, MAX_BYTES)
            names = dict[Any, str]()
            for number, row in enumerate(rows_of(f"{file}", content, "categories"), start=1):
                key, name = row.get("id"), row.get("name")
                named = name if isinstance(name, str) else ""
                if not isinstance(key, int | str) or key in names or not named.strip():
                    raise UserError(f"{file}: category {number}: id or name is wrong; fix it")
                names[key] = named
            ordered |= dict.fromkeys(names.values())
            yield from coco_items(root, file, content, names, report)
    report.classes = [*ordered]


def coco_items(
    root: Path, file: Path, content: dict[str, Any], names: dict[Any, str], report: Report
) -> Iterator[Item]:
    """The images of a file, each with its objects."""
    inside = file.relative_to(root)
    split = split_of([*re.split(r"[^a-zA-Z0-9]+", file.stem), *inside.parts[:-1]])
    part = file.stem.removeprefix("instances_")  # train2017
    places = [
        file.parent,
        *(root / a / b for b in ("", part, split or ".") for a in ("", "images")),
    ]
    items, seen = dict[Any, Item](), dict[Any, Any]()
    for number, row in enumerate(rows_of(f"{file}", content, "images"), start=1):
        with report.guard():
            where, key = f"{file}: image {row.get('id', number)}", row.get("id")
            if not isinstance(key, int | str) or key in seen:
                raise UserError(f"{where}: the id is missing, wrong or a duplicate; fix it")
            seen[key] = None
            name = safe(where, row.get("file_name"))
            found = ((p / name, p) for p in [*places, file.parent / "images"] if is_file(p / name))
            image, _ = next(found, (None, None))
            if image is None:
                raise UserError(f"{where}: there is no {name} in {file.parent} or images/; add it")
            size = drawn_on(where, image, row.get("width"), row.get("height"))
            items[key] = Item(split, name.removeprefix("images/"), image, size, [])
    for number, row in enumerate(rows_of(f"{file}", content, "annotations"), start=1):
        with report.guard():
            where, key = (
                f"{file}: annotation {row.get('id', f'number {number}')}",
                row.get("image_id"),
            )
            if not isinstance(key, int | str) or key not in seen:
                raise UserError(
                    f"{where}: there is no image_id {str(key)[:40]!r}; fix or remove it"
                )
            if key in items:
                items[key].shapes.append(coco_shape(where, row, names))
    yield from items.values()


def coco_shape(where: str, row: dict[str, Any], names: dict[Any, str]) -> Shape:
    """An object, with its `bbox` or else the box around its polygons."""
    key, parts, bbox = row.get("category_id"), row.get("segmentation"), row.get("bbox")
    if not isinstance(key, int | str) or key not in names:
        raise UserError(f"{where}: there is no category_id {str(key)[:40]!r}; fix or remove it")
    polygons = list[list[Point]]()
    for part in parts if isinstance(parts, list) else []:
        polygons.append(pairs(where, part if isinstance(part, list) else [None]))
    if isinstance(bbox, list) and len(bbox) == 4:
        left, top, width, height = numbers(where, bbox)
        box = left, top, left + width, top + height
    elif polygons:
        box = around(point for polygon in polygons for point in polygon)
    elif isinstance(parts, dict):
        box = NO_BOX
    else:
        raise UserError(f"{where}: bbox should be [left, top, width, height]; fix or remove it")
    pixels = parts if isinstance(parts, dict) else None
    return Shape(where, names[key], box, polygons, pixels, bool(row.get("iscrowd")))
