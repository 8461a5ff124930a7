"""Data utils: split folders of texts into train/valid/test, check a data folder."""

import re
from collections import Counter
from itertools import takewhile
from pathlib import Path

import numpy as np

from ..config import did_you_mean
from ..errors import UserError
from .dataset import SUFFIXES, check_texts, refuse
from .folders import find_classes, find_files
from .options import Data
from .splits import SPLITS, check_new, draw, left_out, table
from .vocabulary import Vocabulary

MOST = 1024  # the largest data.max_length that `check_folder` suggests
GARBLED = re.compile("[ÂÃÎÏÐÑ][¡-¿]|â€|\ufffd")  # UTF-8 that was read as Latin-1; lost letters
OLD_MAC = re.compile(rb"\r[^\r\n]")
ENDS = "has line ends of old Macs (CR), which divide no texts; save it with LF"
NO_CLASS = "not a class of the training data; rename or remove it"


def split_folder(
    source: Path,
    folder: Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    options: Data | None = None,
) -> dict[str, int]:
    """Write the texts of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class's texts, at least one; texts that are equal to the
    model stay together, even if their classes differ. Returns the number of texts in each split.
    Raises UserError, before it writes any, if the texts can't be split.
    """
    check_new(folder, valid, test)
    options = options or Data()
    whole, same = options.text == "file", str.lower if options.lowercase else str
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
        distinct = list(dict.fromkeys(same(text) for _, text in texts))
        drawn = draw(len(distinct), valid, test, seed, f"{source / name}: texts")
        for part, indices in drawn.items():
            for index in indices:
                part_of.setdefault(distinct[index], part)
        for path, text in texts:
            counts[part_of[same(text)]] += 1
            target = folder / part_of[same(text)] / path.relative_to(source)
            plan.setdefault(target, []).append(text)
    for target, lines in plan.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{text}\n" for text in lines), "utf-8", newline="\n")
    return counts


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every text: a table of texts per split and class, and a list of problems.

    Problems are unreadable lines, empty or unknown classes, and texts that are in two splits.
    Lines below the table say what counts as a text, and how long texts are. `settings` receives
    overrides of `options` that fit the data better, such as `data.text=file`.
    """
    options = options or Data()
    whole, classes = options.text == "file", find_classes(folder / "train")
    problems, seen = list[str](), dict[str, tuple[Path, str, str]]()
    counts = {part: Counter[str]() for part in SPLITS}
    facts, same = Facts(options), str.lower if options.lowercase else str
    for part in SPLITS:
        try:
            unknown = {*find_classes(folder / part)} - {*classes}
        except UserError as error:
            problems.append(str(error))
            continue
        for name in sorted(unknown):
            problems.append(f"{folder / part / name}: {NO_CLASS}{did_you_mean(name, classes)}")
        for name in classes:
            found = find_files(folder / part / name, SUFFIXES)
            counts[part][name] = 0
            if not found:
                problems.append(f"{folder / part / name}: holds no files; add some")
            for path in found:
                content = path.read_bytes()
                facts.files.append(content.count(b"\n"))
                if not whole and len(OLD_MAC.findall(content)) > facts.files[-1]:
                    problems.append(f"{path}: {ENDS}")
                for number, text, problem in check_texts(path, whole):
                    if problem:
                        problems.append(problem)
                        continue
                    counts[part][name] += 1
                    where = f"{path}, line {number}"
                    facts.add(text, where, name if part == "train" else "")
                    twin, other, at = seen.setdefault(same(text), (path, part, name))
                    says = f"{where}: {text[:40]!r} is in {other}, too: {twin}"
                    if other != part:
                        problems.append(f"{says}; remove one")
                    elif at != name:
                        facts.shared.append(says)
    text = table(counts, "texts") + left_out(folder, SUFFIXES)
    lines, better = _describe(facts.files, facts.words, facts.tokens, len(classes), options)
    if settings is not None:
        settings += better
    return "\n".join([text, *lines, *facts.lines()]), problems


class Facts:
    """Facts about texts: their sizes, signs of a wrong encoding, and labels in the texts."""

    def __init__(self, options: Data) -> None:
        self.unit = "characters" if options.tokens == "characters" else "words"
        self.cut = Vocabulary(self.unit, options.lowercase, []).cut
        self.files = list[int]()  # lines
        self.words, self.tokens = list[int](), list[int]()
        self.garbled, self.shared = list[str](), list[str]()  # where
        self.ends: dict[bool, dict[str, str]] = {False: {}, True: {}}  # of all texts of a class
        self.counts = Counter[str]()

    def add(self, text: str, where: str, name: str) -> None:
        """Add a text; `name` is its class, if it is in train/."""
        self.words.append(len(text.split()))
        self.tokens.append(len(self.cut(text)))
        if GARBLED.search(text):
            self.garbled.append(where)
        if name:
            self.counts[name] += 1
            for last, ends in self.ends.items():
                end = text[:-200:-1] if last else text[:200]
                pairs = zip(ends.get(name, end), end, strict=False)
                ends[name] = "".join(a for a, _ in takewhile(lambda p: p[0] == p[1], pairs))

    def lines(self) -> list[str]:
        """Lines to print about texts that would spoil a training unseen."""
        lines = list[str]()
        if self.garbled:
            what = "texts have signs of a wrong encoding, such as Ã¼ or \ufffd"
            lines.append(f"{len(self.garbled)} {what}: {self.garbled[0]}; convert them again")
        if self.shared:
            lines.append(f"{len(self.shared)} texts are in two classes: {self.shared[0]}")
        for last, ends in self.ends.items():
            different = len({*ends.values()}) == len(ends) > 1 and all(ends.values())
            if different and min(self.counts.values()) >= 10:
                name, end = next(iter(ends.items()))
                end = end[::-1] if last else end
                does = f"{'end' if last else 'begin'} with {end!r}, those of others differently"
                lines.append(f"all texts of {name} {does}; if that gives the class away, remove it")
        return lines


def _describe(
    files: list[int], words: list[int], tokens: list[int], classes: int, options: Data
) -> tuple[list[str], list[str]]:
    """Lines that describe the texts, and the `options` to change.

    `files` are the numbers of lines of each file, `words` and `tokens` the numbers in each text.
    """
    if not words:
        return [], []
    whole, better = options.text == "file", list[str]()
    says = "a line; data.text=file makes each file one"
    if whole:
        says = "a file; data.text=line makes each line one"
    lines = [f"{len(words)} texts in {len(files)} files: a text is {says}"]
    sizes = "{:.0f} (median), at most {}".format
    kind = "characters" if options.tokens == "characters" else "words and signs"
    lines[:0] = [
        f"words of a text: {sizes(np.median(words), max(words))}; "
        f"{kind}: {sizes(np.median(tokens), max(tokens))}"
    ]
    several = np.median(files) > 1  # lines of a file
    if not whole and several and len(files) > 30 * classes:
        better.append("data.text=file")
        lines.append(f"{len(files):,} files are many; if each is a text, set data.text=file")
    elif whole and several and len(files) <= 3 * classes:
        better.append("data.text=line")
        lines.append(f"{len(files)} files are few; if each line is a text, set data.text=line")
    longer = sum(count > options.max_length for count in tokens)
    if 20 * longer > len(tokens) and not better and options.max_length < MOST:
        best = min(MOST, int(np.ceil(np.quantile(tokens, 0.95) / 64)) * 64)
        better.append(f"data.max_length={best}")
        cut = f"{longer} texts are longer than data.max_length={options.max_length} {kind}"
        lines.append(f"{cut}, and are cut off there; set data.max_length={best}")
    return lines, better
