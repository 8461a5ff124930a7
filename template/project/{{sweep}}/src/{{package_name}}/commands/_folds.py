"""The folds of `sweep --folds`: data folders of links to the files of `data.folder`, made once.

Each fold has a different part of train/ and valid/ as its valid/, the rest as its train/, and the
same test/. Tasks read it like any data folder.
"""

import hashlib
import importlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..config import locate
from ..data.splits import SPLITS, unpack_sample
from ..errors import UserError
from ..options import Config
from ._trials import locked


def make(config: Config, folds: int, test: bool = False) -> list[str]:
    """The data folder of each fold; makes them all, unless they exist.

    Raises UserError if the data can't be divided, or `test` is needed and missing.
    """
    try:
        from ..data import folds as kind
    except ImportError as error:
        advice = "docs/sweep.md, Cross-validation, says what it needs"
        raise UserError(f"--folds: data/folds.py: {error}; {advice}") from error
    own: Any = importlib.import_module(f"...{config.run.task}", __name__)
    if config.run.task != "task" and hasattr(own, "samples"):
        kind = own
    folder = locate(config.data.folder, inside=True)
    unpack_sample(folder)
    if test and not (folder / "test").is_dir():  # known before hours of training
        raise UserError(f"--test: {folder / 'test'}: no such folder; add it, or omit --test")
    name = f"{folds}-{config.run.seed}-{_digest(kind, folder, config.data)}"
    home = folder / "folds"
    try:
        home.mkdir(exist_ok=True)
        (home / ".gitignore").write_text("*\n", encoding="utf-8")
        while not (lock := locked(home / "folds.lock")):  # another process makes them
            time.sleep(0.05)
        with lock:
            if not (home / name).is_dir():
                _make(kind, config, folds, home / name)
    except OSError as error:
        what = f"{error.filename or home}: {error.strerror}"
        raise UserError(f"{what}; --folds reads data.folder, and writes into it") from error
    place = Path(config.data.folder, "folds", name)
    return [(place / str(fold)).as_posix() for fold in range(folds)]


def _make(kind: Any, config: Config, folds: int, place: Path) -> None:
    """Make the data folders `place`/0, `place`/1, …: all of them, or none."""
    folder = locate(config.data.folder, inside=True)
    samples = list(kind.samples(folder, config.data))
    of = deal([(key, label) for key, label, _ in samples], folds, config.run.seed, folder)
    items = [item for _, _, item in samples]
    write = getattr(kind, "write", partial(_places, folder))
    for left in place.parent.glob(".making-*"):  # by a start that was killed
        shutil.rmtree(left)
    aside = place.with_name(f".making-{place.name}")  # complete or absent, also after a kill
    same = [file for file in _files(folder) if file.relative_to(folder).parts[0] not in SPLITS[:2]]
    for fold in range(folds):
        parts: dict[str, list[Any]] = {"train": [], "valid": []}
        for item, own in zip(items, of, strict=True):
            parts["valid" if own == fold else "train"].append(item)
        for split, chosen in parts.items():
            for file, target in write(chosen, aside / str(fold) / split) or []:
                _link(file, target)
        for file in same:
            _link(file, aside / str(fold) / file.relative_to(folder))
    aside.rename(place)


def deal(
    samples: Sequence[tuple[object, str | None]], folds: int, seed: int, where: Path
) -> list[int]:
    """The fold of each sample, given its key and its class; UserError if there are too few.

    Samples with the same key are in the same fold. Each class, and all samples together, are
    divided evenly: the numbers differ by at most one if no key occurs twice.
    """
    groups = dict[object, list[int]]()
    for index, (key, _) in enumerate(samples):
        groups.setdefault(key, []).append(index)
    members = list(groups.values())
    labels = [samples[group[0]][1] or "" for group in members]
    if len(members) < folds:
        raise UserError(f"{where}: {len(members)} different samples are too few for {folds} folds")
    if few := [name for name, count in Counter(labels).items() if count < folds]:
        if single := [name for name in few if labels.count(name) == 1]:
            raise UserError(f"{where}: class {single[0]!r}: one sample can't be divided; add some")
        names = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if few[5:] else "")
        what = f"fewer than {folds} samples, so none in valid/ of some folds"
        print(f"{where}: {what}: {names}", file=sys.stderr)
    # The largest groups first, since the small ones then even out the numbers.
    order = np.random.default_rng(seed).permutation(len(members)).tolist()
    order.sort(key=lambda number: (labels[number], -len(members[number])))
    found, totals, of_class = [0] * len(samples), [0] * folds, Counter[tuple[int, str]]()
    for number in order:
        label, group = labels[number], members[number]
        fold = min(range(folds), key=lambda fold: (of_class[fold, label], totals[fold]))
        of_class[fold, label] += len(group)
        totals[fold] += len(group)
        for index in group:
            found[index] = fold
    return found


def _places(folder: Path, samples: list[list[Path]], split: Path) -> Iterator[tuple[Path, Path]]:
    """The files of samples, with their places in a fold: cat/1.png of valid/ is cat/valid/1.png."""
    for file in chain.from_iterable(samples):
        origin, *first, name = file.relative_to(folder).parts
        yield file, split.joinpath(*first[:1], origin, *first[1:], name)


def _link(file: Path, target: Path) -> None:
    """Hard-link a file, or copy it where links don't work; make a symbolic link to a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if file.is_dir():
            return target.symlink_to(file.resolve(), target_is_directory=True)
        os.link(file.resolve(), target)  # the file that a symbolic link leads to
    except OSError:
        shutil.copy2(file, target)


def _files(folder: Path) -> list[Path]:
    """The files and linked folders of the splits, and files beside them that folds may need."""
    beside = [path for path in folder.glob("[!.]*") if path.is_file()]
    files = [path for path in beside if path.name not in ("README.md", "sample.zip")]
    files += [path for split in SPLITS for path in (folder / split).rglob("[!.]*")]
    linked = [path for path in files if path.is_symlink() and path.is_dir()]
    return sorted([*linked, *(path for path in files if path.is_file())])


def _digest(kind: Any, folder: Path, data: Any) -> str:
    """A hash of what the folds depend on: with other files or options, new folds are made."""
    options = [(name, getattr(data, name)) for name in getattr(kind, "OPTIONS", ())]
    tops = (path.rglob("[!.]*") if path.is_dir() else [path] for path in _files(folder))
    found = sorted(path for path in chain.from_iterable(tops) if path.is_file())
    stats = ((path.relative_to(folder).as_posix(), path.stat()) for path in found)
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    code = Path(kind.__file__).read_text(encoding="utf-8")
    return hashlib.sha256(repr((files, options, code)).encode()).hexdigest()[:8]
