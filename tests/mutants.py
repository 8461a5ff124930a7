"""Mutated files for the readers of a project: each is read, or refused with a UserError that names it.

    python tests/mutants.py PROJECT PACKAGE KIND SEED COUNT

Prints a line for each file that raises another exception. The same seed gives the same files.
"""

import importlib
import json
import random
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reader = Callable[[Path], object]

VALUES = [b"[]", b"{}", b"null", b"true", b'""', b"-1", b"0", b"1e400", b"NaN", b"9" * 30, b"9999-12-31", b"0001-01-01"]
NAMES = ["mutant", "annotations.json", "column", "holds no rows"]  # the start of each valid error
NUMBERS = [b"\0", b"\xff", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0"]


def mutated(content: bytes, rng: random.Random, text: bool) -> bytes:
    """Change a file in one to four places; in texts, often only one value."""
    data, one_value = bytearray(content), text and rng.random() < 0.6
    for _ in range(1 if one_value else rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice([64, 1 << 30])) or 1)
        end = at + rng.choice([1, 2, 8, 64])
        action = "value" if one_value else rng.choice(["flip", "put", "insert", "delete", "cut", "repeat"])
        if action == "flip" and data:
            data[at] ^= 1 << rng.randrange(8)
        elif action == "put":
            piece = rng.choice(NUMBERS)
            data[at : at + len(piece)] = piece
        elif action == "insert":
            data[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
        elif action == "delete":
            del data[at:end]
        elif action == "cut":
            del data[at:]
        elif action == "repeat":
            data[at:at] = data[at:end]
        elif cells := [*re.finditer(rb'(?<=": )[^\s,{}\[\]]+', data)] or [*re.finditer(rb"[^\s,]+", data)]:
            cell = rng.choice(cells)
            data[cell.start() : cell.end()] = rng.choice(VALUES)
    return bytes(data)


def readers(package: str, kind: str, folder: Path) -> dict[str, tuple[Reader, bool]]:
    """By suffix: the function that reads such files, and whether they are text."""
    dataset: Any = importlib.import_module(f"{package}.data.dataset")
    if kind == "image_segmentation":
        masks = {suffix: (lambda path: dataset.read_mask(path, 3), False) for suffix in (".mask.png", ".mask.tif")}
        return {suffix: (lambda path: dataset.read_image(path, 1, None), False) for suffix in dataset.SUFFIXES} | masks
    if kind == "image_classification":
        return {suffix: (lambda path: dataset.read_image(path, 8, 3), False) for suffix in dataset.SUFFIXES}
    if kind == "object_detection":
        coco: Any = importlib.import_module(f"{package}.data.coco")

        def annotations(path: Path) -> None:
            path.replace(folder / "annotations.json")
            coco.class_names(folder)
            coco.read(folder)

        images = {suffix: (lambda path: dataset.read_image(path, 1), False) for suffix in dataset.SUFFIXES}
        return images | {".json": (annotations, True)}
    if kind == "audio_classification":
        return {".wav": (lambda path: dataset.read_sound(path, 16000, convert=True), False)}
    if kind == "text_classification":
        return {".txt": (dataset.read_texts, True)}
    if kind == "language_modeling":
        return {".txt": (dataset.read_text, True)}
    if kind == "custom":
        return {".csv": (dataset.read_file, True)}
    if kind == "time_series":
        gaps = importlib.import_module(f"{package}.data.options").Data(missing="interpolate")
        return {".csv": (lambda path: dataset.read_series(path, gaps).later(range(1, 8)), True)}
    tables, columns, options = (
        importlib.import_module(f"{package}.data.{n}") for n in ("tables", "columns", "options")
    )

    def table(path: Path) -> None:
        names = [name for row in tables.read_rows(path) for name in row.cells]
        config = options.Data(target=names[-1] if names else "x", task="regression")
        info = columns.fit(tables.read_rows(path), config)
        columns.Columns(info).tensors(tables.read_rows(path))

    return {".csv": (table, True)}


def smaller(path: Path) -> None:
    """Annotations of only the first two images, so that ids are changed as often as boxes."""
    content = json.loads(path.read_text())
    content["images"] = content["images"][:2]
    ids = [image["id"] for image in content["images"]]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in ids]
    path.write_text(json.dumps(content))


def originals(project: Path, folder: Path) -> dict[str, bytes]:
    """Real files by suffix: the smallest of the sample for each, and images in all formats."""
    with zipfile.ZipFile(project / "data" / "sample.zip") as archive:
        archive.extractall(folder)
    found: dict[str, bytes] = {}
    for path in folder.rglob("annotations.json"):
        smaller(path)
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.stat().st_size, str(p))):
        suffix = ".mask" * (path.parent.name == "masks") + path.suffix.lower()
        found.setdefault(suffix, path.read_bytes())
    pictures = [suffix for suffix in found if suffix in (".png", ".jpg")]
    if pictures:
        from PIL import Image

        (folder / f"a{pictures[0]}").write_bytes(found[pictures[0]])
        with Image.open(folder / f"a{pictures[0]}") as image:
            for suffix in (".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"):
                image.convert("RGB").save(folder / f"b{suffix}")
                found[suffix] = (folder / f"b{suffix}").read_bytes()
        if ".mask.png" in found:
            found[".mask.tif"] = found[".tif"]
    return found


def main(project: Path, package: str, kind: str, seed: int, count: int) -> int:
    """Read `count` mutants; returns the number of those that were neither read nor refused."""
    user_error: Any = importlib.import_module(f"{package}.errors").UserError
    warnings.simplefilter("ignore")
    failed = 0
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        files = originals(project, folder)
        split = next(iter(sorted(folder.glob("*/annotations.json"))), folder / "x").parent
        known = readers(package, kind, split)
        files = {suffix: content for suffix, content in files.items() if suffix in known}
        assert files, f"no sample of {kind} to mutate"
        for number in range(seed, seed + count):
            rng = random.Random(number)
            suffix = ".json" if number % 2 and ".json" in files else rng.choice(sorted(files))
            read, text = known[suffix]
            path = folder / f"mutant{suffix}"
            path.write_bytes(mutated(files[suffix], rng, text))
            try:
                read(path)
            except user_error as error:
                if not any(name in str(error) for name in NAMES):
                    failed += 1
                    print(f"seed {number}, {suffix}: not named: {error}")
            except Exception as error:
                failed += 1
                print(f"seed {number}, {suffix}: {type(error).__name__}: {error}")
    print(f"{count} files, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])) > 0)
