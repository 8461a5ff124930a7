"""Data utils: unpack the sample, split a flat folder into train/valid/test, check a data folder."""

import hashlib
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import find_classes, find_images, read_image

SPLITS = ("train", "valid", "test")


def unpack_sample(folder: Path) -> bool:
    """Unpack `folder`/sample.zip beside itself if there is no train/ yet; say so, and return true.

    Raises UserError if there are neither data nor an archive, or it is damaged or unsafe.
    """
    archive = folder / "sample.zip"
    if (folder / "train").is_dir():
        return False
    if not archive.is_file():
        raise UserError(f"{folder}: holds neither train/ nor sample.zip; see data/README.md")
    # Aside first, train/ last: a run that is stopped in between leaves nothing that looks whole.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
        try:
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    if name.startswith("/") or ".." in name.split("/") or {*"\\:"} & {*name}:
                        raise ValueError(f"unsafe path {name!r}")
                file.extractall(aside)
            if not (Path(aside) / "train").is_dir():
                raise ValueError("it has no train/")
        except Exception as error:  # zipfile raises half a dozen kinds
            raise UserError(f"{archive}: not unpacked: {error}; see data/README.md") from error
        for path in sorted(Path(aside).iterdir(), key=lambda path: path.name == "train"):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
    print(f"{folder}: had no train/ yet; sample.zip is unpacked there", file=sys.stderr)
    return True


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a folder of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class, at least one image. Returns the number of images
    in each split. Raises UserError, before it copies any, if that cannot be done.
    """
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise UserError(f"--valid {valid} --test {test}: should be shares that leave some to train")
    for split in SPLITS:
        if (folder / split).exists():
            raise UserError(f"{folder / split}: is there already; move it away first")
    plan, counts = list[tuple[Path, Path]](), dict.fromkeys(SPLITS, 0)
    for name in find_classes(source):
        images = find_images(source / name)
        n_valid, n_test = (max(1, round(share * len(images))) for share in (valid, test))
        if len(images) <= n_valid + n_test:
            raise UserError(f"{source / name}: {len(images)} images are too few to split")
        for rank, index in enumerate(np.random.default_rng(seed).permutation(len(images))):
            split = "valid" if rank < n_valid else "test" if rank < n_valid + n_test else "train"
            plan.append((images[index], folder / split / images[index].relative_to(source)))
            counts[split] += 1
    for image, target in plan:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(image, target)
    return counts


def check_folder(folder: Path) -> tuple[str, list[str]]:
    """Read every image: a table of images per split and class, and a list of problems.

    Problems are unreadable files, empty or unknown classes, and images that are in two splits.
    """
    classes = find_classes(folder / "train")
    problems, seen = list[str](), dict[bytes, tuple[str, Path]]()
    counts = {split: Counter[str]() for split in SPLITS}
    for split in SPLITS:
        for name in {*find_classes(folder / split)} - {*classes}:
            problems.append(f"{folder / split / name}: not a class of the training data")
        for name in classes:
            images = find_images(folder / split / name)
            counts[split][name] = len(images)
            if not images:
                problems.append(f"{folder / split / name}: holds no images")
            for path in images:
                try:
                    read_image(path, size=8, channels=1)
                except UserError as error:
                    problems.append(str(error))
                digest = hashlib.sha256(path.read_bytes()).digest()
                other, twin = seen.setdefault(digest, (split, path))
                if other != split:
                    problems.append(f"{path}: the same image is in {other}: {twin}")
    row = "{:<16}{:>8}{:>8}{:>8}".format
    rows = [row(name, *(counts[split][name] for split in SPLITS)) for name in classes]
    total = row("all", *(counts[split].total() for split in SPLITS))
    return "\n".join([row("", *SPLITS), *rows, total]), problems
