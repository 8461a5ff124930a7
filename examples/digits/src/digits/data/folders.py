"""Find, split and check data that are files in one folder per class."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ..errors import UserError
from .splits import SPLITS, check_new, draw, left_out, table


def find_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below `folder` with these suffixes, sorted; hidden ones are skipped."""
    found = (p for p in folder.rglob("[!.]*") if p.suffix.lower() in suffixes and not p.is_dir())
    return sorted(p for p in found if "/." not in f"/{p.relative_to(folder).as_posix()}")


def find_classes(folder: Path) -> list[str]:
    """The names of the class folders, sorted; UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; data/README.md shows what belongs there")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
    if not classes:
        raise UserError(f"{folder}: holds no class folders; put files into {folder}/<class>/")
    return classes


def find_samples(
    folder: Path, classes: Sequence[str], suffixes: Sequence[str]
) -> list[tuple[Path, int]]:
    """Each file of a split with the index of its class; UserError for a wrong or empty class."""
    samples: list[tuple[Path, int]] = []
    for name in find_classes(folder):
        if name not in classes:
            known = ", ".join(classes)
            raise UserError(f"{folder / name}: not a class of the training data ({known})")
        if not (files := find_files(folder / name, suffixes)):
            raise UserError(f"{folder / name}: holds no files ({', '.join(suffixes)})")
        samples += [(path, classes.index(name)) for path in files]
    return samples


def split(
    source: Path, folder: Path, valid: float, test: float, seed: int, suffixes: Sequence[str]
) -> dict[str, int]:
    """Copy a share of each class to each split, equal files together; returns the counts."""
    check_new(folder, valid, test)
    plan = list[tuple[Path, str]]()
    for name in find_classes(source):
        twins = dict[bytes, list[Path]]()
        for file in find_files(source / name, suffixes):
            twins.setdefault(sha256(file.read_bytes()).digest(), []).append(file)
        groups = list(twins.values())
        parts = draw(len(groups), valid, test, seed, f"{source / name}: different files")
        plan += [(file, part) for part in parts for i in parts[part] for file in groups[i]]
    for file, part in plan:
        target = folder / part / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    return dict(Counter(part for _, part in plan))


def check(
    folder: Path, suffixes: Sequence[str], read: Callable[..., bytes | None], things: str = "files"
) -> tuple[str, list[str]]:
    """Counts, and problems of all files; equal ones have the same bytes, or result of `read`."""
    classes = find_classes(folder / "train")
    problems, seen = list[str](), dict[bytes, tuple[Path, str, str]]()
    counts = {part: Counter[str]() for part in SPLITS}
    for part in SPLITS:
        names = find_classes(folder / part) if (folder / part).is_dir() else []
        for name in dict.fromkeys([*classes, *names]):
            counts[part][name] = len(files := find_files(folder / part / name, suffixes))
            if name not in classes or not files:
                what = "holds no files" if name in classes else "not a class of the training data"
                problems.append(f"{folder / part / name}: {what}")
            inner = {path.parent for path in files if path.parent.name in {*classes} - {name}}
            problems += [f"{path}: named like another class; move it" for path in sorted(inner)]
            for path in files:
                try:
                    content = read(path) or path.read_bytes()
                    twin, *at = seen.setdefault(sha256(content).digest(), (path, part, name))
                    if at != [part, name]:
                        problems.append(f"{path}: the same as in {at[0]}: {twin}; remove one")
                except UserError as error:
                    problems.append(str(error))
    return table(counts, things) + left_out(folder, suffixes), problems
