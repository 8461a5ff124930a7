"""Data utils: split points into train/valid/test, check a data folder."""

from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import find_files, read_file
from .splits import SPLITS, check_new, draw, left_out, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy the points of a file or folder into `folder`/train, valid and test.

    `valid` and `test` are shares, at least one point. Returns the number of points in each split.
    Raises UserError, before it writes any, if the points can't be split.

    Yours: keep samples that belong together (of a patient, a day, a machine) in one split.
    """
    check_new(folder, valid, test)
    lines: list[str] = []
    for file in find_files(source):
        text = file.read_text("utf-8-sig").splitlines()
        lines += [text[number - 1] for number in read_file(file)]
    parts = draw(len(lines), valid, test, seed, f"{source}: points")
    for split, indices in parts.items():
        (folder / split).mkdir(parents=True)
        rows = ["x,y,class", *(lines[index] for index in indices)]
        (folder / split / "points.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return {split: len(indices) for split, indices in parts.items()}


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every point: a table of points per split and class, and a list of problems.

    Yours: check what else can be wrong with your data; here, a point in two splits or classes. A
    parameter `options` would get the section `data`, a list `settings` overrides to suggest.
    """
    problems, seen = list[str](), dict[tuple[float, ...], tuple[str, int]]()
    counts = {split: Counter({"class 0": 0, "class 1": 0}) for split in SPLITS}
    for split in SPLITS:
        try:
            files = find_files(folder / split)
        except UserError as error:
            problems.append(str(error))
            continue
        for file in files:
            try:
                samples = read_file(file, problems=problems)
            except UserError as error:
                problems.append(str(error))
                continue
            for number, (point, target) in samples.items():
                counts[split][f"class {target}"] += 1
                at = (split, int(target))
                other = seen.setdefault(tuple(point.tolist()), at)
                if other != at:
                    where = f"in {other[0]}/" if other[0] != split else f"of class {other[1]}, too"
                    problems.append(f"{file}, line {number}: the same point is {where}; remove one")
    points = np.array([*seen] or [(0.0, 0.0)])
    low, high = points.min(axis=0), points.max(axis=0)
    ranges = (f"{name} {low[i]:.4g} to {high[i]:.4g}" for i, name in enumerate("xy"))
    text = table(counts, "points") + left_out(folder, [".csv"])
    return text + "\n" + ", ".join(ranges), problems
