"""Data utils: split folders of images into train/valid/test, check a data folder."""

from pathlib import Path

from . import folders
from .dataset import SUFFIXES, read_image


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a folder of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class, at least one image. Returns the number of images
    in each split. Raises UserError, before it copies any, if that cannot be done.
    """
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every image: a table of images per split and class, and a list of problems.

    Problems are unreadable files, empty or unknown classes, and images that are in two splits.
    """
    return folders.check(folder, SUFFIXES, lambda path: read_image(path, size=8, channels=1))
