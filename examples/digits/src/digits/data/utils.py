"""Data utils: split folders of images into train/valid/test, check a data folder."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from . import folders
from .dataset import FORMATS, SUFFIXES, read_image
from .options import Data

WIDE = "are more than twice as long as wide; only the middle square is read"
DARK = "have no value above 4,095 of 65,535, so they are dark; scale them"
PAGED = "have several pages or frames; only the first is read"


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a share of each class into `folder`/train, valid and test; returns the counts."""
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every image; returns a table and problems, and adds overrides that fit to `settings`."""
    data, settings = options or Data(), [] if settings is None else settings
    sides, notes = list[tuple[int, int]](), Counter[str]()

    def read(path: Path) -> bytes:  # pixels, since equal images may be in different formats
        read_image(path, size=8, channels=1)
        with Image.open(path, formats=FORMATS) as image:
            sides.append(image.size)
            notes[f"images of mode {image.mode}"] += 1
            notes["are in colour"] += Image.getmodebase(image.mode) == "RGB"
            notes[WIDE] += max(image.size) > 2 * min(image.size)
            notes[DARK] += image.mode.startswith("I;16") and np.asarray(image).max() < 4096
            with suppress(Exception):  # damaged later pages
                notes[PAGED] += getattr(image, "n_frames", 1) > 1
            pixels = image.convert("RGBA") if image.mode == "P" else image  # palettes differ
            return f"{image.mode} {image.size}".encode() + pixels.tobytes()

    text, problems = folders.check(folder, SUFFIXES, read, "images")
    text += "".join(f"\n{count} {note}" for note, count in notes.items() if count)
    if not sides:
        return text, problems
    sizes = np.quantile(sides, (0.5, 0, 1), axis=0).astype(int)
    text += "\nmedian size {} x {}, smallest {} x {}, largest {} x {}".format(*sizes.flat)
    if data.channels == 1 and 2 * notes["are in colour"] > len(sides):
        settings.append("data.channels=3")
        text += "\ndata.channels=1 reads them as grey; for colour, set data.channels=3"
    best = max(8, min(*sizes[0], 224) // 4 * 4)
    if 1.5 * data.image_size < best:
        settings.append(f"data.image_size={best}")
        text += f"\ndata.image_size={data.image_size} loses detail; set data.image_size={best}"
    return text, problems
