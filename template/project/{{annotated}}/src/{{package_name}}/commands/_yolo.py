"""Reads YOLO's format for `import-data`, as Ultralytics, CVAT and supervision write it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ._annotations import (
    SUFFIXES,
    Item,
    Report,
    Shape,
    around,
    find,
    is_file,
    numbers,
    pairs,
    read_text,
    sizes_of,
    split_of,
)


def yolo(source: Path, report: Report) -> Iterator[Item]:
    """Read data.yaml or classes.txt; labels are in labels/ beside images/, or beside each image."""
    config, names, found = yolo_files(source, report)
    root = source if source.is_dir() else source.parent
    report.classes = names
    missing = total = 0
    for split, files in found.items():
        base = Path(os.path.commonpath([file.parent for file in files])) if files else root
        for file in files:
            with report.guard():
                total += 1
                parts = [*file.parent.parts]
                if "images" in parts:  # the last one
                    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
                labels = [Path(*parts, f"{file.stem}.txt"), file.with_suffix(".txt")]
                label, size = next(filter(is_file, labels), labels[0]), sizes_of(file)[1]
                missing += not is_file(label)
                lines = read_text(label).splitlines() if is_file(label) else []
                shapes = list[Shape]()
                for number, line in enumerate(lines, start=1):
                    with report.guard():
                        where = f"{label}, line {number}"
                        if values := line.split():
                            shapes.append(yolo_row(where, values, names, size, config))
                folders = file.relative_to(root).parts[:-1] if split == "any" else (split,)
                own = split_of(re.sub("^obj_(.+)_data$", r"\1", part) for part in folders)  # CVAT's
                yield Item(own, file.relative_to(base).as_posix(), file, size, shapes)
    if missing:
        report.notes.append(f"{source}: {missing} of {total} images without a label file: no boxes")
    if total and missing == total:
        where = "labels/ beside images/, or beside the images"
        report.problems.append(f"{source}: has no label files; they should be in {where}")


def yolo_files(
    source: Path, report: Report
) -> tuple[dict[str, Any], list[str], dict[str, list[Path]]]:
    """The content of data.yaml, the names of the classes, and the images of each split."""
    path = source
    if source.is_dir():
        choices = sorted(p for end in ("yaml", "yml") for p in source.glob(f"[!.]*.{end}"))
        named = [choice for choice in choices if choice.stem == "data"]
        if len(choices) > 1 and not named:
            raise UserError(f"{source}: has {len(choices)} .yaml files; name one of them as SOURCE")
        lists = [source / name for name in ("classes.txt", "obj.names") if is_file(source / name)]
        if not choices and not lists:
            raise UserError(f"{source}: has no data.yaml, classes.txt or obj.names; add one")
        if not choices:
            names = [line.strip() for line in read_text(lists[0]).rstrip().splitlines()]
            return {}, yolo_names(lists[0], names), {"any": find(source, SUFFIXES)}
        path = (named or choices)[0]
    try:
        config = yaml.safe_load(read_text(path, 10_000_000))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({str(error)[:300]}); fix it") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: should have names, train and val; fix it")
    names, found = yolo_names(path, config.get("names")), dict[str, list[Path]]()
    root = path.parent
    if isinstance(config.get("path"), str) and (root / config["path"]).is_dir():
        root = root / config["path"]  # an absolute one stays; if missing, the data were moved
    keys = ("train", "val", "valid", "test")
    if not config.keys() & {*keys}:  # supervision writes none
        return config, names, {"any": find(path.parent, SUFFIXES)}
    for key in keys:
        entries = config.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            images = yolo_images(path, root, key, entry, report)
            found.setdefault({"val": "valid"}.get(key, key), []).extend(images)
    if not any(found.values()):
        raise UserError(f"{path}: train, val and test name no images; fix the paths")
    return config, names, found


def yolo_names(path: Path, names: Any) -> list[str]:
    """The classes of data.yaml, a list or a map from 0 on."""
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}
        if {*by_number} != {str(number) for number in range(len(names))}:
            raise UserError(f"{path}: names: should be numbered from 0 to {len(names) - 1}; fix it")
        names = [by_number[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(n, str | int | float) for n in names):
        raise UserError(f"{path}: names: should list the classes; fix it")
    found = [str(name) for name in names]
    if not all(map(str.strip, found)):
        raise UserError(f"{path}: names: one is empty; fix it")
    return found


def yolo_images(path: Path, root: Path, key: str, entry: Any, report: Report) -> list[Path]:
    """The images of a folder, or of a .txt file with one in each line."""
    if not isinstance(entry, str):
        raise UserError(f"{path}: {key}: should be a folder or a .txt file; fix it")
    entry = entry.replace("\\", "/")
    # Roboflow writes ../train/images for a folder beside the file
    places = [root / entry, root / entry.removeprefix("../")]
    place = next((p for p in places if os.path.isdir(p) or is_file(p)), None)
    if place is None:
        missing = f"{path}: {key}: {places[0]}: no such folder or file"
        if key != "test":
            raise UserError(f"{missing}; fix the path, or remove the line")
        report.notes.append(f"{missing}, so it is ignored")  # Roboflow always writes this line
        return []
    if os.path.isdir(place):
        return find(place, SUFFIXES)
    if place.suffix.lower() in SUFFIXES:
        return [place]
    found = list[Path]()
    for number, line in enumerate(read_text(place).splitlines(), start=1):
        if name := line.strip().replace("\\", "/"):
            names = name, name.removeprefix("data/")  # as CVAT writes it
            files = [folder / n for folder in (place.parent, root) for n in names]
            file = next((file for file in files if is_file(file)), None)
            if file is None or file.suffix.lower() not in SUFFIXES:
                raise UserError(f"{place}, line {number}: {name[:200]}: no such image; fix it")
            found.append(file)
    return found


def yolo_row(
    where: str, values: list[str], names: list[str], size: tuple[int, int], config: dict[str, Any]
) -> Shape:
    """A row of fractions: class, centre, width and height; or class and a polygon."""
    number, *rest = numbers(where, values)
    if number not in range(len(names)):
        known = f"the classes are 0 to {len(names) - 1}"
        raise UserError(f"{where}: there is no class {values[0][:20]!r}; {known}")
    rest = rest[:4] if "kpt_shape" in config else rest  # key points follow
    if any(abs(value) > 2 for value in rest):
        raise UserError(f"{where}: has pixels, not fractions from 0 to 1; export it again")
    name = names[int(number)]
    if len(rest) == 4:
        x, y, w, h = (n * size[i % 2] for i, n in enumerate(rest))
        return Shape(where, name, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    if len(rest) < 6 or len(rest) % 2:
        wanted = "5 for a box, or an odd number from 7 on for a polygon"
        raise UserError(f"{where}: has {len(values)} values; should be {wanted}")
    points = [(x * size[0], y * size[1]) for x, y in pairs(where, rest)]
    return Shape(where, name, around(points), [points])
