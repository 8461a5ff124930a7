"""Data utils: split folders of images into train/valid/test, check a data folder."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from . import folders
from .dataset import FORMATS, SUFFIXES, read_image
from .options import Data


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a share of each class into `folder`/train, valid and test; returns the numbers."""
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(folder: Path, options: Data | None = None) -> tuple[str, list[str]]:
    """Read every image: a table, what `options` leave out of the images, and the problems."""
    facts = list[tuple[float, ...]]()  # width, height; is it in colour, of several pages, dark

    def read(path: Path) -> None:
        read_image(path, size=8, channels=1)
        with suppress(Exception), Image.open(path, formats=FORMATS) as image:  # a later page
            colour = Image.getmodebase(image.mode) == "RGB"
            dark = image.mode.startswith("I;16") and np.asarray(image).max() < 4096
            facts.append((*image.size, colour, getattr(image, "n_frames", 1) > 1, dark))

    table, problems = folders.check(folder, SUFFIXES, read)
    data, all_of = options or Data(), np.array(facts or [(1, 1, 0, 0, 0)])
    width, height = np.median(all_of[:, :2], axis=0).astype(int).tolist()
    size, best = data.image_size, min(width, height, 224)
    wide = (all_of[:, :2].max(axis=1) > 2 * all_of[:, :2].min(axis=1)).sum()
    colour, paged, dark = all_of[:, 2:].sum(axis=0).astype(int).tolist()
    table += f"\nimages: {colour} of {len(facts)} in colour; median size {width} x {height}"
    if data.channels == 1 and 2 * colour > len(facts):
        table += "\ndata.channels=1 reads them as grey; for colour, set data.channels=3"
    if 1.5 * size < best:
        table += f"\ndata.image_size={size} loses detail; for more, set data.image_size={best}"
    if wide:
        table += f"\n{wide} are more than twice as long as wide; only the middle square is read"
    if dark:
        table += f"\n{dark} have no value above 4,095 of 65,535, so they are dark; scale them"
    if paged:
        table += f"\n{paged} have several pages or frames; only the first is read"
    return table, problems
