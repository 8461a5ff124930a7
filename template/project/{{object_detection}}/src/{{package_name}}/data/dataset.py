"""Images with boxes: `<split>/images/` and `<split>/annotations.json`."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from . import coco

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # others may start programs
MAX_PIXELS = Image.MAX_IMAGE_PIXELS = 89_478_485  # where Pillow warns, this is an error

Target = dict[str, Tensor]
"""`boxes`, float32 (n, 4): left, top, right, bottom in pixels; `labels`, int64 (n,); and `size`,
float32 (2,): the width and height that the image fills."""


def find_images(folder: Path) -> list[Path]:
    """All image files below `folder`, sorted; hidden ones are skipped."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
    return sorted(p for p in found if "/." not in f"/{p.relative_to(folder).as_posix()}")


def read_image(path: Path, channels: int, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image of any mode as 8 bits; `channels` is 1 for grey, 3 for colour.

    It is turned upright by its EXIF orientation, unless `size`, which the annotations have, shows
    that the boxes were drawn on the stored pixels. Raises UserError if the file is missing, empty,
    damaged or no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UserError(f"{path}: more than MAX_PIXELS of data/dataset.py; scale it down")
            upright = ImageOps.exif_transpose(file)
            image: Image.Image = file if file.size == size != upright.size else upright
            if image.mode.startswith("I") or image.mode == "F":  # 16 bits per pixel, or more
                values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
                tops = (1, 255) if image.mode == "F" else ()
                full = min((t for t in tops if values.max() <= t), default=max(values.max(), 65535))
                image = Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("L" if channels == 1 else "RGB")
    except UserError:
        raise
    except Exception as error:  # PIL raises a dozen kinds
        if not path.exists():
            raise UserError(f"{path}: no such file") from error
        reason = getattr(error, "strerror", None) or re.split(" '|: ", str(error))[0]
        reason = reason if path.stat().st_size else "the file is empty"
        raise UserError(f"{path}: not an image ({reason}); fix or remove it") from error


def fit(image: Image.Image, size: int) -> tuple[Tensor, Tensor, float]:
    """An image as float32 (C, size, size) from 0 to 1, its width and height in it, and its scale.

    An image that is too large is scaled down; the margin to the right and below is black.
    """
    scale = min(1.0, size / max(image.size))
    if scale < 1:
        shape = [max(1, round(side * scale)) for side in image.size]
        image = image.resize((shape[0], shape[1]), Image.Resampling.BILINEAR)
    pixels = np.zeros((size, size, len(image.getbands())), dtype=np.float32)
    pixels[: image.height, : image.width] = np.asarray(image).reshape(*image.size[::-1], -1)
    tensor = torch.from_numpy(pixels / 255).permute(2, 0, 1).contiguous()
    return tensor, torch.tensor(image.size, dtype=torch.float32), scale


class CocoFolder(Dataset[tuple[Tensor, Target]]):
    """One split: images as `fit` gives them, and their objects.

    Raises UserError if the annotations have mistakes, or other classes.
    """

    def __init__(self, folder: Path, classes: Sequence[str], size: int, channels: int) -> None:
        self.folder, self.size, self.channels = folder, size, channels
        self.pictures = coco.read(folder)
        if unknown := {name for picture in self.pictures for name in picture.names} - {*classes}:
            known = f"not a class of the training data ({', '.join(classes)})"
            raise UserError(f"{folder / coco.ANNOTATIONS}: category {min(unknown)!r}: {known}")
        self.labels = [[classes.index(name) for name in picture.names] for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        picture = self.pictures[index]
        image = read_image(picture.path, self.channels, picture.size)
        check_size(self.folder, picture, image)
        pixels, size, scale = fit(image, self.size)
        boxes = torch.tensor(picture.boxes, dtype=torch.float32).reshape(-1, 4) * scale
        labels = torch.tensor(self.labels[index], dtype=torch.int64)
        return pixels, {"boxes": boxes, "labels": labels, "size": size}


def check_size(folder: Path, picture: coco.Picture, image: Image.Image) -> None:
    """UserError if the image is not of the size that its boxes were drawn on."""
    if image.size != picture.size:
        (width, height), (said, so) = image.size, picture.size
        claim = f"is {width} x {height}, but {folder / coco.ANNOTATIONS} says {said} x {so}"
        raise UserError(f"{picture.path}: {claim}; its boxes may not fit; fix one of them")


def collate(samples: list[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
    """A batch: images (N, C, size, size), and the target of each."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def sizes_of(targets: Sequence[Target]) -> Tensor:
    """The size that each image of a batch fills, (N, 2)."""
    return torch.stack([target["size"] for target in targets])
