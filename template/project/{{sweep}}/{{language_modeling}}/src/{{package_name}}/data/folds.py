"""The samples that `sweep --folds` divides: documents."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from .dataset import read_folder
from .options import Data


def samples(folder: Path, options: Data) -> Iterator[tuple[object, None, list[Path]]]:
    """For each document of train/ and valid/, yield its key, no class (None), and its file.

    Documents with one key are always in one fold: here, those that differ only in white space. To
    keep more together, such as the chapters of a book, return what they share instead.
    """
    for split in ("train", "valid"):
        for path, text in read_folder(folder / split):
            yield sha256(" ".join(text.split()).encode()).digest(), None, [path]
