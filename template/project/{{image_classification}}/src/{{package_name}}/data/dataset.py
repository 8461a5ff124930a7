"""Images in a folder per class: `<folder>/<class>/*.png`."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .folders import find_classes, find_samples

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # others may start programs
MAX_PIXELS = Image.MAX_IMAGE_PIXELS = 89_478_485  # where Pillow warns, this is an error


def read_image(path: Path, size: int, channels: int) -> Tensor:
    """Read an image of any size and mode as float32 (channels, size, size), from 0 to 1.

    The image is scaled, and cropped around its centre; `channels` is 1 for grey, 3 for colour.
    Raises UserError if the file is missing, empty, damaged or no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UserError(f"{path}: more than MAX_PIXELS of data/dataset.py; scale it down")
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I") or image.mode == "F":  # 16 bits per pixel, or more
                values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
                tops = (1, 255) if image.mode == "F" else ()
                full = min((t for t in tops if values.max() <= t), default=max(values.max(), 65535))
                image = Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if channels == 1 else "RGB")
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    except UserError:
        raise
    except Exception as error:  # PIL raises a dozen kinds
        if not path.exists():
            raise UserError(f"{path}: no such file") from error
        reason = getattr(error, "strerror", None) or re.split(" '|: ", str(error))[0]
        reason = reason if path.stat().st_size else "the file is empty"
        raise UserError(f"{path}: not an image ({reason}); fix or remove it") from error
    pixels = np.asarray(image, dtype=np.float32).reshape(size, size, channels) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ClassFolder(Dataset[tuple[Tensor, int]]):
    """One split: images as `read_image` gives them, and the index of their class in `classes`."""

    def __init__(
        self, folder: Path, classes: list[str] | None, size: int, channels: int, cache: bool = False
    ):
        self.classes = classes or find_classes(folder)
        self.size, self.channels = size, channels
        self.samples = find_samples(folder, self.classes, SUFFIXES)
        self.cache: Tensor | None = None
        if cache:  # workers share the memory: one byte per pixel and channel
            shape = len(self.samples), channels, size, size
            self.cached = torch.zeros(len(self.samples), dtype=torch.bool).share_memory_()
            self.cache = torch.empty(shape, dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        if self.cache is not None and self.cached[index]:
            return self.cache[index].float() / 255, target
        image = read_image(path, self.size, self.channels)
        if self.cache is not None:
            self.cache[index] = (image * 255).round()
            self.cached[index] = True
        return image, target
