"""Texts in a folder per class: `<folder>/<class>/*.txt`, one text a line, in UTF-8."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..config import locate
from ..errors import UserError
from .folders import find_files, find_samples
from .vocabulary import PADDING, Vocabulary

SUFFIXES = (".txt",)


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str, str]]:
    """The number of each line, its text, and what is wrong with it, if anything.

    Letters are composed (NFC), and white space becomes single spaces.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield number, "", "not UTF-8; save the file as UTF-8 text"
            continue
        control = [c for c in text if unicodedata.category(c) == "Cc" and c != "\t"]
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if control:
            yield number, text, f"holds the control character U+{ord(control[0]):04X}; remove it"
        else:
            yield number, text, "" if text else "is empty; remove the line"


def check_lines(path: Path) -> tuple[list[str], list[str]]:
    """All texts of a file that can be used, and its problems; UserError if it can't be opened."""
    texts, problems = list[str](), list[str]()
    try:
        with open(path, "rb") as file:
            for number, text, problem in read_lines(file):
                if problem:
                    problems.append(f"{path}, line {number}: {problem}")
                else:
                    texts.append(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a file of texts") from error
    if not texts and not problems:
        problems.append(f"{path}: the file is empty; put a text on each line, or remove it")
    return texts, problems


def read_texts(path: Path) -> list[str]:
    """The texts of a file; UserError, with the line, at the first that can't be used."""
    texts, problems = check_lines(path)
    if problems:
        raise UserError(problems[0])
    return texts


def read_inputs(name: str) -> Iterator[tuple[str, int, str]]:
    """The source, line number and text of each line below a path; of standard input for `-`.

    Raises UserError if there is none, or at the first that can't be used.
    """
    if name == "-":
        for number, text, problem in read_lines(sys.stdin.buffer):
            if problem:
                raise UserError(f"standard input, line {number}: {problem}")
            yield "-", number, text
        return
    path = locate(name)
    files = find_files(path, SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no files ({', '.join(SUFFIXES)})")
    for file in files:
        for number, text in enumerate(read_texts(file), 1):
            yield str(file), number, text


class TextFolder(Dataset[tuple[Tensor, int]]):
    """One split: texts as numbers (L,), and the index of their class in `classes`.

    Raises UserError if a folder is missing or empty or not among `classes`, or for a bad line.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], vocabulary: Vocabulary, max_length: int
    ) -> None:
        self.vocabulary, self.max_length = vocabulary, max_length
        self.samples = read_folder(folder, classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        text, target = self.samples[index]
        return self.vocabulary.encode(text, self.max_length), target


def read_folder(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Each text of a split with the index of its class; UserError as for `TextFolder`."""
    files = find_samples(folder, classes, SUFFIXES)
    return [(text, target) for path, target in files for text in read_texts(path)]


def collate(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Ids (N, L), int64, padded at the end to the longest text; targets (N,), int64."""
    ids, targets = zip(*samples, strict=True)
    return pad_sequence(list(ids), batch_first=True, padding_value=PADDING), torch.tensor(targets)
