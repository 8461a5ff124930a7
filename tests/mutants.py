"""Read mutated files with all readers of a project: each must give a correct result or one clear error.

    python tests/mutants.py PROJECT KIND SEED COUNT FOLDER
    python tests/mutants.py PROJECT KIND FOLDER     given files, FOLDER/<any name>/train/…; prints JSON

A mutant is one of the sample's files, or a similar file as a real tool writes it, changed at random: bits, sizes in
headers, values, types, names, depth. `check-data`, the dataset of `train` and `run` read it. A failure is an exception
other than UserError, an error that does not say where or is pages long, a result that is not finite, a warning of the
project's code, or the use of more than SECONDS or MEGABYTES. Prints a line for each failure, and keeps its file in
FOLDER. Each seed makes one file, independent of the other seeds.
"""

import contextlib
import faulthandler
import importlib
import importlib.util
import io
import itertools
import json
import math
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import wave
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS, MEGABYTES = 8, 1500  # of the processor; of memory, in addition to what the process has before it reads
WATCHDOG = 100  # seconds until a process that hangs ends itself
LONGEST = 1200  # characters of a line of an error, its path included

Read = Callable[[Path], None]

HUGE, DEEP, DIGITS = "@huge@", "@deep@", "@digits@"  # written as 200,000 letters, 100,000 brackets, 5,000 digits
VALUES: list[Any] = [
    *([], {}, None, True, "", -1, 0, 0.5, 10**400, 1e308, -1e308, 1e-320, math.nan, math.inf, 2**63, -(2**63)),
    *("9999-12-31", "9999-12-31T23:59:59+00:00", "0001-01-01", "0001-01-01T00:00:00+14:00", "1e400", "NaN", "1_0"),
    *(
        "\0",
        "\ud800",
        "\N{GRINNING FACE}" * 80,
        "../../etc/hostname",
        "/etc/hostname",
        "images",
        "..",
        HUGE,
        DEEP,
        DIGITS,
    ),
]
NUMBERS = [b"\0", b"\xff", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0"]
SIZES = [0, 1, 255, 8191, 30_000, 65_535, 2**20, 2**31 - 1, 2**32 - 1]
NAMES = ["\N{GRINNING FACE}" * 62, "x" * 250, "\x1b[31m", "\udcff", "-", " ", "a b'\"", "%s{0}", "con.png"]
# Where each format stores its sizes: an offset, or the bytes before them; and the size's format for struct.
FIELDS: dict[str, list[tuple[int | bytes, str]]] = {
    ".png": [(16, ">I"), (20, ">I"), (24, ">B"), (25, ">B")],
    ".bmp": [(18, "<i"), (22, "<i"), (28, "<H"), (10, "<I"), (34, "<I")],
    ".gif": [(6, "<H"), (8, "<H"), (b"\x2c\0\0\0\0", "<H")],
    ".jpg": [(b"\xff\xc0\0\x11\x08", ">H"), (b"\xff\xc0\0\x0b\x08", ">H"), (b"\xff\xc2\0\x11\x08", ">H")],
    ".webp": [(4, "<I"), (16, "<I"), (24, "<H"), (27, "<H"), (21, "<H")],
    ".tif": [(b"\0\1\4\0\1\0\0\0", "<I"), (b"\1\1\4\0\1\0\0\0", "<I"), (b"\x17\1\4\0\1\0\0\0", "<I"), (4, "<I")],
    ".wav": [(22, "<H"), (24, "<I"), (32, "<H"), (34, "<H"), (4, "<I"), (16, "<I"), (40, "<I"), (b"data", "<I")],
    ".flac": [(18, ">I"), (21, ">I"), (8, ">H")],
    ".aiff": [(20, ">H"), (22, ">I"), (26, ">H"), (28, ">Q")],
}


# --- mutations ---


def mutated(content: bytes, suffix: str, rng: random.Random, others: list[bytes]) -> bytes:
    """Change a file in one to four places."""
    text = suffix in (".csv", ".txt", ".json", ".ppm")
    if suffix == ".json" and rng.random() < 0.7:
        return mutated_json(content, rng)
    if suffix in FIELDS and rng.random() < 0.4:
        return resized(content, suffix, rng)
    if text and rng.random() < 0.6:
        return with_value(content, rng)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice([64, 1 << 30])) or 1)
        end = at + rng.choice([1, 2, 8, 64, 1000])
        action = rng.choice(["flip", "put", "insert", "delete", "cut", "repeat", "splice", "many"])
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
        elif action == "splice":
            other = rng.choice(others)
            start = rng.randrange(len(other) or 1)
            data[at:end] = other[start : start + end - at]
        elif action == "many" and text:
            data[at:at] = rng.choice([b"\n", b",", b"\0", b'"', b"[", "\u0301\u0316".encode(), b"a "]) * 20_000
    return bytes(data)


def resized(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """Change one or two of the sizes in a header; a PNG gets the new checksum."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 2)):
        where, form = rng.choice(FIELDS[suffix])
        at = where if isinstance(where, int) else data.find(where) + len(where)
        size = struct.calcsize(form)
        value = rng.choice([*SIZES, rng.randrange(1 << 8 * size)])
        if at + size <= len(data):
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big" if form[0] == ">" else "little")
    if suffix == ".png":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def with_value(content: bytes, rng: random.Random) -> bytes:
    """Replace one or two cells or words."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 2)):
        if cells := [*re.finditer(rb"[^\s,;\t|]+", data)]:
            cell = rng.choice(cells[: rng.choice([8, 1 << 30])])
            data[cell.start() : cell.end()] = written(rng.choice(VALUES))
    return bytes(data)


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """Replace, remove or repeat one or two of the values, whatever their depth."""
    whole = [json.loads(content)]
    for _ in range(rng.randint(1, 2)):
        places = list[tuple[Any, Any]]()
        left: list[Any] = [whole]
        while left:
            node = left.pop()
            keys = [*node] if isinstance(node, dict) else [*range(len(node))] if isinstance(node, list) else []
            places += [(node, key) for key in keys]
            left += [node[key] for key in keys]
        node, key = rng.choice(places)
        if rng.random() < 0.1 and node is not whole:
            del node[key]
        elif rng.random() < 0.1 and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = rng.choice(VALUES)
    return written(whole[0], plain=False)


def written(value: Any, plain: bool = True) -> bytes:
    """A value as JSON; with `plain`, a text without quotes."""
    text = value if plain and isinstance(value, str) else json.dumps(value)
    long = {HUGE: "y" * 200_000, DEEP: "[" * 100_000, DIGITS: "9" * 5000}
    for word, piece in long.items():
        text = text.replace(f'"{word}"' if word != HUGE else word, piece).replace(word, piece)
    return text.encode("utf-8", "surrogatepass")


# --- files to begin with ---


def images() -> dict[str, bytes]:
    """Small images as Pillow writes them: formats, modes, several frames, a rotation."""
    from PIL import Image

    made = {}
    colours = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    alpha, exif = colours.convert("RGBA"), Image.Exif()
    alpha.putalpha(colours.convert("L"))
    exif[0x0112] = 6
    wide = Image.new("I;16", (24, 16), 40_000)
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "rgb.png": (colours, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (colours.convert("P"), {"transparency": 3}),
        "bits.png": (colours.convert("1"), {}),
        "wide.png": (wide, {}),
        "turned.jpg": (colours, {"exif": exif}),
        "progressive.jpg": (colours, {"progressive": True}),
        "cmyk.jpg": (colours.convert("CMYK"), {}),
        "grey.jpg": (colours.convert("L"), {}),
        "a.bmp": (colours, {}),
        "palette.bmp": (colours.convert("P"), {}),
        "a.gif": (colours, {"save_all": True, "append_images": [colours.rotate(180)]}),
        "a.webp": (colours, {}),
        "alpha.webp": (alpha, {"lossless": True}),
        "moving.webp": (colours, {"save_all": True, "append_images": [colours.rotate(180)]}),
        "a.ppm": (colours, {}),
        "a.tif": (colours, {}),
        "lzw.tif": (colours, {"compression": "tiff_lzw"}),
        "deflate.tif": (alpha, {"compression": "tiff_deflate"}),
        "float.tif": (Image.new("F", (24, 16), 0.5), {}),
        "wide.tif": (wide, {}),
        "pages.tif": (colours, {"save_all": True, "append_images": [colours.rotate(180)]}),
    }
    for name, (image, options) in cases.items():
        content = io.BytesIO()
        image.save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name.rpartition(".")[2].upper()), **options)
        made[name] = content.getvalue()
    return made


def masks() -> dict[str, bytes]:
    """Masks of the size of `images`, of the classes 0 to 2."""
    from PIL import Image

    made, classes = {}, Image.linear_gradient("L").resize((24, 16)).point(lambda value: value // 100)
    palette = classes.copy()
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    wide = Image.frombytes("I;16", (24, 16), bytes(byte for value in classes.tobytes() for byte in (value, 0)))
    cases = {"a.png": classes, "palette.png": palette, "wide.png": wide, "wide.tif": wide, "a.tif": classes}
    for name, image in (cases | {"a.bmp": palette, "bits.png": classes.convert("1")}).items():
        content = io.BytesIO()
        image.save(content, {"tif": "TIFF"}.get(name[-3:], name[-3:].upper()))
        made[name] = content.getvalue()
    return made


def sounds() -> dict[str, bytes]:
    """Short sounds: WAV of all widths, by Python and by hand, and other formats where soundfile is installed."""
    made, rate = dict[str, bytes](), 8000
    samples = [math.sin(i / 3) / 2 for i in range(rate // 2)]
    for width, channels in ((1, 1), (2, 1), (2, 2), (3, 1), (4, 1)):
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setparams((channels, width, rate, 0, "NONE", ""))
            top, middle = 2 ** (8 * width - 1) - 1, 128 * (width == 1)
            values = (int(v * top) + middle for v in samples for _ in range(channels))
            file.writeframes(b"".join(v.to_bytes(width, "little", signed=width > 1) for v in values))
        made[f"pcm{width}x{channels}.wav"] = content.getvalue()
    for code, kind, more in ((3, "f", b""), (3, "d", b""), (0xFFFE, "h", bytes.fromhex("160010000400000001000000"))):
        frames = b"".join(struct.pack(f"<{kind}", v if kind in "fd" else int(v * 32767)) for v in samples)
        size = struct.calcsize(kind)
        more += bytes.fromhex("00001000800000aa00389b71") * bool(more)
        form = struct.pack("<HHIIHH", code, 1, rate, rate * size, size, 8 * size) + more
        chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST\x05\0\0\0INFO1\0data"
        chunks += struct.pack("<I", len(frames)) + frames
        made[f"{kind}{code}.wav"] = b"RIFF" + struct.pack("<I", len(chunks)) + chunks
    if importlib.util.find_spec("soundfile"):
        soundfile: Any = importlib.import_module("soundfile")
        for suffix in ("flac", "ogg", "aiff", "mp3"):
            content = io.BytesIO()
            soundfile.write(content, samples, rate, format=suffix.upper())
            made[f"a.{suffix}"] = content.getvalue()
    return made


def texts(content: bytes) -> dict[str, bytes]:
    """A text as editors save it, and one of letters with combining accents."""
    text = content.decode()
    return {
        "a.txt": content,
        "mark.txt": text.encode("utf-8-sig"),
        "windows.txt": text.replace("\n", "\r\n").encode(),
        "wide.txt": text.encode("utf-16"),
        "latin.txt": (text + "ä").encode("latin-1", "replace"),
        "accents.txt": (text + "e\u0301\u0316\n" * 5).encode(),
    }


def tables(content: bytes) -> dict[str, bytes]:
    """A table as spreadsheets and libraries write it."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    quoted = "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)
    comma = "\n".join(";".join(cell.replace(".", ",") for cell in row) for row in rows)
    index = "\n".join(",".join([str(n) if n else "index", *row]) for n, row in enumerate(rows))
    return {
        "a.csv": content,
        "quoted.csv": quoted.encode() + b"\n",
        "comma.csv": comma.encode(),
        "tabs.csv": content.replace(b",", b"\t"),
        "mark.csv": "\ufeff".encode() + content.replace(b"\n", b"\r\n"),
        "index.csv": index.encode(),
        "gaps.csv": "\n".join(
            ",".join([*row[:-1], "" if n % 5 == 4 else row[-1]]) for n, row in enumerate(rows)
        ).encode(),
    }


def series(content: bytes) -> dict[str, bytes]:
    """A table of series with times in several forms, some at the end of the calendar."""
    head, *rows = [line.split(",", 1) for line in content.decode().splitlines()]
    made = tables(content)
    forms: dict[str, Callable[[int], str]] = {
        "months": lambda n: f"{2000 + n // 12}-{n % 12 + 1:02}",
        "quarters": lambda n: f"{2000 + n // 4}Q{n % 4 + 1}",
        "numbers": lambda n: str(n / 4),
        "zone": lambda n: f"2026-01-01T{n % 24:02}:00:00+02:00" if n < 24 else f"2026-01-02T{n % 24:02}:00:00+02:00",
        "last": lambda n: f"9999-12-{31 - len(rows) + 1 + n:02}",
        "first": lambda n: f"0001-01-{1 + n:02}",
        "slashes": lambda n: f"{1 + n:02}/01/2026",
    }
    for name, form in forms.items():
        lines = [head, *([form(n), *row[1:]] for n, row in enumerate(rows[:24]))]
        if name == "last":
            lines = [head, *([f"9999-12-{8 + n:02}", *row[1:]] for n, row in enumerate(rows[:24]))]
        made[f"{name}.csv"] = "\n".join(map(",".join, lines)).encode() + b"\n"
    return made


def coco(content: bytes) -> dict[str, bytes]:
    """Annotations as exporters write them: polygons, run lengths of a crowd, names with folders."""
    whole = json.loads(content)
    polygons, crowd = json.loads(content), json.loads(content)
    for row in polygons["annotations"]:
        left, top, width, height = row.pop("bbox")
        row["segmentation"] = [[left, top, left + width, top, left + width, top + height]]
    for row in crowd["annotations"][:1]:
        row |= {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [3, 1]}}
    for row in crowd["images"]:
        row["file_name"] = f"images\\{row['file_name']}"
    kept = {"a": whole, "polygons": polygons, "crowd": crowd}
    return {f"{name}.json": json.dumps(each).encode() for name, each in kept.items()}


# --- a small data folder, and its readers ---

SMALL = {
    "image_classification": ["data.image_size=16", "model.args={width: 4}"],
    "image_segmentation": ["data.max_size=64", "model.args={width: 4}"],
    "object_detection": ["data.image_size=32", "model.args={width: 4}"],
    "audio_classification": ["data.resample=true", "data.seconds=0.5", "model.args={mels: 16, width: 4}"],
    "text_classification": ["data.max_length=64", "data.min_count=1", "model.args={width: 8}"],
    "language_modeling": ["data.context=8", "data.generate=4", "model.args={width: 8}"],
    "tabular": ["model.args={width: 8}"],
    "time_series": ["data.context=4", "data.horizon=2", "data.season=1", "data.missing=interpolate", "model.args={}"],
    "custom": ["model.args={width: 8}"],
}


class Bench:
    """A kind's small data folder, the folders for mutants in it, and the readers of the project."""

    def __init__(self, project: Path, kind: str, folder: Path) -> None:
        self.folder, self.kind, self.data = folder, kind, folder / "data"
        with zipfile.ZipFile(project / "data" / "sample.zip") as archive:
            archive.extractall(folder / "sample")
        self.originals = dict[str, dict[str, bytes]]()  # by folder below data/, then by name
        getattr(self, kind)(folder / "sample")
        with zipfile.ZipFile(folder / "small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in self.data.rglob("*") if path.is_file()):
                archive.write(path, path.relative_to(self.data))
        self.others = [content for found in self.originals.values() for content in found.values()]
        self.archive = (folder / "small.zip").read_bytes()
        torch, config, task = (importlib.import_module(n) for n in ("torch", "my_project.config", "my_project.task"))
        options, self.utils = (importlib.import_module(f"my_project.{n}") for n in ("options", "data.utils"))
        self.user_error: Any = importlib.import_module("my_project.errors").UserError
        self.splits = importlib.import_module("my_project.data.splits")
        torch.manual_seed(0)
        settings = [f"data.folder={self.data}", f"run.images={folder / 'images'}", "run.device=cpu"]
        settings += ["data.batch_size=4", *SMALL[kind]]
        files = [next((project / "configs").glob("train.*"))]
        self.config = config.load(options.Config, list(map(str, files)), settings)
        self.torch: Any = torch
        self.task_class: Any = task.Task
        self.fit()
        shutil.copytree(self.data, folder / "kept")

    def new(self) -> Any:
        return self.task_class(self.config, self.torch.device("cpu"))

    def clean(self) -> None:
        """Restore the data folder."""
        shutil.rmtree(self.folder / "archive", ignore_errors=True)
        shutil.rmtree(self.data)
        shutil.copytree(self.folder / "kept", self.data)

    def save(self, place: Path) -> None:
        """Copy the data folder, or the archive, with the mutant."""
        archive = self.folder / "archive"
        shutil.copytree(archive if archive.exists() else self.data, place, dirs_exist_ok=True)

    def fit(self) -> None:
        """Build a task and an untrained model for the current data; keep the earlier ones if the data are refused."""
        with contextlib.suppress(self.user_error):
            self.task = self.new()
            self.model = self.task.build_model().eval()

    def annotate(self, name: str) -> None:
        """Write this name into the annotations as that of the first image."""
        path = self.data / "train" / "annotations.json"
        whole = json.loads(path.read_text())
        first = whole["images"][0]
        first |= {"file_name": name, "width": 24, "height": 16}
        for row in whole["annotations"]:
            row["bbox"] = [2, 3, 10, 9] if row["image_id"] == first["id"] else row["bbox"]
        path.write_text(json.dumps(whole))

    def keep(self, path: Path, place: str, content: bytes | None = None) -> None:
        (self.data / place).parent.mkdir(parents=True, exist_ok=True)
        (self.data / place).write_bytes(path.read_bytes() if content is None else content)

    def class_folders(self, sample: Path, suffix: str, change: Callable[[bytes], bytes] = bytes) -> bytes:
        """Write two classes with two files each; returns the content of one."""
        for split in ("train", "valid", "test"):
            for name in sorted(path.name for path in (sample / split).iterdir())[:2]:
                files = sorted((sample / split / name).rglob(f"*{suffix}"), key=lambda path: path.stat().st_size)[:2]
                for number, path in enumerate(files):
                    self.keep(path, f"{split}/{name}/{number}{suffix}", change(path.read_bytes()))
        return change(path.read_bytes())

    def image_classification(self, sample: Path) -> None:
        content = self.class_folders(sample, ".png")
        first = sorted((self.data / "train").iterdir())[0].name
        self.originals[f"train/{first}"] = images() | {"sample.png": content}

    def audio_classification(self, sample: Path) -> None:
        content = self.class_folders(sample, ".wav")
        first = sorted((self.data / "train").iterdir())[0].name
        self.originals[f"train/{first}"] = sounds() | {"sample.wav": content}

    def text_classification(self, sample: Path) -> None:
        content = self.class_folders(sample, ".txt", lambda text: b"\n".join(text.splitlines()[:12]) + b"\n")
        first = sorted((self.data / "train").iterdir())[0].name
        self.originals[f"train/{first}"] = texts(content)

    def language_modeling(self, sample: Path) -> None:
        for split in ("train", "valid", "test"):
            path = sorted((sample / split).glob("*.txt"))[0]
            self.keep(path, f"{split}/{path.name}", path.read_bytes()[:600].decode(errors="ignore").encode())
        self.originals["train"] = texts((self.data / split / path.name).read_bytes())

    def image_segmentation(self, sample: Path) -> None:
        self.keep(sample / "classes.txt", "classes.txt")
        for split in ("train", "valid", "test"):
            for path in sorted((sample / split / "images").iterdir())[:2]:
                mask = next((sample / split / "masks").glob(f"{path.stem}.*"))
                self.keep(path, f"{split}/images/{path.name}")
                self.keep(mask, f"{split}/masks/{mask.name}")
        self.originals["train/images"] = images()
        self.originals["train/masks"] = masks()

    def object_detection(self, sample: Path) -> None:
        for split in ("train", "valid", "test"):
            whole = json.loads((sample / split / "annotations.json").read_text())
            whole["images"] = whole["images"][:2]
            ids = [image["id"] for image in whole["images"]]
            whole["annotations"] = [row for row in whole["annotations"] if row["image_id"] in ids]
            used = {row["category_id"] for row in whole["annotations"]}
            whole["categories"] = [row for row in whole["categories"] if row["id"] in used or split != "train"]
            for image in whole["images"]:
                self.keep(sample / split / "images" / image["file_name"], f"{split}/images/{image['file_name']}")
            self.keep(sample, f"{split}/annotations.json", json.dumps(whole).encode())
        self.originals["train/images"] = images() | {
            "sample.png": next((self.data / split / "images").iterdir()).read_bytes()
        }
        self.originals["train"] = coco((self.data / "train" / "annotations.json").read_bytes())

    def table(self, sample: Path, rows: int) -> bytes:
        for split in ("train", "valid", "test"):
            (path,) = (sample / split).glob("*.csv")
            self.keep(path, f"{split}/{path.name}", b"\n".join(path.read_bytes().splitlines()[: rows + 1]) + b"\n")
        return (self.data / "train" / path.name).read_bytes()

    def tabular(self, sample: Path) -> None:
        self.originals["train"] = tables(self.table(sample, 30))

    def custom(self, sample: Path) -> None:
        made = tables(self.table(sample, 20))
        self.originals["train"] = {name: made[name] for name in ("a.csv", "mark.csv", "gaps.csv", "quoted.csv")}

    def time_series(self, sample: Path) -> None:
        content = self.table(sample, 24)
        for split in ("valid", "test"):
            (path,) = (self.data / split).glob("*.csv")
            path.rename(path.with_name(f"{split}.csv"))
        self.originals["train"] = series(content)

    def check_data(self, path: Path) -> None:
        """What `check-data` calls; it prints the first problems of each kind."""
        options = {} if self.kind == "custom" else {"options": self.config.data, "settings": []}
        _, problems = self.utils.check_folder(self.data, **options)
        if problems:
            raise self.user_error("\n".join(problems[:40]))

    def train(self, path: Path) -> None:
        """The first batches of a run."""
        for batch in itertools.islice(self.new().train_loader(), 4):
            left = [batch]
            while left:
                part = left.pop()
                left += part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else []
                if isinstance(part, self.torch.Tensor) and not self.torch.isfinite(part).all():
                    raise ValueError("a batch has values that are not finite")

    def run(self, path: Path) -> None:
        """The predictions for the file, as `run` and `run --json` print them."""
        with self.torch.no_grad():
            for made in itertools.islice(self.task.predict(self.model, [str(path)]), 40):
                json.dumps(made, allow_nan=False)
                self.task.sentence(made)

    def unpack(self, path: Path) -> None:
        self.splits.unpack_sample(path.parent)

    def mutant(self, rng: random.Random) -> tuple[Path, list[Read]]:
        """Write a mutant; returns its path and its readers."""
        if rng.random() < 0.06:
            path = self.folder / "archive" / "sample.zip"
            path.parent.mkdir()
            path.write_bytes(mutated(self.archive, ".zip", rng, self.others))
            return path, [self.unpack]
        place = rng.choice(sorted(self.originals))
        name = rng.choice(sorted(self.originals[place]))
        suffix = "." + name.rpartition(".")[2]
        content = original = self.originals[place][name]
        if rng.random() < 0.97:
            content = mutated(original, suffix, rng, self.others)
        stem = rng.choice(NAMES) if rng.random() < 0.06 else "mutant"
        name = "annotations.json" if suffix == ".json" else f"{stem}{suffix}"
        if suffix == ".csv":
            self.put(place, name, original)
            self.fit()
        return self.put(place, name, content)

    def put(self, place: str, name: str, content: bytes) -> tuple[Path, list[Read]]:
        """Write a file, and the files that it needs; returns its path and its readers."""
        path, train = self.data / place / name, self.data / "train"
        if place == "train/masks":
            self.keep(path, f"train/images/{path.stem}.png", self.originals["train/images"]["rgb.png"])
        elif self.kind == "image_segmentation":
            self.keep(path, f"train/masks/{path.stem}.png", self.originals["train/masks"]["a.png"])
        elif self.kind == "object_detection" and place == "train/images":
            self.annotate(name)
        elif path.suffix == ".csv":
            for other in train.glob("*.csv"):
                other.unlink()  # it may have other columns
        path.write_bytes(content)
        reads: list[Read] = [self.check_data, self.train]
        return path, reads if path.suffix == ".json" or place == "train/masks" else [*reads, self.run]


def unclear(text: str, folder: Path) -> str:
    """What is unclear in an error: a line that does not say where, or is too long. "" if it is clear."""
    for line in text.splitlines():
        if len(line) > LONGEST:
            return f"a line of {len(line):,} characters: {line[:300]}"
        if not line.startswith((str(folder), "data.", "column ", "and ")):
            return f"a line that names nothing: {line[:300]}"
    return ""


def peak() -> float:
    """The most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempts(bench: Bench, path: Path, reads: list[Read]) -> Iterator[tuple[str, str]]:
    """The outcome of each reader of a file: `read`, `refused` or `failed`; and the error message, or why it failed."""
    for read in reads:
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        before, most = time.process_time(), peak()
        said, how = "", "read"
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                read(path)
            except bench.user_error as error:
                said, how = str(error), "refused"
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:600]
                how = "failed"
        seconds, memory = time.process_time() - before, peak() - most
        faulthandler.cancel_dump_traceback_later()
        own = [each for each in warned if "my_project" in each.filename]
        if how == "refused" and (wrong := unclear(said, bench.folder)):
            said, how = wrong, "failed"
        elif own:
            said, how = f"{own[0].filename}:{own[0].lineno}: {own[0].message}", "failed"
        if seconds > SECONDS or memory > MEGABYTES:
            said, how = f"took {seconds:.1f} s, {memory:.0f} MB", "failed"
        yield how, f"{read.__name__}: {said}"


def main(project: Path, kind: str, seed: int, count: int, folder: Path) -> int:
    """Read `count` mutants; returns how many failed."""
    ends, failed = Counter[str](), 0
    # What is beyond MEGABYTES is reported; this limit only protects the machine.
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * MEGABYTES * 2**20,) * 2)
    with tempfile.TemporaryDirectory() as aside:
        bench = Bench(project, kind, Path(aside))
        for number in range(seed, seed + count):
            found = [*attempts(bench, *bench.mutant(random.Random(number)))]
            ends.update(how for how, _ in found)
            if wrong := [said for how, said in found if how == "failed"]:
                failed += 1
                bench.save(folder / f"{kind}-{number}")
                print(f"seed {number}, kept in {folder}/{kind}-{number}:", *wrong, sep="\n  ")
            bench.clean()
    print(f"{count} files of {kind}: {ends['read']} times read, {ends['refused']} refused; {failed} failed")
    return failed if ends["read"] and ends["refused"] else 1


def each(project: Path, kind: str, folder: Path) -> int:
    """Copy each file of the subfolders to the same path of the data folder and read it; print the outcomes as JSON."""
    with tempfile.TemporaryDirectory() as aside:
        bench, ends = Bench(project, kind, Path(aside)), dict[str, list[tuple[str, str]]]()
        for case in sorted(folder.iterdir()):
            (path,) = (path for path in case.rglob("*") if path.is_file())
            place = path.parent.relative_to(case).as_posix()
            found = attempts(bench, *bench.put(place, path.name, path.read_bytes()))
            ends[case.name] = [(how, said.replace(f"{bench.data}/", "")) for how, said in found]
            bench.clean()
    print(json.dumps(ends))
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 4:
        sys.exit(each(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])) > 0)
