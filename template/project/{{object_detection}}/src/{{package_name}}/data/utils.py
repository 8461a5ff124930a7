"""Data utils: split annotated images into train/valid/test, check a data folder."""

import hashlib
import json
import shutil
from collections import Counter
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

    `valid` and `test` are fractions of the images; each split gets one or more. Equal images stay
    together. Returns the number of images in each split. Raises UserError, before it copies any
    image, if that is not possible.
    """
    check_new(folder, valid, test)
    content, pictures = coco.load(source), coco.read(source)
    twins = dict[bytes, list[coco.Picture]]()
    for picture in pictures:
        twins.setdefault(hashlib.sha256(picture.path.read_bytes()).digest(), []).append(picture)
    groups = list(twins.values())
    parts = draw(len(groups), valid, test, seed, f"{source}: different images")
    split_of = {split: [p for i in parts[split] for p in groups[i]] for split in parts}
    for split, chosen in split_of.items():
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
    return {split: len(chosen) for split, chosen in split_of.items()}


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every image: a table of objects per split and class, and a list of problems.

    Problems are mistakes in the annotations, unreadable images, images whose size differs from the
    annotations, images without annotations, unknown classes, and images that are in two splits.
    Lines below the table describe the images and boxes. Overrides that fit, such as
    `data.channels=3`, go into `settings`.
    """
    classes, options = coco.class_names(folder / "train"), options or Data()
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts = {split: Counter(dict.fromkeys(classes, 0)) for split in SPLITS}
    images, facts = dict.fromkeys(SPLITS, 0), Facts()
    for split in SPLITS:
        listed, annotations = set[Path](), folder / split / coco.ANNOTATIONS
        try:
            for item in coco.scan(folder / split):
                if isinstance(item, UserError):
                    problems.append(str(item))
                    continue
                listed.add(item.path)
                images[split] += 1
                counts[split].update(item.names)
                try:
                    image = read_image(item.path, 1, item.size)
                    check_size(folder / split, item, image)
                except UserError as error:
                    problems.append(str(error))
                    continue
                facts.add(item)
                digest = hashlib.sha256(image.tobytes()).digest()  # formats may differ
                other, twin = seen.setdefault(digest, (split, item.path))
                if other != split:
                    problems.append(f"{item.path}: the same image is in {other}: {twin}")
        except UserError as error:  # the split can't be read
            problems.append(str(error))
            continue
        for name in sorted({*counts[split]} - {*classes}):
            problems.append(f"{annotations}: category {name!r}: not a class of the training data")
        named = str(problems)
        for path in find_images(folder / split / "images"):
            if path not in listed and path.name not in named:
                problems.append(f"{path}: not in {annotations}, so it is never used; add it")
    for name in (name for name in classes if not counts["train"][name]):
        where = f"{folder / 'train' / coco.ANNOTATIONS}: category {name!r}"
        advice = "add some or remove it from all splits"
        problems.append(f"{where}: has no boxes, or crowds only; {advice}")
    text, few, names = table(counts, "boxes").partition("\nfew ")
    width = text.index(f"{SPLITS[0]:>8}")
    text += f"\n{'images':{width}}" + "".join(f"{n:>8}" for n in images.values()) + few + names
    text += left_out(folder, SUFFIXES, "images")
    text += facts.lines(options, settings if settings is not None else [])
    return text, problems


class Facts:
    """Facts on the images and their boxes."""

    def __init__(self) -> None:
        self.sizes, self.modes = list[tuple[int, int]](), Counter[str]()
        self.boxes, self.sides = list[int](), list[float]()  # of each image; of each box
        self.colour = self.paged = self.dark = self.turned = 0

    def add(self, picture: coco.Picture) -> None:
        """Add an image; for most images, only the file's header is read."""
        self.boxes.append(len(picture.boxes))
        self.sides += [min(right - left, low - top) for left, top, right, low in picture.boxes]
        with (
            suppress(Exception),
            Image.open(picture.path, formats=FORMATS) as image,
        ):  # damaged later pages
            self.modes[image.mode] += 1
            self.sizes.append(image.size)
            self.colour += Image.getmodebase(image.mode) == "RGB"
            self.dark += image.mode.startswith("I;16") and np.asarray(image).max() < 4096
            self.paged += getattr(image, "n_frames", 1) > 1
            turn = image.getexif().get(274, 1)  # above 4, sides are swapped: a size shows a mistake
            self.turned += turn in (2, 3, 4) or (turn > 1 and image.width == image.height)

    def lines(self, options: Data, settings: list[str]) -> str:
        """Lines on the images, and what `options` lose of them; adds overrides to `settings`."""
        if not self.sizes:
            return ""
        sides = np.array(self.sizes)
        sizes = [f"{w:.0f} x {h:.0f}" for w, h in (np.median(sides, 0), sides.min(0), sides.max(0))]
        modes = ", ".join(f"{count} {mode}" for mode, count in self.modes.most_common())
        lines = ["images: {}; median size {}, smallest {}, largest {}".format(modes, *sizes)]
        spread = f"{np.median(self.boxes):.0f} (median), at most {max(self.boxes)}"
        lines.append(f"boxes of an image: {spread}; {self.boxes.count(0)} images have none")
        if self.sides:
            shorter = f"{np.median(self.sides):.0f} pixels (median), at least {min(self.sides):.0f}"
            lines.append(f"shorter side of a box: {shorter}")
        if options.channels == 1 and 2 * self.colour > len(sides):
            settings.append("data.channels=3")
            lines.append("data.channels=1 reads them as grey; for colour, set data.channels=3")
        best, size = min(int(np.median(sides, axis=0).max()), 512), options.image_size
        best = max(32, -(-best // 16) * 16)  # none is made smaller
        if 1.5 * size < best:
            settings.append(f"data.image_size={best}")
            lines.append(f"data.image_size={size} loses detail; set data.image_size={best}")
        if self.dark:
            dark = "have no value above 4,095 of 65,535, so they are dark; scale them"
            lines.append(f"{self.dark} {dark}")
        if self.paged:
            lines.append(f"{self.paged} have several pages or frames; only the first is read")
        if self.turned:
            lines.append(f"{self.turned} are turned by their EXIF tag; see whether their boxes fit")
        return "".join(f"\n{line}" for line in lines)
