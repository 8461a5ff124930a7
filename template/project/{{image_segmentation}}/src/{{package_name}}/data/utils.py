"""Data utils: split images with masks into train/valid/test, check a data folder."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import torch

from ..errors import UserError
from .dataset import find_pairs, read_classes, read_pair
from .splits import SPLITS, check_new, draw, table


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


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every image and mask: a table of pixels per split and class, and a list of problems.

    Problems are unreadable files, images and masks without each other or of different sizes, values
    that are no class, classes that a split lacks, and images that are in two splits.
    """
    names = read_classes(folder)
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts, images = {part: Counter[str]() for part in SPLITS}, list[str]()
    for part in SPLITS:
        pairs, wrong = find_pairs(folder / part)
        problems += wrong
        images.append(f"{part} {len(pairs)}")
        pixels = torch.zeros(len(names), dtype=torch.int64)
        for image, mask in pairs:
            try:
                target = read_pair(image, mask, len(names), channels=1, max_size=None)[1]
                pixels += torch.bincount(target[target >= 0], minlength=len(names))
            except UserError as error:
                problems.append(str(error))
            digest = hashlib.sha256(image.read_bytes()).digest()
            other, twin = seen.setdefault(digest, (part, image))
            if other != part:
                problems.append(f"{image}: the same as in {other}: {twin}")
        counts[part] = Counter(dict(zip(names, pixels.tolist(), strict=True)))
        missing = [name for name in names if pairs and not counts[part][name]]
        problems += [f"{folder / part / 'masks'}: no pixel is {name}" for name in missing]
    return f"images: {', '.join(images)}; pixels:\n{table(counts)}", problems
