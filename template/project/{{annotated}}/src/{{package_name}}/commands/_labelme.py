"""Reads labelme's annotations for `import-data`."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ._annotations import (
    SUFFIXES,
    Item,
    Report,
    Shape,
    around,
    drawn_on,
    find,
    is_file,
    pairs,
    read_json,
    rows_of,
    split_of,
)


def labelme(source: Path, report: Report) -> Iterator[Item]:
    """Read one JSON file for each image; an image that is embedded in it is ignored."""
    files = find(source, (".json",))
    if not files:
        raise UserError(f"{source}: has no .json files; labelme writes one for each image")
    for file in files:
        with report.guard():
            content = read_json(file)
            image, shapes = labelme_image(source, file, content.get("imagePath")), list[Shape]()
            size = drawn_on(f"{file}", image, content.get("imageWidth"), content.get("imageHeight"))
            for number, row in enumerate(rows_of(f"{file}", content, "shapes"), start=1):
                with report.guard():
                    where = f"{file}: shape {number}"
                    if shape := labelme_shape(where, row):
                        shapes.append(shape)
                    else:
                        kind = str(row.get("shape_type"))[:20]
                        report.notes.append(f"{where}: a {kind} has no area; dropped")
            inside = file.relative_to(source)
            name = (inside.parent / image.name).as_posix()
            yield Item(split_of(inside.parts[:-1]), name, image, size, shapes)


def labelme_image(source: Path, file: Path, name: Any) -> Path:
    """The image of a JSON file, by its path below `source`, or else by its name beside the file."""
    text = name.replace("\\", "/") if isinstance(name, str) and "\0" not in name else ""
    suffixes = [end for suffix in SUFFIXES for end in (suffix, suffix.upper())]
    names = text, text.rpartition("/")[2], *(file.stem + suffix for suffix in suffixes)
    for place in (file.parent / name for name in names):
        image = place.suffix.lower() in SUFFIXES and is_file(place)
        if image and place.resolve().is_relative_to(source.resolve()):
            return place
    raise UserError(f"{file}: its image {text[:200]!r} is not in {source}; put it beside the file")


def labelme_shape(where: str, row: dict[str, Any]) -> Shape | None:
    """A polygon, rectangle, circle or mask; None for points and lines."""
    kind, label, points = row.get("shape_type") or "polygon", row.get("label"), row.get("points")
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where}: has no label; give it one")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise UserError(f"{where}: points should be a list of [x, y]; fix it")
    found = pairs(where, [value for point in points for value in point])
    group = None if row.get("group_id") is None else (label, str(row["group_id"]))
    few = {"circle": 2, "rectangle": 2, "mask": 2, "polygon": 3, "oriented_rectangle": 3}.get(
        str(kind)
    )
    if few is None:
        return None
    if len(found) < few:
        raise UserError(f"{where}: a {kind} of {len(found)} points; should be {few}; fix it")
    left, top, right, bottom = box = around(found)
    if kind == "mask":  # its last row and column are included
        edges = (left, top, right + 1, bottom + 1)
        return Shape(where, label, edges, pixels=row.get("mask"), instance=group)
    if kind == "circle":
        (x, y), radius = found[0], math.dist(*found[:2])
        box, turns = (x - radius, y - radius, x + radius, y + radius), [n / 36 for n in range(72)]
        found = [
            (x + radius * math.cos(t * math.pi), y + radius * math.sin(t * math.pi)) for t in turns
        ]
    elif kind == "rectangle":
        found = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Shape(where, label, box, [found], instance=group, outline=True)
