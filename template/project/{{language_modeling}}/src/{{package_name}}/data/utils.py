"""Data utils: split a folder of documents into train/valid/test, check a data folder."""

import hashlib
import re
import shutil
import statistics
from collections import Counter
from pathlib import Path

from ..errors import UserError
from .dataset import find_texts, read_folder, read_text
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table

MOST_LINES = 1_000_000  # of train/, to find in the others: 100 MB
GARBLED = re.compile("[ÂÃÎÏÐÑ][¡-¿]|â€|\ufffd")  # UTF-8 that was read as Latin-1; lost letters


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy the documents of a folder into `folder`/train, valid and test, each whole.

    `valid` and `test` are shares of the documents, at least one; equal documents stay together.
    Returns the number of documents in each split. Raises UserError, before it copies any, if the
    documents can't be split.
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
    """A hash that is equal for documents that differ only in white space."""
    return hashlib.sha256(" ".join(text.split()).encode()).digest()


def long_lines(text: str) -> list[str]:
    """The lines that two documents hardly share by chance, without outer blanks."""
    return [line for each in text.splitlines() if len(line := each.strip()) >= 20]


def known_share(text: str, learnt: dict[int, Path]) -> tuple[float, Path | None]:
    """The share of a document's characters in lines of `learnt`, and where the first is."""
    known = [line for line in long_lines(text) if hash(line) in learnt]
    return sum(map(len, known)) / len(text.strip()), learnt[hash(known[0])] if known else None


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every document: a table of what each split holds, and a list of problems.

    Problems are unreadable and duplicate documents (which may differ in white space), and documents
    to evaluate whose lines are in train/, almost all. Lines below the table describe the documents.
    `settings` receives overrides of `options` that fit the data better: `data.tokens=bytes`.
    """
    options, lengths = options or Data(), list[int]()
    counts = {part: Counter[str]() for part in SPLITS}
    problems, seen, known = list[str](), dict[bytes, Path](), Counter[str]()
    learnt, garbled = dict[int, Path](), list[str]()  # hashes of lines; where letters are wrong
    for part in SPLITS:
        try:
            paths = find_texts(folder / part)
        except UserError as error:
            problems.append(str(error))
            continue
        for path in paths:
            try:
                text = read_text(path)
            except UserError as error:
                problems += str(error).splitlines()
                continue
            signs = Counter(text)
            if part == "train":
                known += signs
                lengths.append(len(text))
                if len(learnt) < MOST_LINES:
                    learnt.update(dict.fromkeys(map(hash, long_lines(text)), path))
            new = sum(count for sign, count in signs.items() if sign not in known)
            counts[part].update(documents=1, lines=len(text.splitlines()), characters=len(text))
            counts[part].update({"not in train": new})
            if found := GARBLED.search(text):
                line = text.count("\n", 0, found.start()) + 1
                garbled.append(f"{path}, line {line}: {found[0]!r}")
            twin = seen.setdefault(digest(text), path)
            if twin != path:
                problems.append(f"{path}: the same document as {twin}; remove one")
            elif part != "train" and (known_part := known_share(text, learnt))[0] > 0.9:
                what = "{:.0%} of it is in train, too: {}".format(*known_part)
                problems.append(f"{path}: {what}; remove it from one")
    text = table(counts).rpartition("\n")[0] + left_out(folder, [".txt"])  # without the row `all`
    lines, better = _describe(lengths, known, counts, options) if lengths else ([], [])
    if garbled:
        what = f"{len(garbled)} documents have signs of a wrong encoding"
        lines.append(f"{what}: {garbled[0]}; convert them again")
    if settings is not None:
        settings += better
    return "\n".join([text, *lines]), problems


def _describe(
    lengths: list[int], signs: Counter[str], counts: dict[str, Counter[str]], options: Data
) -> tuple[list[str], list[str]]:
    """Lines that describe documents of these lengths and characters; the `options` to change."""
    spread = f"{statistics.median(lengths):,.0f} (median), at most {max(lengths):,}"
    seldom = sum(count == 1 for count in signs.values())
    lines = [f"characters of a document: {spread}"]
    lines.append(f"{len(signs):,} different characters in train, {seldom:,} of them only once")
    better = list[str]()
    later = sum(counts[part]["characters"] for part in SPLITS[1:])
    new = sum(counts[part]["not in train"] for part in SPLITS[1:])
    if options.tokens == "characters" and (100 * new > later > 0 or len(signs) > 1000):
        better.append("data.tokens=bytes")
        lines.append("many characters are unknown or rare; set data.tokens=bytes")
    least = min(counts[part]["characters"] for part in SPLITS)
    if 8 < least < options.context:
        better.append(f"data.context={max(8, least // 2)}")
        lines.append(f"a split is shorter than data.context={options.context}; set {better[-1]}")
    return lines, better
