"""Make the sample data of the object detection kind again: ``data/sample.zip`` and ``images/sample/``.

    python3 template/kinds/object_detection/sample.py STARDIST_WHEEL

The source is the example picture of the Python package stardist 0.9.2 (BSD-3-Clause), in its wheel from PyPI:
``stardist/data/images/img2d.tif`` and ``mask2d.tif``, 512 x 512 pixels each: cell nuclei in a fluorescence microscope,
and the number of the nucleus that each pixel belongs to. The wheels for all platforms hold the same two files.

The same Pillow writes the same bytes each time; another version may compress the PNGs differently, with equal pixels.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{object_detection}}"
SIZE = 512

# For each split: its rows, its columns, the height and width of a tile, and the steps from one tile to the next. The
# area between the splits is unused, so that no nucleus is in two splits.
SPLITS = {
    "train": ((0, 275), (0, 433), (112, 112), (40, 40)),  # tiles that overlap
    "valid": ((291, 379), (0, 512), (88, 102), (88, 102)),
    "test": ((400, 512), (0, 512), (112, 102), (112, 102)),
}
LEAST, SHARE = 60, 0.4  # a nucleus gets a box if a tile shows this many pixels and this share of it

# name: box (left, top, right, bottom) in the unused columns beside train, mode.
SAMPLES = {
    "dividing": ((449, 96, 512, 160), "L"),
    "pair": ((449, 176, 512, 248), "RGB"),
    "cluster": ((449, 0, 512, 80), "I;16"),
}

NOTICE = """\
Cell nuclei in a fluorescence microscope, cut from the example picture of the Python package stardist.

Source:     stardist 0.9.2, stardist/data/images/img2d.tif and mask2d.tif. Its code says where they come from:
            the 2018 Data Science Bowl (Caicedo et al., Nucleus segmentation across imaging experiments,
            Nature Methods 16, 2019)
Copyright:  Uwe Schmidt, Martin Weigert
Licence:    BSD-3-Clause, in LICENSE.txt beside this file
Changed:    cut into tiles ({counts}).
            Most nuclei are dim, so brightness is replaced by its square root: 10 to 235 in the source become 0 to 255.
            A file is named after the row and column of its upper left pixel. The source has masks that number the
            nuclei. Here, a nucleus has the smallest box around its pixels in a tile, if these are at least {least}
            pixels and {share:.0%} of it.

Before you trust a number:
- It is one image of one dish. The splits are separate bands, and no nucleus is in two splits. Light, focus and stain
  are the same in all; a model may fail on images of another microscope.
- The training tiles overlap: their {train_boxes} boxes show the same {train} nuclei repeatedly.
- The test split has {test_boxes} boxes, some of nuclei that are cut by an edge: one more or less changes the average
  precision by about {percent} %. It shows that the code learns, and is too small to compare models.
- There is one class. A few nuclei divide or die, and are far brighter than the rest; there are too few to learn from.
"""


def brighten(picture: np.ndarray) -> np.ndarray:
    """Map the values 10 to 235 of the source to 0 to 255, by the square root."""
    return np.round(255 * np.sqrt((picture.astype(np.float64) - 10).clip(0) / 225)).clip(0, 255).astype(np.uint8)


def png(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def boxes_of(numbers: np.ndarray, areas: np.ndarray) -> list[list[int]]:
    """Return [x, y, width, height] of each nucleus in a tile; ``areas`` has the pixels of each whole nucleus."""
    boxes = []
    for number in np.unique(numbers[numbers > 0]):
        rows, columns = np.nonzero(numbers == number)
        if len(rows) >= max(LEAST, SHARE * areas[number]):
            x, y = int(columns.min()), int(rows.min())
            boxes.append([x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y])
    return boxes


def archive(pixels: np.ndarray, numbers: np.ndarray, licence: bytes) -> bytes:
    """Return the zip file's bytes: ``<split>/images``, ``<split>/annotations.json`` and the notices."""
    areas = np.bincount(numbers.ravel())
    files, counts, nuclei, count_boxes = dict[str, bytes](), list[str](), dict[str, set[int]](), dict[str, int]()
    for split, (rows, columns, (height, width), (down, right)) in SPLITS.items():
        nuclei[split] = {*np.unique(numbers[slice(*rows), slice(*columns)]).tolist()} - {0}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for y in range(rows[0], rows[1] - height + 1, down):
            for x in range(columns[0], columns[1] - width + 1, right):
                part, name = np.s_[y : y + height, x : x + width], f"{y:03}-{x:03}.png"
                image = {"id": len(images) + 1, "file_name": name, "width": width, "height": height}
                images.append(image)
                files[f"{split}/images/{name}"] = png(Image.fromarray(pixels[part]))
                for box in boxes_of(numbers[part], areas):
                    place = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1}
                    annotations.append({**place, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
        lines = [f'"{key}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for key, rows in content.items()]
        files[f"{split}/annotations.json"] = ("{" + ",\n".join(lines) + "}\n").encode()
        count_boxes[split] = len(annotations)
        counts.append(f"{split} {len(images)} of {width} x {height}")
    assert sum(map(len, nuclei.values())) == len(set.union(*nuclei.values())), "a nucleus is in two splits"
    notice = NOTICE.format(
        counts=", ".join(counts),
        least=LEAST,
        share=SHARE,
        train=len(nuclei["train"]),
        train_boxes=count_boxes["train"],
        test_boxes=count_boxes["test"],
        percent=round(100 / count_boxes["test"]),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content_bytes in ({"NOTICE.txt": notice.encode(), "LICENSE.txt": licence} | files).items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.create_system = 3  # Unix on every platform, so that the bytes and the mode are the same everywhere
            entry.external_attr = 0o100644 << 16
            # Stored: a PNG is compressed already, and JSON compressed by another zlib would have other bytes.
            target.writestr(entry, content_bytes)
    return buffer.getvalue()


def sample(pixels: np.ndarray, box: tuple[int, int, int, int], mode: str) -> Image.Image:
    """Return a part of the picture as an image in the given mode."""
    left, top, right, bottom = box
    part = pixels[top:bottom, left:right]
    return Image.fromarray(part.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(part).convert(mode)


def main() -> None:
    """Write the archive and the sample images into the template."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of object detection.")
    parser.add_argument("stardist_wheel", type=Path, help="a wheel of stardist 0.9.2")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.stardist_wheel) as wheel:
        names = ("stardist/data/images/img2d.tif", "stardist/data/images/mask2d.tif")
        picture, numbers = (np.asarray(Image.open(io.BytesIO(wheel.read(name)))) for name in names)
        licence = wheel.read("stardist-0.9.2.dist-info/licenses/LICENSE.txt")
    if picture.shape != (SIZE, SIZE) or numbers.shape != (SIZE, SIZE) or picture.max() > 255:
        parser.error(f"{arguments.stardist_wheel}: expected pictures of 512 x 512 pixels up to 255")
    pixels = brighten(picture)
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    (arguments.out / "data/sample.zip").write_bytes(archive(pixels, numbers, licence))
    for name, (box, mode) in SAMPLES.items():
        image = sample(pixels, box, mode)
        (arguments.out / f"images/sample/{name}.png").write_bytes(png(image))


if __name__ == "__main__":
    main()
