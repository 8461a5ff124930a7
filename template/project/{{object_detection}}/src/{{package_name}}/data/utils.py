"""Data utils: split annotated images into train/valid/test, check a data folder."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from . import coco
from .dataset import FORMATS, SUFFIXES, check_size, find_images, read_image
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table


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
            inside = (source / "images") in picture.path.parents
            name = picture.path.relative_to(source / "images" if inside else source)
            target = folder / split / "images" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture.path, target)
        images = [picture.entry for picture in chosen]
        ids = {image["id"] for image in images}
        annotations = [row for row in content["annotations"] if row["image_id"] in ids]
        text = json.dumps(content | {"images": images, "annotations": annotations})
        (folder / split / coco.ANNOTATIONS).write_text(text, encoding="utf-8")
    return {split: len(indices) for split, indices in parts.items()}


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
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
                check_size(folder / split, item, read_image(item.path, 1, item.size))
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
    for name in (name for name in classes if not counts["train"][name]):
        where = f"{folder / 'train' / coco.ANNOTATIONS}: category {name!r}"
        problems.append(f"{where}: has no boxes; add some or remove it from all splits")
    text = table(counts)
    width = text.index(f"{SPLITS[0]:>8}")
    text += f"\n{'images':{width}}" + "".join(f"{n:>8}" for n in images.values())
    text += left_out(folder, SUFFIXES, "images")
    found = find_images(folder / "train" / "images")
    return text + describe(found, options or Data()), problems


def describe(paths: Iterable[Path], options: Data) -> str:
    """Lines on what the images are, and on what `options` leave out of them."""
    sizes, colour, paged, dark = list[tuple[int, int]](), 0, 0, 0
    for path in paths:
        with suppress(Exception), Image.open(path, formats=FORMATS) as image:  # damaged: a problem
            paged += getattr(image, "n_frames", 1) > 1
            colour += Image.getmodebase(image.mode) == "RGB"
            dark += image.mode.startswith("I;16") and np.asarray(image).max() < 4096
            sizes.append(image.size)
    if not sizes:
        return ""
    width, height = np.median(sizes, axis=0).astype(int).tolist()
    lines = [f"images: {colour} of {len(sizes)} in colour; median size {width} x {height}"]
    if options.channels == 1 and 2 * colour > len(sizes):
        lines.append("data.channels=1 reads them as grey; for colour, set data.channels=3")
    best, size = min(max(width, height), 512), options.image_size
    if 1.5 * size < best:
        lines.append(f"data.image_size={size} loses detail; for more, set data.image_size={best}")
    if dark:
        lines.append(f"{dark} have no value above 4,095 of 65,535, so they are dark; scale them")
    if paged:
        lines.append(f"{paged} have several pages or frames; only the first is read")
    return "".join(f"\n{line}" for line in lines)
