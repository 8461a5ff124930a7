"""Reads mask files, with numbers or colours of classes, for `import-data`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ._annotations import (
    FORMATS,
    MAX_PIXELS,
    NO_BOX,
    SUFFIXES,
    Item,
    Report,
    Shape,
    find,
    is_file,
    read_text,
    safe,
    sizes_of,
    split_of,
)

NO_CLASS = 255
IGNORED = ("ignore", "ignored", "__ignore__", "void", "unlabelled", "unlabeled")
FOLDERS = (
    ("JPEGImages", "SegmentationClass"),
    ("images", "masks"),
    ("images", "labels"),
    ("images", "annotations"),
)
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
VOC_BORDER = (224, 224, 192)
Colour = tuple[int, ...]  # red, green and blue; or the number of a class alone


def masks(source: Path, report: Report) -> Iterator[Item]:
    """Read mask files that have a number, or a colour, for each class."""
    import numpy as np

    pairs = mask_folders(source)
    if not pairs:
        wanted = "images/ and masks/, or JPEGImages/ and SegmentationClass/"
        raise UserError(f"{source}: does not hold {wanted}; see docs/data.md")
    voc = any(images.name == "JPEGImages" for images in pairs)
    colours, report.classes = class_colours(source, voc)
    values = set[int]()
    for images, folder in pairs.items():
        by_name = dict[str, Path]()
        for mask in find(folder, (".png", ".bmp", ".tif", ".tiff")):
            name = mask.relative_to(folder).with_suffix("").as_posix()
            by_name[name] = mask
            by_name.setdefault(re.sub(r"_(mask|segmentation|label|L)$", "", name), mask)
        lists = voc_lists(images.parent / "ImageSets" / "Segmentation", report)
        for image in find(images, SUFFIXES):
            with report.guard():
                inside = image.relative_to(images).with_suffix("").as_posix()
                if lists and inside not in lists:
                    continue
                if inside not in by_name:
                    raise UserError(f"{image}: has no mask {inside}.png in {folder}; add it")
                parts = [*images.relative_to(source).parts, *inside.split("/")[:-1]]
                split, mask = lists.get(inside) or split_of(parts), by_name[inside]
                if len(report.classes) <= 2 and not colours:
                    new = read_mask(mask, {}) if len(values) < 3 else ()
                    values |= {*np.unique(new).tolist()}
                shape = Shape(f"{mask}", "", NO_BOX, pixels=(mask, colours))
                yield Item(
                    split, image.relative_to(images).as_posix(), image, sizes_of(image)[1], [shape]
                )
    if values == {0, NO_CLASS}:
        report.classes = report.classes or ["background", "foreground"]
        colours |= {(0, 0, 0): 0, (NO_CLASS,) * 3: 1}
    if not report.classes and not report.problems:
        wanted = "write a class in each line, that of 0 first"
        raise UserError(f"{source}: has no classes.txt or labelmap.txt; {wanted}")


def mask_folders(source: Path) -> dict[Path, Path]:
    """The folders of images, at most two levels down, each with the folder of its masks."""
    found = dict[Path, Path]()
    for images, folder in FOLDERS:
        for place in (p for depth in ("", "*/", "*/*/") for p in source.glob(depth + images)):
            if (place.parent / folder).is_dir():
                found.setdefault(place, place.parent / folder)
    for masks in source.glob("*annot"):  # CamVid's
        if (place := masks.with_name(masks.name.removesuffix("annot"))).is_dir():
            found[place] = masks
    return found


def voc_lists(folder: Path, report: Report) -> dict[str, str]:
    """The split of each name in VOC's lists."""
    found = dict[str, str]()
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            with report.guard():
                if line.strip() and (split := split_of([path.stem])):
                    where, name = f"{path}, line {number}", line.strip()
                    if found.setdefault(safe(where, name), split) != split:
                        raise UserError(f"{where}: {name} is in {found[name]}, too; remove one")
    return found


def class_colours(source: Path, voc: bool) -> tuple[dict[Colour, int], list[str]]:
    """The class of each colour in labelmap.txt; or of each number, if a name is no class's."""
    colours, names = dict[Colour, int](), list[str]()
    for name in ("labelmap.txt", "label_colors.txt"):
        path = source / name
        for number, line in enumerate(read_text(path).splitlines() if is_file(path) else [], 1):
            if not line.strip() or line.startswith("#"):
                continue
            before = re.match(r"(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)\s+(?P<name>\S.*)", line)
            found = before or re.match(
                r"(?P<name>[^:]+):(?P<r>\d+)(,(?P<g>\d+),(?P<b>\d+))?(:|$)", line
            )
            where = f"{path}, line {number}"
            values = [int(found[key] or found["r"]) for key in "rgb"] if found else [256]
            if not found or max(values) > 255:
                raise UserError(f"{where}: should be name:red,green,blue, each up to 255; fix it")
            colour, label = (values[0], values[1], values[2]), found["name"].strip()
            if colour in colours or label in names:
                raise UserError(f"{where}: the name or colour is a duplicate; fix it")
            colours[colour] = NO_CLASS if label.lower() in IGNORED else len(names)
            names += [label] if colours[colour] != NO_CLASS else []
        if colours:
            return {VOC_BORDER: NO_CLASS} | colours, names
    for name in ("classes.txt", "class_names.txt", "labels.txt"):
        if is_file(source / name):
            names = [line.strip() for line in read_text(source / name).rstrip().splitlines()]
            if not all(names):
                raise UserError(f"{source / name}: has an empty line; write a class in each line")
            own = [label for label in names if label.lower() not in IGNORED]
            if own != names:
                numbers = [own.index(x) if x in own else NO_CLASS for x in names]
                colours = {(n,): number for n, number in enumerate(numbers)}
            return colours, own
    return {}, [*VOC] if voc else []


def read_mask(path: Path, colours: dict[Colour, int]) -> Any:
    """The class of each pixel; by its colour or number, if there are `colours`."""
    import numpy as np
    from PIL import Image

    by_number = all(len(colour) == 1 for colour in colours)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path}: has more than {MAX_PIXELS:,} pixels; scale it down")
            mode = image.mode
            values = np.asarray(image if by_number else image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # PIL raises a dozen kinds
        raise UserError(f"{path}: not an image; fix or remove it") from error
    if by_number:
        if values.ndim != 2 or mode == "F":
            wanted = "list the class of each colour in labelmap.txt, as road:128,64,128"
            raise UserError(f"{path}: holds colours ({mode}), not numbers of classes; {wanted}")
        found = numbers = values.astype(np.int64)
        for (number,), label in colours.items():
            found = np.where(numbers == number, label, found)
        return found
    codes = values.astype(np.int64) @ [65536, 256, 1]
    found, inverse = np.unique(codes, return_inverse=True)
    known = {r << 16 | g << 8 | b: label for (r, g, b), label in colours.items()}
    if unknown := [code for code in found.tolist() if code not in known]:
        row, column = np.argwhere(codes == unknown[0])[0]
        colour = f"{unknown[0] >> 16},{unknown[0] >> 8 & 255},{unknown[0] & 255}"
        where = f"{path}, row {row + 1}, column {column + 1}"
        raise UserError(f"{where}: the colour {colour} belongs to no class; add it to labelmap.txt")
    return np.array([known[code] for code in found.tolist()])[inverse].reshape(codes.shape)
