"""Data utils: split images with masks into train/valid/test, check a data folder."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from .dataset import (
    FORMATS,
    IGNORE,
    MASKS,
    SUFFIXES,
    UNLABELLED,
    find_files,
    find_pairs,
    read_classes,
    read_pair,
)
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy `source`/images and masks into `folder`/train, valid and test, and classes.txt too.

    `valid` and `test` are shares of the images, at least one. Returns the number of images in each
    split. Raises UserError, before it copies any, if that cannot be done.
    """
    check_new(folder, valid, test)
    names, text = read_classes(source), folder / "classes.txt"
    if text.is_file() and read_classes(folder) != names:
        raise UserError(f"{text}: has other classes than {source}; move it away first")
    pairs, problems = find_pairs(source)
    if problems:
        raise UserError("\n".join(problems))
    parts = draw(len(pairs), valid, test, seed, f"{source}: images")
    plan = [(pairs[i], folder / part) for part, indices in parts.items() for i in indices]
    for pair, target in plan:
        for file in pair:
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    if not text.is_file():
        shutil.copy2(source / "classes.txt", text)
    return {part: len(indices) for part, indices in parts.items()}


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every image and mask: a table of pixels per split and class, and a list of problems.

    Problems are unreadable files, images and masks without each other or of different sizes, values
    that are not a class, classes that a split lacks, and images that are in two splits.
    """
    names = read_classes(folder)
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts, images = {part: Counter[str]() for part in SPLITS}, list[str]()
    for part in SPLITS:
        pairs, wrong = find_pairs(folder / part)
        problems += wrong
        images.append(f"{part} {len(pairs)}")
        pixels, hint = torch.zeros(len(names), dtype=torch.int64), ""
        for image, mask in pairs:
            try:
                target = read_pair(image, mask, len(names), channels=1, max_size=None)[1]
                pixels += torch.bincount(target[target >= 0], minlength=len(names))
                if (target == IGNORE).any():
                    hint = f"; the value {UNLABELLED} means no class: write its number instead"
            except UserError as error:
                problems.append(str(error))
            digest = hashlib.sha256(image.read_bytes()).digest()
            other, twin = seen.setdefault(digest, (part, image))
            if other != part:
                problems.append(f"{image}: the same as in {other}: {twin}")
        counts[part] = Counter(dict(zip(names, pixels.tolist(), strict=True)))
        missing = [name for name in names if pairs and not counts[part][name]]
        problems += [f"{folder / part / 'masks'}: no pixel is {name}{hint}" for name in missing]
    text = f"images: {', '.join(images)}; pixels:\n{table(counts)}"
    text += left_out(folder, SUFFIXES, "images") + left_out(folder, MASKS, "masks")
    found = find_files(folder / "train" / "images", SUFFIXES)
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
    whole = not options.max_size and "random_crop" not in options.transforms
    if whole and max(width, height) > 1024:
        lines.append("images are large; to save memory, set data.max_size or add random_crop")
    if dark:
        lines.append(f"{dark} have no value above 4,095 of 65,535, so they are dark; scale them")
    if paged:
        lines.append(f"{paged} have several pages or frames; only the first is read")
    return "".join(f"\n{line}" for line in lines)
