"""Make the sample data of the image classification kind again: ``data/sample.zip`` and ``images/sample/``.

    python3 template/kinds/image_classification/sample.py DIGITS_PNG

The source is OpenCV's sample picture ``digits.png`` (Apache-2.0): 2000 x 1000 pixels, 8-bit grey, 5000 handwritten
digits of 20 x 20 pixels, 500 per class, row-major by class. Debian's package ``opencv-doc`` installs it as
``/usr/share/doc/opencv-doc/examples/data/digits.png``; OpenCV's source tree has it as ``samples/data/digits.png``.

The same Pillow writes the same bytes each time; another version may compress the PNGs differently, with equal pixels.
"""

import argparse
import io
import zipfile
from pathlib import Path

from PIL import Image

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{image_classification}}"
SIZE, COLUMNS, PER_CLASS = 20, 100, 500

# Tiles near each other look alike: stroke width and slant correlate over about 15 tiles, probably of the same writers.
# So each split is one range of every class's tiles, with 20 unused tiles between two ranges. Only every fourth tile is
# used, so that the same number of bytes has digits of four times as many writers.
SPLITS = {"train": range(180, 500, 4), "valid": range(100, 160, 4), "test": range(0, 80, 4)}

# name: class, tile (from the range of test, but not in the split), mode, side in pixels. All are white on black.
SAMPLES = {
    "two": (2, 34, "L", 20),
    "seven": (7, 22, "1", 28),
    "nine": (9, 17, "RGBA", 128),
}

NOTICE = """\
Handwritten digits, cut from OpenCV's sample picture samples/data/digits.png.

Source:     OpenCV 4.6.0, as Debian packages it (opencv-doc)
Copyright:  the OpenCV contributors
Licence:    Apache-2.0, in LICENSE.txt beside this file
Changed:    cut into tiles of 20 x 20 pixels; {total} of the 5000 are kept ({counts} per class).
            The pixels are unchanged. A file is named after the tile's position in its class, 0 to 499.

Before you trust a number:
- The writers are not recorded. Tiles near each other seem to be by the same writer, so each split is one range of every
  class: test from 0-79, valid from 100-159, train from 180-499. Most writers are probably in one split only; this can't
  be verified.
- The digits at the end of the source are less legible than those at its start: a small network that is trained on the
  start and tested on the end reaches an accuracy of 0.95; trained on the end and tested on the start, 0.99.
- The test split has {test} images: one mistake is {percent:.1f} %. It shows that the code learns, and is too small to
  compare models.
- The digits resemble MNIST's, and may include some of them: don't treat the two data sets as independent.
- They are centred, upright and white on black. A model trained on them doesn't work on photos of handwriting.
"""


def tile(strip: Image.Image, label: int, index: int) -> Image.Image:
    """Return digit ``index`` (0-499) of class ``label`` as an 8-bit grey image of 20 x 20 pixels."""
    row, column = divmod(label * PER_CLASS + index, COLUMNS)
    return strip.crop((column * SIZE, row * SIZE, (column + 1) * SIZE, (row + 1) * SIZE))


def archive(strip: Image.Image) -> bytes:
    """Return the zip file's bytes: ``<split>/<class>/<tile>.png``, ``NOTICE.txt`` and ``LICENSE.txt``."""
    counts = {split: len(indices) for split, indices in SPLITS.items()}
    notice = NOTICE.format(
        total=10 * sum(counts.values()),
        counts=", ".join(f"{split} {count}" for split, count in counts.items()),
        test=10 * counts["test"],
        percent=10 / counts["test"],
    )
    files = {"NOTICE.txt": notice.encode(), "LICENSE.txt": (TEMPLATE / "licenses" / "Apache-2.0.txt").read_bytes()}
    for split, indices in SPLITS.items():
        for label in range(10):
            for index in indices:
                png = io.BytesIO()
                tile(strip, label, index).save(png, "PNG", optimize=True)
                files[f"{split}/{label}/{index:03}.png"] = png.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01; stored, since a PNG is compressed already
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content)
    return buffer.getvalue()


def main() -> None:
    """Write the archive and the sample images into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of image classification.")
    parser.add_argument("digits_png", type=Path, help="OpenCV's samples/data/digits.png")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    with Image.open(arguments.digits_png) as picture:
        if (picture.mode, picture.size) != ("L", (2000, 1000)):
            parser.error(f"{arguments.digits_png}: expected 2000x1000 grey, found {picture.size} {picture.mode}")
        picture.load()
        strip = picture.copy()
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(strip))
    for name, (label, index, mode, side) in SAMPLES.items():
        image = tile(strip, label, index).resize((side, side), Image.Resampling.BICUBIC)
        image.convert(mode, dither=Image.Dither.NONE).save(arguments.out / f"images/sample/{name}.png", optimize=True)


if __name__ == "__main__":
    main()
