"""Data utils: split folders of texts into train/valid/test, check a data folder."""

from collections import Counter
from pathlib import Path

from .dataset import SUFFIXES, check_lines, read_texts
from .folders import find_classes, find_files
from .splits import SPLITS, check_new, draw, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Write the texts of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class's texts, at least one; equal texts stay together.
    Returns the number of texts in each split. Raises UserError, before it writes any, if that
    cannot be done.
    """
    check_new(folder, valid, test)
    plan, counts = dict[Path, list[str]](), dict.fromkeys(SPLITS, 0)
    for name in find_classes(source):
        files = {path: read_texts(path) for path in find_files(source / name, SUFFIXES)}
        distinct = list(dict.fromkeys(text for texts in files.values() for text in texts))
        drawn = draw(len(distinct), valid, test, seed, f"{source / name}: texts")
        part_of = {distinct[i]: part for part, indices in drawn.items() for i in indices}
        for path, texts in files.items():
            for text in texts:
                counts[part_of[text]] += 1
                target = folder / part_of[text] / path.relative_to(source)
                plan.setdefault(target, []).append(text)
    for target, texts in plan.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{text}\n" for text in texts), "utf-8", newline="\n")
    return counts


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every text: a table of texts per split and class, and a list of problems.

    Problems are unreadable lines, empty or unknown classes, and texts that are in two splits.
    """
    classes = find_classes(folder / "train")
    problems, seen = list[str](), dict[str, tuple[str, Path]]()
    counts = {part: Counter[str]() for part in SPLITS}
    for part in SPLITS:
        for name in {*find_classes(folder / part)} - {*classes}:
            problems.append(f"{folder / part / name}: not a class of the training data")
        for name in classes:
            files = find_files(folder / part / name, SUFFIXES)
            if not files:
                problems.append(f"{folder / part / name}: holds no files")
            for path in files:
                texts, bad = check_lines(path)
                problems += bad
                counts[part][name] += len(texts)
                for text in texts:
                    other, twin = seen.setdefault(text, (part, path))
                    if other != part:
                        problems.append(f"{path}: {text[:40]!r} is in {other}, too: {twin}")
    return table(counts), problems
