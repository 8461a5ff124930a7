"""Data utils: split annotated images into train/valid/test, check a data folder."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

from ..errors import UserError
from . import coco
from .dataset import check_size, find_images, read_image
from .splits import SPLITS, check_new, draw, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy `source`/images and its annotations.json into `folder`/train, valid and test.

    `valid` and `test` are shares of the images, at least one. Returns the number of images in each
    split. Raises UserError, before it copies any, if that cannot be done.
    """
    check_new(folder, valid, test)
    content, pictures = coco.load(source), coco.read(source)
    parts = draw(len(pictures), valid, test, seed, f"{source}: images")
    for split, indices in parts.items():
        chosen = [pictures[index] for index in indices]
        for picture in chosen:
            target = folder / split / "images" / picture.path.relative_to(source / "images")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture.path, target)
        images = [picture.entry for picture in chosen]
        ids = {image["id"] for image in images}
        annotations = [row for row in content["annotations"] if row["image_id"] in ids]
        text = json.dumps(content | {"images": images, "annotations": annotations})
        (folder / split / coco.ANNOTATIONS).write_text(text, encoding="utf-8")
    return {split: len(indices) for split, indices in parts.items()}


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every image: a table of objects per split and class, and a list of problems.

    Problems are whatever is wrong in the annotations, unreadable images, images of another size
    than the annotations say or in none, unknown classes, and images that are in two splits.
    """
    classes = coco.class_names(folder / "train")
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts = {split: Counter(dict.fromkeys(classes, 0)) for split in SPLITS}
    images = dict.fromkeys(SPLITS, 0)
    for split in SPLITS:
        listed = set[Path]()
        for item in coco.scan(folder / split):
            if isinstance(item, UserError):
                problems.append(str(item))
                continue
            listed.add(item.path)
            images[split] += 1
            counts[split].update(item.names)
            try:
                check_size(folder / split, item, read_image(item.path, channels=1))
            except UserError as error:
                problems.append(str(error))
            other, twin = seen.setdefault(
                hashlib.sha256(item.path.read_bytes()).digest(), (split, item.path)
            )
            if other != split:
                problems.append(f"{item.path}: the same image is in {other}: {twin}")
        annotations = folder / split / coco.ANNOTATIONS
        for name in sorted({*counts[split]} - {*classes}):
            problems.append(f"{annotations}: category {name!r}: not a class of the training data")
        for path in find_images(folder / split / "images"):
            if path not in listed and path.name not in str(problems):
                problems.append(f"{path}: {annotations} doesn't have it, so it is never used")
    text = table(counts)
    width = text.index(f"{SPLITS[0]:>8}")
    return f"{text}\n{'images':{width}}" + "".join(f"{n:>8}" for n in images.values()), problems
