"""The command `import-data`: convert annotations of other tools to this project's layout."""

import argparse
import hashlib
import random
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from ..cli import function_and_options
from ..errors import UserError
from . import _formats
from ._annotations import Item, Report, one_line, split_of

# Not imported from data/splits.py, which is the owner's: that of earlier releases lacks it.
SPLITS = ("train", "valid", "test")


def import_data(args: argparse.Namespace) -> None:
    """Import annotations of other tools as train/, valid/ and test/ in this project's layout."""
    source, report = Path(args.source), Report()
    _, folder, _ = function_and_options(args, "split_folder")
    if min(args.valid, args.test) <= 0 or args.valid + args.test >= 1:
        given = f"--valid {args.valid} --test {args.test}"
        raise UserError(f"{given}: should be above 0, and below 1 together")
    if there := [folder / split for split in SPLITS if (folder / split).exists()]:
        names = ", ".join(map(str, there))
        raise UserError(f"{names}: already exist; move them away first, or name a new folder")
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; name the one with the annotations")
    items = list[Item]()
    for item in _formats.READERS[args.format](source, report):
        with report.guard():
            shapes = [shape._replace(name=one_line(shape.name)) for shape in item.shapes]
            items.append(item._replace(name=short_name(item), shapes=shapes))
    check_names(items, report)
    if report.problems:
        raise UserError("\n".join(brief(report.problems)))
    items = draw_splits(items, source, args, report)
    publish(folder, items, args.link, report)
    for note in brief(report.notes):
        print(f"warning: {note}", file=sys.stderr)
    counts = Counter(item.split for item in items)
    print(f"{folder}: " + ", ".join(f"{counts[split]} {split}" for split in SPLITS))
    package = __package__.partition(".")[0]
    print(f"check it: {shlex.join([sys.executable, '-m', package, 'check-data', str(folder)])}")


def publish(folder: Path, items: list[Item], link: bool, report: Report) -> None:
    """Write all splits or none; UserError with the problems that appear only while writing."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if left := sorted(folder.glob(".importing-*")):
        report.notes.append(f"{left[0]}: is left from an import that was killed; remove it")
    # Write to a temporary folder, move train/ last: a kill leaves nothing that looks complete.
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".importing-") as aside:
            write(Path(aside), items, link, report)
            if report.problems:
                raise UserError("\n".join(brief(report.problems)))
            new_paths = sorted(Path(aside).iterdir(), key=lambda path: path.name == "train")
            for path in new_paths:
                there = folder / path.name
                if there.is_file() and there.read_bytes() != path.read_bytes():
                    raise UserError(f"{there}: has other classes; move it away first")
            for path in new_paths:
                path.replace(folder / path.name)
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


def short_name(item: Item) -> str:
    """The name of an image without folders that name its split: its new path has that already."""
    *folders, name = PurePosixPath(item.name).parts
    if item.split:
        named = (part for part in folders if not part.lower().endswith("images"))
        folders = [part for part in named if not split_of([part])]
    return "/".join([*folders, name])


def check_names(items: list[Item], report: Report) -> None:
    """Add a problem for each image that would overwrite another, or if there are no images."""
    if not items and not report.problems:
        report.problems.append("no images with annotations were found")
    seen = dict[tuple[str, str], Item]()
    for item in items:
        key = item.split, _formats.place(item.name)
        other = seen.setdefault(key, item)
        if other is not item:
            report.problems.append(f"{item.file}: has the name of {other.file}; rename one of them")
    if len({bool(item.split) for item in items}) == 2:
        out = next(item.file for item in items if not item.split)
        report.problems.append(f"{out}: is in no split, but other images are; move it into one")


def draw_splits(
    items: list[Item], source: Path, args: argparse.Namespace, report: Report
) -> list[Item]:
    """Draw missing splits at random from the training images; equal images stay together."""
    have = {item.split for item in items} - {""}
    missing = [split for split in SPLITS[1:] if split not in have]
    if have and "train" not in have:
        raise UserError(f"{source}: holds {' and '.join(sorted(have))}, but no train; add it")
    if not missing:
        return items
    twins = dict[bytes, list[int]]()
    for index, item in enumerate(items):
        if item.split in ("", "train"):
            twins.setdefault(hashlib.sha256(item.file.read_bytes()).digest(), []).append(index)
    groups, new = list(twins.values()), dict[int, str]()
    random.Random(args.seed).shuffle(groups)
    counts = {split: max(1, round(vars(args)[split] * len(groups))) for split in missing}
    if sum(counts.values()) >= len(groups):
        raise UserError(f"{source}: {len(groups)} different images are too few to split; add some")
    for split, count in counts.items():
        new |= {index: split for _ in range(count) for index in groups.pop()}
    drawn = " and ".join(missing)
    report.notes.append(f"{source}: has no {drawn}; drawn at random from its images")
    return [
        item._replace(split=new.get(index, item.split or "train"))
        for index, item in enumerate(items)
    ]


def write(folder: Path, items: list[Item], link: bool, report: Report) -> None:
    """Write the splits, with copies of the images, or links to them."""
    classes = _formats.class_names(items, report)
    for split in dict.fromkeys(item.split for item in items):
        own = [item for item in items if item.split == split]
        for item in own:
            target = folder / split / "images" / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.symlink_to(item.file.resolve())
            else:
                shutil.copyfile(item.file, target)
        _formats.write(folder / split, own, classes, report)


def brief(lines: list[str]) -> list[str]:
    """The first ten lines of each kind, and how many more there are."""
    kinds, shown = Counter[str](), list[str]()
    for line in lines:
        kind = re.sub(r"'.*?'|[^\s;]*[/\\\d][^\s;]*", "…", line.partition(": ")[2])
        kinds[kind] += 1
        shown += [line] if kinds[kind] <= 10 else []
    return shown + [f"{count - 10:,} more: {kind}" for kind, count in kinds.items() if count > 10]


def add_to(add: Any) -> None:
    folder = "a folder (default: data.folder), and section.key=value"
    formats = [*_formats.READERS]
    sub = add(
        import_data,
        format={"choices": formats, "metavar": "FORMAT", "help": ", ".join(formats)},
        source={"metavar": "SOURCE", "help": "the folder of the data set, or its main file"},
        settings={"nargs": "*", "metavar": "SETTING", "help": folder},
    )
    sub.add_argument("--config", action="append", metavar="FILE", help="default: configs/train")
    sub.add_argument("--link", action="store_true", help="link to the images instead of copying")
    sub.add_argument("--valid", type=float, default=0.1, help="fraction, if there is none (0.1)")
    sub.add_argument("--test", type=float, default=0.1, help="fraction, if there is none (0.1)")
    sub.add_argument("--seed", type=int, default=0, help="of the splits that are drawn (0)")
