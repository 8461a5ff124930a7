"""Data utils: split images with masks into train/valid/test, check a data folder."""

import hashlib
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from .dataset import (
    FORMATS,
    MASKS,
    SUFFIXES,
    UNLABELLED,
    check_pixels,
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

    `valid` and `test` are fractions of the images; each split gets one or more. Equal images stay
    together. Returns the number of images in each split. Raises UserError, before it copies any
    image, if that is not possible.
    """
    check_new(folder, valid, test)
    names, text = read_classes(source), folder / "classes.txt"
    if text.is_file() and read_classes(folder) != names:
        raise UserError(f"{text}: has other classes than {source}; move it away first")
    pairs, problems = find_pairs(source)
    if problems:
        raise UserError("\n".join(problems))
    twins = dict[bytes, list[tuple[Path, Path]]]()
    for pair in pairs:
        twins.setdefault(hashlib.sha256(pair[0].read_bytes()).digest(), []).append(pair)
    groups = list(twins.values())
    parts = draw(len(groups), valid, test, seed, f"{source}: different images")
    plan = [(pair, part) for part in parts for i in parts[part] for pair in groups[i]]
    for pair, part in plan:
        for file in pair:
            place = folder / part / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    if not text.is_file():
        shutil.copy2(source / "classes.txt", text)
    return dict(Counter(part for _, part in plan))


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every image and mask: a table of pixels per split and class, and a list of problems.

    Problems are unreadable files, images and masks without each other or of different sizes, values
    that are not a class, classes that a split lacks, and images that are in two splits. Lines below
    the table describe the images. Overrides that fit, as `data.channels=3`, go into `settings`.
    """
    names, options = read_classes(folder), options or Data()
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts, images = {part: Counter[str]() for part in SPLITS}, list[str]()
    values, holders = Counter[int](), Counter[str]()  # of masks; masks by class
    facts = Facts()
    for part in SPLITS:
        pairs, wrong = find_pairs(folder / part)
        problems += wrong
        images.append(f"{part} {len(pairs)}")
        pixels = torch.zeros(len(names), dtype=torch.int64)
        for image, mask in pairs:
            try:
                values.update(mask_values(mask))
                content, target = read_pair(image, mask, len(names), channels=1, max_size=None)
                found = torch.bincount(target[target >= 0], minlength=len(names))
                pixels += found
                if part == "train":
                    holders.update(n for n, has in zip(names, found.tolist(), strict=True) if has)
            except UserError as error:
                problems.append(str(error))
                continue
            facts.add(image)
            digest = hashlib.sha256(content.numpy().tobytes()).digest()  # formats may differ
            other, twin = seen.setdefault(digest, (part, image))
            if other != part:
                problems.append(f"{image}: the same as in {other}: {twin}; remove one")
        counts[part] = Counter(dict(zip(names, pixels.tolist(), strict=True)))
        no_class = f"; the value {UNLABELLED} means no class: write its number instead"
        hint = no_class if values[UNLABELLED] else ""
        missing = [name for name in names if pairs and not counts[part][name]]
        problems += [f"{folder / part / 'masks'}: no pixel is {name}{hint}" for name in missing]
    total = counts["train"].total() or 1
    shares = (
        f"{name} {counts['train'][name] / total:.1%} in {holders[name]} masks" for name in names[:8]
    )
    text = f"images: {', '.join(images)}; pixels:\n{table(counts)}\ntrain: {', '.join(shares)}"
    text += f"\nvalues of masks: {', '.join(str(value) for value in sorted(values)[:20])}"
    if {*values} == {0, UNLABELLED} and len(names) == 2:
        text += f"; write 1 for {names[1]}, since {UNLABELLED} means no class"
    text += left_out(folder, SUFFIXES, "images") + left_out(folder, MASKS, "masks")
    text += facts.lines(options, settings if settings is not None else [])
    return text, problems


class Facts:
    """Facts on the images, from their headers."""

    def __init__(self) -> None:
        self.sizes, self.modes = list[tuple[int, int]](), Counter[str]()
        self.colour = self.paged = self.dark = self.turned = 0

    def add(self, path: Path) -> None:
        """Add an image."""
        with suppress(Exception), Image.open(path, formats=FORMATS) as image:  # damaged later pages
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
        if options.channels == 1 and 2 * self.colour > len(sides):
            settings.append("data.channels=3")
            lines.append("data.channels=1 reads them as grey; for colour, set data.channels=3")
        whole = not options.max_size and "random_crop" not in options.transforms
        if whole and np.median(sides, axis=0).max() > 1024:
            settings.append("data.max_size=1024")
            lines.append("images are large; set data.max_size=1024 or add random_crop")
        if self.dark:
            dark = "have no value above 4,095 of 65,535, so they are dark; scale them"
            lines.append(f"{self.dark} {dark}")
        if self.paged:
            lines.append(f"{self.paged} have several pages or frames; only the first is read")
        if self.turned:
            lines.append(f"{self.turned} are turned by their EXIF tag; see whether their masks fit")
        return "".join(f"\n{line}" for line in lines)


def mask_values(path: Path) -> list[int]:
    """The values that occur in a mask, if it has whole numbers; an unreadable one has none."""
    with suppress(Exception), Image.open(path, formats=FORMATS) as image:
        check_pixels(path, image)
        values = np.asarray(image)
        if values.ndim == 2 and image.mode != "F":
            return [int(value) for value in np.unique(values)]
    return []
