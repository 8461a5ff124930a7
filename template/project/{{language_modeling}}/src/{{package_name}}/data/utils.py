"""Data utils: split a folder of documents into train/valid/test, check a data folder."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

from ..errors import UserError
from .dataset import find_texts, read_folder, read_text
from .splits import SPLITS, check_new, draw, left_out, table


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy the documents of a folder into `folder`/train, valid and test, each whole.

    `valid` and `test` are shares of the documents, at least one; equal documents stay together.
    Returns the number of documents in each split. Raises UserError, before it copies any, if that
    cannot be done.
    """
    check_new(folder, valid, test)
    twins = dict[bytes, list[Path]]()
    for path, text in read_folder(source):
        twins.setdefault(digest(text), []).append(path)
    groups = list(twins.values())
    parts = draw(len(groups), valid, test, seed, f"{source}: documents")
    counts = dict.fromkeys(SPLITS, 0)
    for part, indices in parts.items():
        for path in (path for index in indices for path in groups[index]):
            target = folder / part / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            counts[part] += 1
    return counts


def digest(text: str) -> bytes:
    """The same for documents that differ in white space alone."""
    return hashlib.sha256(" ".join(text.split()).encode()).digest()


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every document: a table of what each split holds, and a list of problems.

    Problems are unreadable documents, and those that are twice, but for their white space.
    """
    counts = {part: Counter[str]() for part in SPLITS}
    problems, seen, known = list[str](), dict[bytes, Path](), set[str]()
    for part in SPLITS:
        for path in find_texts(folder / part):
            try:
                text = read_text(path)
            except UserError as error:
                problems.append(str(error))
                continue
            if part == "train":
                known |= {*text}
            new = sum(count for sign, count in Counter(text).items() if sign not in known)
            counts[part].update(documents=1, lines=len(text.splitlines()), characters=len(text))
            counts[part].update({"not in train": new})
            twin = seen.setdefault(digest(text), path)
            if twin != path:
                problems.append(f"{path}: the same document as {twin}; remove one")
    text = table(counts).rpartition("\n")[0]  # without the sum of all rows
    return text + left_out(folder, [".txt"]), problems
