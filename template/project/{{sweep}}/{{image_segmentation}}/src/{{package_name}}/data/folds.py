"""The samples that `sweep --folds` divides: images with their masks."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from ..errors import UserError
from .dataset import find_pairs
from .options import Data


def samples(folder: Path, options: Data) -> Iterator[tuple[object, None, list[Path]]]:
    """For each sample of train/ and valid/: its key, no class (None), and its files.

    Samples with one key are always in one fold: here, equal images. To keep more together, such as
    the frames of a video, return what they share instead.
    """
    for split in ("train", "valid"):
        pairs, problems = find_pairs(folder / split)
        if problems:
            raise UserError("\n".join(problems))
        for image, mask in pairs:
            yield sha256(image.read_bytes()).digest(), None, [image, mask]
