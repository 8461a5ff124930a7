"""Data utils: split folders of images into train/valid/test, check a data folder."""

from pathlib import Path

from . import folders
from .dataset import SUFFIXES, read_image


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a share of each class into `folder`/train, valid and test; returns the numbers."""
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every image: a table of images per split and class, and a list of problems."""
    return folders.check(folder, SUFFIXES, lambda path: read_image(path, size=8, channels=1))
