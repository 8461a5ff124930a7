"""Images with a mask each, by the same name: `<split>/images/a.jpg` and `<split>/masks/a.png`."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # others may start programs
MAX_PIXELS = Image.MAX_IMAGE_PIXELS = 89_478_485  # where Pillow warns, this is an error
MASKS = (".png", ".bmp", ".tif", ".tiff")  # formats that keep each pixel's value
UNLABELLED = 255  # in the file of a mask: a pixel of no known class
IGNORE = -100  # the same in memory: torch's losses ignore it


def find_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below `folder` with these suffixes, sorted; hidden ones are skipped."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.is_dir())
    return sorted(p for p in found if "/." not in f"/{p.relative_to(folder).as_posix()}")


def find_pairs(folder: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The images of a split, each with its mask; and what is wrong, a line for each file."""
    images, masks = find_files(folder / "images", SUFFIXES), find_files(folder / "masks", MASKS)
    by_name = {path.relative_to(folder / "masks").with_suffix(""): path for path in masks}
    pairs, problems, owners = list[tuple[Path, Path]](), list[str](), dict[Path, Path]()
    if not images:
        problems.append(f"{folder / 'images'}: holds no images; data/README.md shows the layout")
    for image in images:
        name = image.relative_to(folder / "images").with_suffix("")
        if name in by_name:
            pairs.append((image, by_name[name]))
            if (owner := owners.setdefault(by_name[name], image)) != image:
                problems.append(f"{image}: has the same mask as {owner}; remove or rename one")
        else:
            problems.append(f"{image}: has no mask; put it into {folder / 'masks' / name}.png")
    alone = {*masks} - {mask for _, mask in pairs}
    problems += [f"{mask}: has no image of its name in images/" for mask in sorted(alone)]
    return pairs, problems


def read_classes(folder: Path) -> list[str]:
    """The names in `folder`/classes.txt, one per line; the first is for the value 0 in masks."""
    path = folder / "classes.txt"
    if not path.is_file():
        raise UserError(f"{path}: is missing; write a class's name in each line, that of 0 first")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from error
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            what = f"{name!r} stands there twice" if name else "is empty"
            raise UserError(f"{path}, line {number}: {what}; give each class its own name")
    if not 2 <= len(names) <= UNLABELLED:
        raise UserError(f"{path}: names {len(names)} classes; there should be 2 to {UNLABELLED}")
    return names


def read_image(path: Path, channels: int, max_size: int | None) -> tuple[Tensor, tuple[int, int]]:
    """Read an image of any mode as float32 (channels, H, W) from 0 to 1; also its size in the file.

    `channels` is 1 for grey, 3 for colour. An image whose longer side has more than `max_size`
    pixels is scaled down to that. Raises UserError if the file is missing, damaged or no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            check_pixels(path, file)
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
            width, height = image.size
            share = min(1.0, (max_size or max(image.size)) / max(image.size))
            if share < 1:
                size = max(1, round(width * share)), max(1, round(height * share))
                image = image.resize(size, Image.Resampling.BILINEAR)
    except Exception as error:  # PIL raises a dozen kinds
        raise _damaged(path, error) from error
    pixels = np.asarray(image, dtype=np.float32).reshape(*image.size[::-1], channels) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), (height, width)


def read_mask(path: Path, num_classes: int) -> Tensor:
    """Read a mask, grey or with a palette, as the class of each pixel: int64 (H, W).

    `UNLABELLED` becomes `IGNORE`. Raises UserError if the file is missing or damaged, or holds
    colours, or a value that is not a class.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(path, image)
            mode, values, lossy = image.mode, np.asarray(image), image.format == "JPEG"
    except Exception as error:  # PIL raises a dozen kinds
        raise _damaged(path, error) from error
    if values.ndim != 2 or mode == "F":
        what = f"holds colours or fractions ({mode}), not the number of each pixel's class"
        raise UserError(f"{path}: {what}; save it as a grey PNG, or one with a palette")
    if lossy:
        raise UserError(f"{path}: is a JPEG, which changes the classes; make it again, as PNG")
    values = values.astype(np.int64)
    wrong = np.argwhere(((values < 0) | (values >= num_classes)) & (values != UNLABELLED))
    if len(wrong):
        row, column = wrong[0]
        rule = f"should be 0 to {num_classes - 1}, or {UNLABELLED} for no class"
        where = f"row {row + 1}, column {column + 1}"
        raise UserError(f"{path}, {where}: is {values[row, column]}; {rule}")
    return torch.from_numpy(np.where(values == UNLABELLED, IGNORE, values))


def read_pair(
    image: Path, mask: Path, num_classes: int, channels: int, max_size: int | None
) -> tuple[Tensor, Tensor]:
    """An image and its mask, scaled down alike; UserError if one is wrong, or the sizes differ."""
    pixels, size = read_image(image, channels, max_size)
    target = read_mask(mask, num_classes)
    if target.shape != size:
        found = f"is {target.shape[1]} x {target.shape[0]} pixels, its image {size[1]} x {size[0]}"
        raise UserError(f"{mask}: {found}; make them the same")
    if pixels.shape[1:] != size:  # nearest, since numbers of classes have no mean
        shape = pixels.shape[1:]
        target = F.interpolate(target[None, None].float(), shape, mode="nearest-exact")[0, 0].long()
    return pixels, target


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack images and masks; smaller ones are padded below and to the right, with no class."""
    height, width = (max(mask.shape[side] for _, mask in samples) for side in (0, 1))
    images, masks = list[Tensor](), list[Tensor]()
    for image, mask in samples:
        edges = (0, width - mask.shape[1], 0, height - mask.shape[0])
        images.append(F.pad(image, edges))
        masks.append(F.pad(mask, edges, value=IGNORE))
    return torch.stack(images), torch.stack(masks)


def filled(image: Tensor, mask: Tensor) -> tuple[slice, slice]:
    """The rows and columns of an image in a batch that are not padding by `collate`."""
    inside = (mask != IGNORE) | (image != 0).any(dim=0)
    if not inside.any():
        return slice(None), slice(None)
    height, width = (int(inside.any(dim=side).nonzero().max()) + 1 for side in (1, 0))
    return slice(height), slice(width)


class MaskFolder(Dataset[tuple[Tensor, Tensor]]):
    """One split: images as `read_image` gives them, and their masks.

    Raises UserError if an image has no mask, a mask no image, or there are none.
    """

    def __init__(self, folder: Path, num_classes: int, channels: int, max_size: int | None = None):
        self.pairs, problems = find_pairs(folder)
        if problems:
            raise UserError("\n".join(problems))
        self.num_classes, self.channels, self.max_size = num_classes, channels, max_size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return read_pair(*self.pairs[index], self.num_classes, self.channels, self.max_size)


def check_pixels(path: Path, image: Image.Image) -> None:
    """UserError if an opened image is too large to be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise UserError(f"{path}: more than MAX_PIXELS of data/dataset.py; scale it down")


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if not path.exists():
        return UserError(f"{path}: no such file")
    reason = getattr(error, "strerror", None) or re.split(" '|: ", str(error))[0]
    reason = reason if path.stat().st_size else "the file is empty"
    return UserError(f"{path}: not an image ({reason}); fix or remove it")
