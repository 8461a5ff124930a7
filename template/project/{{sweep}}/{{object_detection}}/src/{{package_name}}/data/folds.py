"""The samples that `sweep --folds` divides: images with their boxes."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from . import coco
from .options import Data


class Entry(NamedTuple):
    """An image, with its rows in annotations.json."""

    classes: list[str]  # of all images, in their order
    file: Path
    place: Path  # below images/ of a fold
    image: dict[str, Any]
    boxes: list[dict[str, Any]]  # `category_id` is the name of the class


def samples(folder: Path, options: Data) -> Iterator[tuple[object, None, Entry]]:
    """For each sample of train/ and valid/: its key, no class (None), and its image.

    Samples with one key are always in one fold: here, equal images. To keep more together, such as
    the frames of a video, return what they share instead.
    """
    for split in ("train", "valid"):
        content, classes = coco.load(folder / split), coco.class_names(folder / split)
        pictures = coco.read(folder / split)
        names = {row["id"]: row["name"] for row in content["categories"]}
        boxes: dict[Any, list[dict[str, Any]]] = {}
        for row in content["annotations"]:
            named = row | {"category_id": names[row["category_id"]]}
            boxes.setdefault(row["image_id"], []).append(named)
        for picture in pictures:
            inside = (folder / split / "images") in picture.path.parents
            start = folder / split / "images" if inside else folder / split
            place, image = Path(split, picture.path.relative_to(start)), picture.entry
            entry = Entry(classes, picture.path, place, image, boxes.get(image["id"], []))
            yield sha256(picture.path.read_bytes()).digest(), None, entry


def write(entries: list[Entry], split: Path) -> list[tuple[Path, Path]]:
    """Write the annotations to train/ or valid/ of a fold; returns each image and its place."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.classes))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, entry in enumerate(entries, 1):
        images.append(entry.image | {"id": number, "file_name": entry.place.as_posix()})
        for box in entry.boxes:
            own = {"id": len(annotations) + 1, "image_id": number}
            own["category_id"] = 1 + names.index(box["category_id"])
            annotations.append(box | own)
    content = {"images": images, "annotations": annotations, "categories": categories}
    split.mkdir(parents=True)
    (split / coco.ANNOTATIONS).write_text(json.dumps(content), encoding="utf-8")
    return [(entry.file, split / "images" / entry.place) for entry in entries]
