"""Hostile files: each reader gives a correct result or one clear error, within its limits of time and memory.

`mutants.py` makes them at random, from the seed that the first lines of the output show, and calls what `check-data`,
`train` and `run` call.
"""

import json
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Render, in_project
from test_configs import KINDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="their memory is measured as Linux counts it"),
]

MUTANTS = ROOT / "tests" / "mutants.py"
COUNTS = [56, pytest.param(1120, marks=pytest.mark.exhaustive)]  # of each of nine kinds: 504, and 10,080


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_gives_a_result_or_one_clear_error(
    render: Render, kind: str, count: int, tmp_path: Path
) -> None:
    project, seed = render(data_kind=kind), os.environ["SEED"]
    done = in_project(project, MUTANTS, project, kind, seed, str(count), tmp_path, ok=False)
    assert done.returncode == 0, f"SEED={seed}:\n{done.stdout}{done.stderr}"
    assert done.stdout.endswith("; 0 failed\n")
    assert "Traceback" not in done.stderr


def png(width: int, height: int) -> bytes:
    """A black PNG of one bit per pixel, a thousand times smaller than the image in memory."""
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), b"IDAT": rows, b"IEND": b""}
    chunks = (struct.pack(">I", len(p)) + n + p + struct.pack(">I", zlib.crc32(n + p)) for n, p in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def wav(rate: int, frames: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(frames)) + frames
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def coco(**changes: Any) -> bytes:
    """Annotations of one image, with changes to its entry."""
    image = {"id": 1, "file_name": "a.png", "width": 24, "height": 16} | changes
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9]}
    return json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cell"}]}).encode()


PIXELS = "more than MAX_PIXELS of data/dataset.py"
LEADS_OUT = "leads out; write it as it is below images/"
WIDE = ",".join(f"c{number}" for number in range(200_000)).encode()
ODD = b"\n".join([b",".join(b"c%d" % n for n in range(9000)), *[b",".join([b"1x"] * 9000)] * 2]) + b"\n"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"
NOT_AN_IMAGE = "not an image (cannot identify image file)"
IMAGES: dict[str, tuple[str, bytes, str]] = {
    "eps": ("a.png", EPS, NOT_AN_IMAGE),
    "eps as tiff": ("a.tif", EPS, NOT_AN_IMAGE),
    "pixels": ("a.png", png(20_000, 5000), PIXELS),
}


def below(folder: str) -> dict[str, tuple[str, bytes, str]]:
    """The images of these cases in a folder of train/."""
    return {
        f"{name} in {folder}": (f"{folder}/{path}", content, said) for name, (path, content, said) in IMAGES.items()
    }


CASES: dict[str, dict[str, tuple[str, bytes, str]]] = {  # the file, its content, and the message of each reader
    "image_classification": below("0"),
    "image_segmentation": {
        **below("images"),
        **below("masks"),
    },
    "object_detection": {
        **below("images"),
        "deep": ("annotations.json", b"[" * 100_000, "not JSON (maximum recursion depth"),
        "digits": ("annotations.json", coco(id=0).replace(b"24", b"9" * 5000), "not JSON (Exceeds the limit"),
        "wide": ("annotations.json", coco(width=10**400), "no image is 1000"),
        "digits of a box": ("annotations.json", coco().replace(b"9]", b"9" * 500 + b"]"), "bbox should be"),
        "no id": ("annotations.json", coco(id=[]), "the id [] is not a number or text"),
        "absolute": ("annotations.json", coco(file_name="/etc/hostname"), LEADS_OUT),
        "drive": ("annotations.json", coco(file_name="C:\\a.png"), LEADS_OUT),
        "above": ("annotations.json", coco(file_name="../../valid/images/a.png"), LEADS_OUT),
        "long name": ("annotations.json", coco(file_name="\N{GRINNING FACE}" * 80 + ".png"), "no such file"),
        "surrogate": ("annotations.json", coco(file_name="\ud800.png"), "no such file"),
    },
    "text_classification": {
        "accents": ("bulgarian/a.txt", b"a" + "\u0301\u0316".encode() * 60_000, "1,000 accents on a letter"),
        "a line": ("bulgarian/a.txt", b"one two " * 2_200_000, "line 1: is longer than MAX_LINE"),
    },
    "tabular": {
        "columns": ("a.csv", WIDE, "has 200,000 columns; MAX_COLUMNS"),
        "a cell": ("a.csv", b"carat,price\n1,2\n" + b"y" * 100_000 + b",2\n", "is not a finite number"),
        "overflow": ("a.csv", b"carat,price\n1,2\n1e200,2\n", "'1e200' is above 1e+100"),
    },
    "time_series": {
        "columns": ("a.csv", WIDE, "has 200,000 columns; MAX_COLUMNS"),
        "texts": ("a.csv", ODD, "no column 'time'"),
    },
    "audio_classification": {
        "rate": ("english/a.wav", wav(100, bytes([0, 255] * 1_000_000)), "more than MAX_SAMPLES"),
        "no channels": ("english/a.wav", wav(8000, bytes(99)).replace(b"\1\0\1\0", b"\1\0\0\0"), "a damaged header"),
    },
    "custom": {"rows": ("a.csv", b"x,y,class\n" + b"1,1,1\n" * 1_000_001, "has more lines than MAX_ROWS")},
}


Cases = dict[str, tuple[str, bytes, str]]


def read_each(project: Path, kind: str, folder: Path, cases: Cases, path: str = "") -> dict[str, list[tuple[str, str]]]:
    """The outcome of each reader of each case, and its message."""
    for case, (name, content, _) in cases.items():
        file = folder / "cases" / case / "train" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    search = os.pathsep.join([path, os.environ["PATH"]])
    ends = json.loads(in_project(project, MUTANTS, project, kind, folder / "cases", PATH=search).stdout)
    return {case: [(how, said) for how, said in found] for case, found in ends.items()}


@pytest.mark.parametrize("kind", CASES)
def test_a_hostile_file_is_refused_by_name_within_its_limits(render: Render, kind: str, tmp_path: Path) -> None:
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
        (tmp_path / name).chmod(0o755)
    ends = read_each(render(data_kind=kind), kind, tmp_path, CASES[kind], str(tmp_path))
    for case, (_, _, said) in CASES[kind].items():
        assert not [found for how, found in ends[case] if how == "failed"], case
        assert any(said in found for _, found in ends[case]), f"{case}: {ends[case]}"
    assert not (tmp_path / "started").exists(), "Ghostscript ran"


@pytest.mark.parametrize("kind", ["image_segmentation", "object_detection"])
def test_an_image_with_the_longest_name_is_predicted(render: Render, kind: str, tmp_path: Path) -> None:
    cases = {"long": ("images/" + "\N{GRINNING FACE}" * 62 + ".png", png(24, 16), "")}
    ends = read_each(render(data_kind=kind), kind, tmp_path, cases)["long"]
    assert ends[-1] == ("read", "run: ")


@pytest.mark.exhaustive  # ten seconds
def test_a_mask_as_large_as_its_image_is_predicted_band_by_band(render: Render, tmp_path: Path) -> None:
    cases = {"wide": ("images/a.png", png(2**21, 20), "")}
    ends = read_each(render(data_kind="image_segmentation"), "image_segmentation", tmp_path, cases)["wide"]
    assert ends[-1] == ("read", "run: ")


def test_file_names_that_are_not_utf_8_are_printed(render: Render, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        folder = os.path.join(os.fsencode(tmp_path), split.encode(), b"caf\xe9")
        os.makedirs(folder)
        with open(os.path.join(folder, b"a.png"), "wb") as file:
            file.write(png(24, len(split)))
    done = in_project(render(), "-m", "my_project", "check-data", tmp_path, ok=False)
    assert (done.returncode, done.stderr.count("error: "), "Traceback" in done.stderr) == (2, 1, False)
    assert "\ncaf\\udce9 " in done.stdout


def test_an_archive_that_unpacks_to_gigabytes_is_refused(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "sample.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"train/a/{number}.png", bytes(100_000))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 900_000_000)))  # the declared size
    code = "import sys, my_project.data.splits as s, pathlib; s.unpack_sample(pathlib.Path(sys.argv[1]))"
    done = in_project(render(), "-c", code, tmp_path, ok=False)
    assert "sample.zip: not unpacked: its files have more than 2 GB; unpack it yourself" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["sample.zip"]


def test_the_samples_of_a_sound_are_bounded_as_it_is_read(render: Render, tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    with open(tmp_path / "sparse.wav", "wb") as file:
        file.truncate(801_000_000)
    (tmp_path / "long.wav").write_bytes(wav(8000, bytes(4001)))
    (tmp_path / "right.wav").write_bytes(wav(8000, bytes(4000)))
    code = """if True:
        import sys
        from pathlib import Path
        import numpy, soundfile
        from my_project.data import wav
        from my_project.errors import UserError
        folder, most = Path(sys.argv[1]), wav.MAX_SAMPLES
        soundfile.write(folder / "long.flac", numpy.zeros((2001, 2)), 8000)
        soundfile.write(folder / "right.flac", numpy.zeros((2000, 2)), 8000)
        for name in ("long.flac", "long.wav", "right.flac", "right.wav", "sparse.wav"):
            wav.MAX_SAMPLES = most if name == "sparse.wav" else 4000
            try:
                print(f"{name}: {len(wav.read(folder / name)[0])}")
            except UserError as error:
                print(error)
    """
    said = in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout
    most = "has more than MAX_SAMPLES in data/wav.py, {}; cut it into several, or raise that"
    assert said.splitlines() == [
        f"{tmp_path}/long.flac: {most.format('4,000')}",
        f"{tmp_path}/long.wav: {most.format('4,000')}",
        "right.flac: 2000",
        "right.wav: 4000",
        f"{tmp_path}/sparse.wav: {most.format('100,000,000')}",
    ]
