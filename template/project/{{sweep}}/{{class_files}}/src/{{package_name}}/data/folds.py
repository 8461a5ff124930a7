"""The samples that `sweep --folds` divides: files in a folder per class."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from .dataset import SUFFIXES
from .folders import find_classes, find_files
from .options import Data


def samples(folder: Path, options: Data) -> Iterator[tuple[object, str, list[Path]]]:
    """The key, the class and the file of each sample of train/ and valid/.

    Samples with one key are always in one fold: here, equal files. To keep more together, such as
    the images of a patient, return what they share instead.
    """
    for split in ("train", "valid"):
        for name in find_classes(folder / split):
            for file in find_files(folder / split / name, SUFFIXES):
                yield sha256(file.read_bytes()).digest(), name, [file]
