"""Reads UTF-8 texts from class folders, `<folder>/<class>/*.txt`: one per line or per file."""

import re
import sys
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..config import locate
from ..errors import UserError
from .folders import find_files, find_samples
from .vocabulary import PADDING, Vocabulary

SUFFIXES = (".txt",)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # others are white space
MAX_LINE = 2**24  # bytes of a line: as words, they take 50 times as much memory
EMPTY = "is empty; remove the line"
MOST = 100  # the maximum number of problems in an error


@cache
def piled() -> re.Pattern[str]:
    """Matches 1,000 accents on a letter: no script has these, and normalizing takes minutes."""
    accents = (chr(code) for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code)))
    return re.compile(f"[{''.join(accents)}]{{1000}}")


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; a line of MAX_LINE bytes or more comes in parts of that length."""
    return iter(partial(file.readline, MAX_LINE), b"")


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the text and the problem (empty if there is none) of each line.

    Letters are composed (NFC), and white space becomes single spaces.
    """
    for number, line in enumerate(lines, 1):
        if len(line) == MAX_LINE:
            most = f"MAX_LINE in data/dataset.py, {MAX_LINE:,} bytes"
            yield number, "", f"is longer than {most}; make it several lines, or raise that"
            return
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            yield number, "", "not UTF-8; save the file as UTF-8 text"
            continue
        if not text.isascii() and piled().search(text):
            yield number, "", "has 1,000 accents on a letter; remove them"
            continue
        codes = [f"U+{ord(sign):04X}" for sign in dict.fromkeys(CONTROL.findall(text))]
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if len(codes) == 1:
            yield number, text, f"holds the control character {codes[0]}; remove it"
        elif codes:
            yield number, text, f"holds the control characters {', '.join(codes)}; remove them"
        else:
            yield number, text, "" if text else EMPTY


def read_all(
    name: str | Path, lines: Iterable[bytes], whole: bool = False
) -> Iterator[tuple[int, str, str]]:
    """Yield the line number, the text and the problem, if any, of each text of a file.

    A text is a line or, with `whole`, all lines together, some of which may be empty.
    """
    parts, any_lines = list[str](), False
    for number, text, problem in read_lines(lines):
        any_lines = any_lines or not whole or problem != EMPTY
        if problem and not (whole and problem == EMPTY):
            yield number, "", f"{name}, line {number}: {problem}"
        elif whole:
            parts.append(text)
        else:
            yield number, text, ""
    if not any_lines:
        yield 0, "", f"{name}: the file is empty; put a text on each line, or remove it"
    elif whole:
        yield 1, " ".join(filter(None, parts)), ""


def check_texts(path: Path, whole: bool = False) -> Iterator[tuple[int, str, str]]:
    """Like `read_all`, but for a path; UserError if the file can't be opened."""
    try:
        with open(path, "rb") as file:
            yield from read_all(path, bounded(file), whole)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a file of texts") from error


def refuse(problems: Sequence[str]) -> None:
    """Raise UserError with the first MOST problems, if there are any."""
    if problems:
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        raise UserError("\n".join([*problems[:MOST], *more]))


def read_texts(path: Path, whole: bool = False) -> list[str]:
    """The texts of a file; UserError with all lines that can't be used."""
    found = list(check_texts(path, whole))
    refuse([problem for _, _, problem in found if problem])
    return [text for _, text, _ in found]


def read_inputs(name: str, whole: bool = False) -> Iterator[tuple[str, int, str]]:
    """Yield source, line number and text of each text below a path, or of standard input (`-`).

    Raises UserError if there are no files, and before the first text of a file with bad lines.
    """
    if name == "-":
        name = "standard input"
        for number, text, problem in read_all(name, bounded(sys.stdin.buffer), whole):
            refuse([problem] if problem else [])
            yield "-", number, text
        return
    path = locate(name)
    files = find_files(path, SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no files ({', '.join(SUFFIXES)})")
    for file in files:
        for number, text in enumerate(read_texts(file, whole), 1):
            yield str(file), number, text


def read_folder(
    folder: Path, classes: Sequence[str], whole: bool = False
) -> Iterator[tuple[str, int]]:
    """Yield each text of a split and the index of its class; UserError at the end for bad lines."""
    problems = list[str]()
    for path, target in find_samples(folder, classes, SUFFIXES):
        for _, text, problem in check_texts(path, whole):
            if problem:
                problems.append(problem)
            else:
                yield text, target
    refuse(problems)


class TextFolder(Dataset[tuple[Tensor, int]]):
    """One split: texts as numbers (L,), and the index of their class in `classes`.

    Raises UserError with all bad lines, or if a folder is missing, empty or not in `classes`.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        vocabulary: Vocabulary,
        max_length: int,
        whole: bool = False,
    ) -> None:
        # All texts in one array, with one or two bytes per token: strings take several times that
        # memory, and worker processes would copy them.
        dtype = np.min_scalar_type(len(vocabulary) - 1)
        ids, ends, targets = array(dtype.char), array("q", [0]), array("q")
        for text, target in read_folder(folder, classes, whole):
            ids.extend(vocabulary.numbers(text, max_length))
            ends.append(len(ids))
            targets.append(target)
        self.ids, self.ends, self.targets = np.frombuffer(ids, dtype), ends, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        start, end = self.ends[index], self.ends[index + 1]
        return torch.from_numpy(self.ids[start:end].astype(np.int64)), self.targets[index]


def collate(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch: ids (N, L), int64, padded at the end to the longest text; targets (N,), int64."""
    ids, targets = zip(*samples, strict=True)
    return pad_sequence(list(ids), batch_first=True, padding_value=PADDING), torch.tensor(targets)
