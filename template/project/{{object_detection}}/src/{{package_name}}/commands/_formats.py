"""Boxes: the formats that `import-data` reads, and how it writes COCO's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._annotations import NO_BOX, Item, Report, Shape, around, used_classes
from ._coco import coco
from ._labelme import labelme
from ._voc import voc
from ._yolo import yolo


def labelme_objects(source: Path, report: Report) -> Iterator[Item]:
    """The objects of labelme, with the shapes of one object merged; without the background."""
    for item in labelme(source, report):
        found = dict[Any, Shape]()
        for number, shape in enumerate(item.shapes):
            if shape.name not in ("__ignore__", "_background_"):
                key = number if shape.instance is None else shape.instance
                boxes = [found.get(key, shape).box, shape.box]
                found[key] = shape._replace(
                    box=around(end for b in boxes for end in (b[:2], b[2:]))
                )
        yield item._replace(shapes=[*found.values()])


def write(folder: Path, items: list[Item], classes: list[str], report: Report) -> None:
    """Write `folder`/annotations.json: the boxes inside their images, each once."""
    images, annotations = list[Any](), list[Any]()
    for number, item in enumerate(items, start=1):
        width, height = item.size
        images.append({"id": number, "file_name": item.name, "width": width, "height": height})
        found = dict[tuple[Any, ...], str]()
        for shape in item.shapes:
            if shape.pixels and shape.box == NO_BOX:
                report.problems.append(f"{shape.where}: has no bbox; export it with one")
            elif (box := clip(shape, item.size, report)) and shape.name in classes:
                if (key := (shape.name, shape.ignore, *box)) in found:
                    report.notes.append(f"{shape.where}: the same as {found[key]}; dropped")
                found.setdefault(key, shape.where)
        for name, ignore, left, top, right, bottom in found:
            width, height = right - left, bottom - top
            row: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": classes.index(name) + 1,
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": int(ignore),
            }
            annotations.append(row)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def clip(shape: Shape, size: tuple[int, int], report: Report) -> list[float] | None:
    """The box of an object inside the image; None, with a note, if nothing of it is left."""
    width, height = size
    left, top, right, bottom = shape.box
    cut = [max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)]
    found = ", ".join(f"{value:g}" for value in shape.box)
    if left >= right or top >= bottom:
        report.notes.append(f"{shape.where}: the box {found} has no size; dropped")
    elif cut[0] >= cut[2] or cut[1] >= cut[3]:
        outside = f"is outside the image of {width} x {height}"
        report.notes.append(f"{shape.where}: the box {found} {outside}; dropped")
    else:
        if max(abs(a - b) for a, b in zip(cut, shape.box, strict=True)) > 1:  # less is rounding
            leaves = f"leaves the image of {width} x {height}"
            report.notes.append(f"{shape.where}: the box {found} {leaves}; clipped")
        return cut
    return None


def place(name: str) -> str:
    """The name that only one image may have."""
    return name


def class_names(items: list[Item], report: Report) -> list[str]:
    """The classes that have a box to learn from, not only crowds and boxes that are dropped."""
    report.classes = report.classes or sorted({s.name for item in items for s in item.shapes})
    learned = list[Item]()
    for item in items:
        boxes = [s for s in item.shapes if not s.ignore and clip(s, item.size, Report())]
        learned.append(item._replace(shapes=boxes))
    return used_classes(learned, report)


READERS = {"yolo": yolo, "voc": voc, "labelme": labelme_objects, "coco": coco}
