"""Data utils: split folders of texts into train/valid/test, check a data folder."""

from collections import Counter
from pathlib import Path

from .dataset import SUFFIXES, check_texts, refuse
from .folders import find_classes, find_files
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table


def split_folder(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Data | None = None,
) -> dict[str, int]:
    """Write the texts of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class's texts, at least one; equal texts stay together,
    those of several classes too. Returns the number of texts in each split. Raises UserError,
    before it writes any, if that cannot be done.
    """
    check_new(folder, valid, test)
    whole = (options or Data()).text == "file"
    found, problems = dict[str, list[tuple[Path, str]]](), list[str]()
    for name in find_classes(source):
        found[name] = []
        for path in find_files(source / name, SUFFIXES):
            for _, text, problem in check_texts(path, whole):
                found[name].append((path, text))
                problems += [problem] if problem else []
    refuse(problems)
    plan, counts = dict[Path, list[str]](), dict.fromkeys(SPLITS, 0)
    part_of = dict[str, str]()
    for name, texts in found.items():
        distinct = list(dict.fromkeys(text for _, text in texts))
        drawn = draw(len(distinct), valid, test, seed, f"{source / name}: texts")
        for part, indices in drawn.items():
            for index in indices:
                part_of.setdefault(distinct[index], part)
        for path, text in texts:
            counts[part_of[text]] += 1
            target = folder / part_of[text] / path.relative_to(source)
            plan.setdefault(target, []).append(text)
    for target, lines in plan.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{text}\n" for text in lines), "utf-8", newline="\n")
    return counts


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every text: a table of texts per split and class, and a list of problems.

    Problems are unreadable lines, empty or unknown classes, and texts that are in two splits.
    Below the table is what counts as a text.
    """
    whole = (options or Data()).text == "file"
    classes, read = find_classes(folder / "train"), 0
    problems, seen = list[str](), dict[str, tuple[str, Path]]()
    counts = {part: Counter[str]() for part in SPLITS}
    for part in SPLITS:
        for name in {*find_classes(folder / part)} - {*classes}:
            problems.append(f"{folder / part / name}: not a class of the training data")
        for name in classes:
            files = find_files(folder / part / name, SUFFIXES)
            read += len(files)
            counts[part][name] = 0
            if not files:
                problems.append(f"{folder / part / name}: holds no files")
            for path in files:
                here = (part, path)
                for number, text, problem in check_texts(path, whole):
                    if problem:
                        problems.append(problem)
                        continue
                    counts[part][name] += 1
                    other, twin = seen.setdefault(text, here)
                    if other != part:
                        where = f"{path}, line {number}: {text[:40]!r}"
                        problems.append(f"{where} is in {other}, too: {twin}; remove one")
    total = sum(count.total() for count in counts.values())
    says = "a file; data.text=line makes each line one"
    if not whole:
        says = "a line; data.text=file makes each file one"
    text = f"{table(counts)}\n{total} texts in {read} files: a text is {says}"
    return text + left_out(folder, SUFFIXES), problems
