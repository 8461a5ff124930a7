"""Make the sample data of the image segmentation kind again: ``data/sample.zip`` and ``images/sample/``.

    python3 template/kinds/image_segmentation/sample.py STARDIST_WHEEL

The source is the example picture of the Python package stardist 0.9.2 (BSD-3-Clause), in its wheel from PyPI:
``stardist/data/images/img2d.tif`` and ``mask2d.tif``, 512 x 512 pixels each: cell nuclei in a fluorescence microscope,
and the number of the nucleus that each pixel belongs to. The wheels for all platforms hold the same two files.

The same Pillow writes the same bytes each time; another version may compress the PNGs differently, with equal pixels.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{image_segmentation}}"
SIDE, SIZE = 64, 512
CLASSES = ["background", "nucleus", "boundary"]
PALETTE = [0, 0, 0, 86, 180, 233, 230, 159, 0]  # what a viewer shows for each class; readers take the index

# The columns of each split. The 32 columns between two splits are unused. No nucleus at an edge extends so far, so
# none is in two splits.
SPLITS = {"train": (0, 256), "valid": (288, 352), "test": (384, 512)}

# name: box (left, top, right, bottom) in the unused columns, mode.
SAMPLES = {
    "strip": ((256, 128, 288, 256), "L"),
    "pair": ((352, 48, 384, 112), "RGB"),
    "two": ((352, 120, 384, 184), "I;16"),
}

NOTICE = """\
Cell nuclei in a fluorescence microscope, cut from the example picture of the Python package stardist.

Source:     stardist 0.9.2, stardist/data/images/img2d.tif and mask2d.tif. Its code says where they come from:
            the 2018 Data Science Bowl (Caicedo et al., Nucleus segmentation across imaging experiments,
            Nature Methods 16, 2019)
Copyright:  Uwe Schmidt, Martin Weigert
Licence:    BSD-3-Clause, in LICENSE.txt beside this file
Changed:    cut into tiles of {side} x {side} pixels ({counts}). The values of images are unchanged,
            in 8 bits instead of 16. A file is named after the row and column of its upper left pixel.
            The masks of the source number the nuclei; here they have 3 classes: 0 background, 1 nucleus, 2 boundary.
            A pixel is boundary if the 3 x 3 pixels around it are not all of one nucleus, or all of the background.

Before you trust a number:
- It is one image of one dish. The splits are ranges of its columns, {gap} pixels apart, so that no nucleus is in two
  splits. Light, focus and stain are the same in all; a model may fail on images of another microscope.
- The boundary is 2 pixels wide, and drawn by hand in the source. Its exact position is uncertain by a pixel, so its
  intersection over union stays far below 1 for any model.
- The test split has {nuclei} nuclei, whole or cut by an edge. It shows that the code learns, and is too small to
  compare models.
- A few nuclei divide or die, and are far brighter than the rest; there are too few of them to learn from.
"""


def class_mask(numbers: np.ndarray) -> np.ndarray:
    """Convert the number of each pixel's nucleus (0 for none) to a class: 0 background, 1 nucleus, 2 boundary."""
    near = np.lib.stride_tricks.sliding_window_view(np.pad(numbers, 1, mode="edge"), (3, 3))
    return np.where(near.min((2, 3)) != near.max((2, 3)), 2, numbers > 0).astype(np.uint8)


def png(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def archive(pixels: np.ndarray, numbers: np.ndarray, licence: bytes) -> bytes:
    """Return the zip file's bytes: ``<split>/images``, ``<split>/masks``, ``classes.txt`` and the notices."""
    mask, files, counts = class_mask(numbers), dict[str, bytes](), dict[str, int]()
    nuclei = {split: {*np.unique(numbers[:, slice(*columns)])} - {0} for split, columns in SPLITS.items()}
    assert sum(map(len, nuclei.values())) == len(set.union(*nuclei.values())), "a nucleus is in two splits"
    for split, columns in SPLITS.items():
        corners = [(y, x) for y in range(0, SIZE, SIDE) for x in range(*columns, SIDE)]
        counts[split] = len(corners)
        for y, x in corners:
            part, name = np.s_[y : y + SIDE, x : x + SIDE], f"{y:03}-{x:03}.png"
            indices = Image.fromarray(mask[part])
            indices.putpalette(PALETTE)
            files[f"{split}/images/{name}"] = png(Image.fromarray(pixels[part]))
            files[f"{split}/masks/{name}"] = png(indices)
    notice = NOTICE.format(
        side=SIDE,
        counts=", ".join(f"{split} {count}" for split, count in counts.items()),
        gap=SPLITS["valid"][0] - SPLITS["train"][1],
        nuclei=len(nuclei["test"]),
    )
    texts = {"NOTICE.txt": notice.encode(), "LICENSE.txt": licence, "classes.txt": "\n".join([*CLASSES, ""]).encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in (texts | files).items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01; stored, since a PNG is compressed already
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content)
    return buffer.getvalue()


def sample(pixels: np.ndarray, box: tuple[int, int, int, int], mode: str) -> Image.Image:
    """Return a part of the picture as an image in the given mode."""
    left, top, right, bottom = box
    part = pixels[top:bottom, left:right]
    return Image.fromarray(part.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(part).convert(mode)


def main() -> None:
    """Write the archive and the sample images into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of image segmentation.")
    parser.add_argument("stardist_wheel", type=Path, help="a wheel of stardist 0.9.2")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.stardist_wheel) as wheel:
        names = ("stardist/data/images/img2d.tif", "stardist/data/images/mask2d.tif")
        picture, numbers = (np.asarray(Image.open(io.BytesIO(wheel.read(name)))) for name in names)
        licence = wheel.read("stardist-0.9.2.dist-info/licenses/LICENSE.txt")
    if picture.shape != (SIZE, SIZE) or numbers.shape != (SIZE, SIZE) or picture.max() > 255:
        parser.error(f"{arguments.stardist_wheel}: expected pictures of 512 x 512 pixels up to 255")
    pixels = picture.astype(np.uint8)
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(pixels, numbers, licence))
    for name, (box, mode) in SAMPLES.items():
        (arguments.out / f"images/sample/{name}.png").write_bytes(png(sample(pixels, box, mode)))


if __name__ == "__main__":
    main()
