"""Sounds and texts as real programs write them, read by projects of these kinds."""

import struct
import wave
from pathlib import Path

import pytest
from conftest import Render, in_project

pytestmark = pytest.mark.slow

HEAD = """if True:
    import sys
    from pathlib import Path
    from my_project.errors import UserError
    folder = Path(sys.argv[1])
"""


def script(body: str) -> str:
    return HEAD + body


# --- sounds ---


def wav(path: Path, code: int, bits: int, frames: bytes, channels: int = 1, rate: int = 8000) -> Path:
    """A WAV file with a chunk before its data, as editors write them; `code` 0xFFFE is extensible, of PCM."""
    width = bits // 8
    header = struct.pack("<HHIIHH", code, channels, rate, rate * channels * width, channels * width, bits)
    if code == 0xFFFE:
        guid = bytes.fromhex("0100000000001000800000aa00389b71")
        header += struct.pack("<HHI", 22, bits, 0) + guid
    chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"LIST\x05\0\0\0INFO1\0"
    chunks += b"data" + struct.pack("<I", len(frames)) + frames
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


WAVS = {
    "pcm8": (1, 8, bytes([128, 192, 64] * 100)),
    "pcm16": (1, 16, struct.pack("<3h", 0, 2**14, -(2**14)) * 100),
    "pcm24": (1, 24, b"\0\0\0\0\0\x40\0\0\xc0" * 100),
    "pcm32": (1, 32, struct.pack("<3i", 0, 2**30, -(2**30)) * 100),
    "float32": (3, 32, struct.pack("<3f", 0, 0.5, -0.5) * 100),
    "float64": (3, 64, struct.pack("<3d", 0, 0.5, -0.5) * 100),
    "extensible24": (0xFFFE, 24, b"\0\0\0\0\0\x40\0\0\xc0" * 100),
}


def test_every_usual_kind_of_wav_file_reads_the_same(render: Render, tmp_path: Path) -> None:
    for name, content in WAVS.items():
        wav(tmp_path / f"{name}.wav", *content)
    stream = bytearray(wav(tmp_path / "stream.wav", *WAVS["pcm16"]).read_bytes())
    for at in (4, stream.index(b"data") + 4):  # ffmpeg does not know the size of what it writes to a pipe
        stream[at : at + 4] = b"\xff" * 4
    (tmp_path / "stream.wav").write_bytes(stream)
    code = script("""
    from my_project.data.dataset import read_sound
    for path in sorted(folder.glob("*.wav")):
        sound = read_sound(path, 8000)
        print(path.stem, len(sound), sound[:3].tolist(), sound.dtype)
    """)
    said = in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines()
    assert said == [f"{name} 300 [0.0, 0.5, -0.5] torch.float32" for name in sorted([*WAVS, "stream"])]


BAD_WAVS = {
    "nan": (3, 32, struct.pack("<f", float("nan"))),
    "scaled": (3, 32, struct.pack("<2f", 0, 32767)),
    "ulaw": (7, 8, b"\xff" * 100),
}


def test_samples_that_no_model_can_use_are_refused_by_name(render: Render, tmp_path: Path) -> None:
    for name, content in BAD_WAVS.items():
        wav(tmp_path / f"{name}.wav", *content)
    code = script("""
    from my_project.data.dataset import read_sound
    for path in sorted(folder.glob("*.wav")):
        try:
            print(read_sound(path, 8000))
        except UserError as error:
            print(error)
    """)
    advice = "convert it to PCM (ffmpeg -i FILE OUT.wav) or remove it"
    assert in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines() == [
        f"{tmp_path}/nan.wav: has samples that are not from -1 to 1; {advice}",
        f"{tmp_path}/scaled.wav: has samples that are not from -1 to 1; {advice}",
        f"{tmp_path}/ulaw.wav: a WAV file of 8 bits (compressed, format 7); {advice}",
    ]


def test_flac_without_soundfile_is_one_error_before_training(render: Render, tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        for name in ("rain", "wind"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "a.flac").write_bytes(b"fLaC" + part.encode() + name.encode())
    code = script("""
    import importlib.util
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *more: None if name == "soundfile" else found(name, *more)
    from my_project.data.dataset import ClassFolder
    from my_project.data.utils import check_folder
    for read in (lambda: ClassFolder(folder / "train", None, 8000), lambda: check_folder(folder)):
        try:
            print(read())
        except UserError as error:
            print(error)
    """)
    said = in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines()
    advice = ".flac needs the package soundfile; `pip install soundfile`, or convert to WAV"
    assert said == [
        f"{tmp_path}/train/rain/a.flac and 1 more: {advice}",
        f"{tmp_path}/test/rain/a.flac and 5 more: {advice}",
    ]


def test_compressed_sounds_are_read_and_damaged_ones_named(render: Render, tmp_path: Path) -> None:
    code = script("""
    import numpy as np
    import soundfile
    from my_project.data.dataset import find_sounds, read_sound
    tone = 0.5 * np.sin(np.arange(8000) / 9)
    for suffix in ("flac", "ogg", "mp3"):
        soundfile.write(folder / f"a.{suffix}", np.stack([tone, tone], axis=1), 8000)
    (folder / "b.flac").write_bytes((folder / "a.flac").read_bytes()[:2000])
    (folder / "c.ogg").touch()
    for path in find_sounds(folder):
        try:
            sound = read_sound(path, 8000).numpy()
            print(path.name, len(sound), np.abs(sound - tone)[:7000].max() < 0.05)
        except UserError as error:
            print(str(error).partition(" (")[0])
    """)
    assert in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines() == [
        "a.flac 8000 True",
        "a.mp3 8000 True",
        "a.ogg 8000 True",
        f"{tmp_path}/b.flac: cannot be read",
        f"{tmp_path}/c.ogg: the file is empty; remove it",
    ]


def test_check_data_says_how_many_sounds_are_cut(render: Render, tmp_path: Path) -> None:
    for part, number in (("train", 1), ("valid", 2), ("test", 3)):
        for name, seconds in (("rain", 0.5), ("wind", 2 + number / 10)):
            (tmp_path / part / name).mkdir(parents=True)
            with wave.open(str(tmp_path / part / name / "a.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(struct.pack("<2h", 0, 1000 * number) * round(4000 * seconds))
    code = script("""
    from my_project.data.options import Data
    from my_project.data.utils import check_folder
    for seconds in (1.0, 3.0):
        table, problems = check_folder(folder, Data(seconds=seconds))
        print(*[line for line in table.splitlines() if "longer" in line] or ["none"], problems)
    """)
    short, whole = in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout.splitlines()
    assert short == (
        "3 of 6 sounds are longer than data.seconds=1 (median 2.2 s), so training uses a part of each; "
        "set data.seconds=2.2 to use more []"
    )
    assert whole == "none []"


def test_test_and_run_use_the_whole_of_a_long_sound(render: Render, tmp_path: Path) -> None:
    code = script("""
    import torch, wave
    import numpy as np
    from my_project.config import load
    from my_project.data.dataset import stack_windows
    from my_project.options import Config
    from my_project.task import Task
    one = Task(load(Config, ["configs/train.yaml"]), torch.device("cpu"), {"classes": ["soft", "loud"]})
    model = lambda sounds: torch.stack([torch.zeros(len(sounds)), sounds.square().mean(dim=1) * 40], dim=1)
    sound = torch.zeros(4 * one.length)
    sound[: one.length] = 0.5  # far from the middle
    batch = stack_windows([(sound, 1), (sound[: one.length], 1)], one.length)
    tested = one.forward(model, batch).softmax(dim=1)[:, 1]
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, one.data.sample_rate, 0, "NONE", ""))
        file.writeframes((sound.numpy() * 2**15).astype("<i2").tobytes())
    (said,) = one.predict(model, [str(folder / "a.wav")])
    print([round(float(share), 3) for share in (*tested, said["probabilities"]["loud"])])
    """)
    said = in_project(render(data_kind="audio_classification"), "-c", code, tmp_path).stdout
    assert said == "[0.625, 1.0, 0.625]\n"  # (1 + 3 * 0.5) / 4


# --- texts ---


def texts(folder: Path, **files: str) -> Path:
    """Class folders with files: `rain_a="…"` is rain/a.txt."""
    for name, content in files.items():
        path = folder / name.replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(content, "utf-8")
    return folder


def test_all_bad_lines_are_reported_at_once(render: Render, tmp_path: Path) -> None:
    source = texts(tmp_path, train_rain_a="one\x0ctwo\nb\x07d\n" * 74, train_wind_b="fine\n\n")
    code = script("""
    from my_project.data.dataset import TextFolder
    from my_project.data.utils import split_folder
    from my_project.data.vocabulary import Vocabulary
    letters = Vocabulary("characters", True, ["a"])
    for read in (
        lambda: TextFolder(folder / "train", ["rain", "wind"], letters, 9),
        lambda: split_folder(folder / "train", folder / "mine"),
    ):
        try:
            read()
        except UserError as error:
            print(error)
    """)
    said = in_project(render(data_kind="text_classification"), "-c", code, source).stdout.splitlines()
    bell = "holds the control character U+0007; remove it"
    expected = [f"{source}/train/rain/a.txt, line {number}: {bell}" for number in range(2, 149, 2)]
    expected.append(f"{source}/train/wind/b.txt, line 2: is empty; remove the line")
    assert said == 2 * expected  # a form feed is white space


def test_a_split_of_texts_that_two_classes_share_passes_its_check(render: Render, tmp_path: Path) -> None:
    shared = "".join(f"text {number}\n" for number in range(40))
    source = texts(tmp_path / "source", rain_a=shared + "only rain\n", wind_a="only wind\n" + shared)
    code = script("""
    from my_project.data.utils import check_folder, split_folder
    print(sum(split_folder(folder / "source", folder / "mine").values()), check_folder(folder / "mine")[1])
    """)
    assert in_project(render(data_kind="text_classification"), "-c", code, source.parent).stdout == "82 []\n"


def test_a_file_is_a_text_where_the_config_says_so(render: Render, tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        texts(tmp_path / part, rain_a=f"wet\n\n{part}\n", wind_a=f"dry\r\n{part}\nend")
    code = script("""
    from my_project.data.dataset import read_folder, read_inputs
    from my_project.data.options import Data
    from my_project.data.utils import check_folder
    for text in ("line", "file"):
        table, problems = check_folder(folder, Data(text=text))
        print(*[line for line in table.splitlines() if "a text is" in line], len(problems))
    print(list(read_folder(folder / "train", ["rain", "wind"], whole=True)))
    print([text for _, _, text in read_inputs(str(folder / "test"), whole=True)])
    """)
    said = in_project(render(data_kind="text_classification"), "-c", code, tmp_path).stdout.splitlines()
    assert said == [
        "15 texts in 6 files: a text is a line; data.text=file makes each file one 9",  # 3 empty lines, 6 duplicates
        "6 texts in 6 files: a text is a file; data.text=line makes each line one 0",
        "[('wet train', 0), ('dry train end', 1)]",
        "['wet test', 'dry test end']",
    ]


def test_check_data_tells_words_from_words_and_signs(render: Render, tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        texts(tmp_path / part, rain_a=f"wet, wet {part}!\n", wind_a=f"dry, dry {part}!\n")
    code = script("""
    from my_project.data.options import Data
    from my_project.data.utils import check_folder
    print([line for line in check_folder(folder, Data(tokens="words"))[0].splitlines() if "median" in line])
    """)
    said = in_project(render(data_kind="text_classification"), "-c", code, tmp_path).stdout
    assert said == "['words of a text: 3 (median), at most 3; words and signs: 5 (median), at most 5']\n"


def test_texts_take_only_the_bytes_that_their_tokens_need(render: Render, tmp_path: Path) -> None:
    texts(tmp_path, train_rain_a="wet days\n" * 50, train_wind_a="été\n" * 50)
    code = script("""
    from my_project.data.dataset import TextFolder
    from my_project.data.vocabulary import Vocabulary
    letters = Vocabulary.fit(["wet days"], "characters", True, 1)
    held = TextFolder(folder / "train", ["rain", "wind"], letters, 99)
    print(held.ids.nbytes, [(letters.decode(held[i][0]), held[i][1], held[i][0].dtype) for i in (0, 99)])
    """)
    said = in_project(render(data_kind="text_classification"), "-c", code, tmp_path).stdout
    assert said == f"{50 * 10 + 50 * 5} [('wet days', 0, torch.int64), ('�t�', 1, torch.int64)]\n"


def test_documents_take_one_or_two_bytes_per_token(render: Render, tmp_path: Path) -> None:
    texts(tmp_path, train_a="été ☃\n" * 50, train_b="\U0001f327" * 20)
    code = script("""
    from my_project.data.dataset import Vocabulary, Windows
    for characters, tokens in (("\\n ét☃", 300 + 20), (None, 50 * 10 + 80)):
        vocabulary = Vocabulary(characters)
        windows = Windows(folder / "train", vocabulary, context=8)
        inputs, targets = windows[0]
        text = vocabulary.decode(windows.tokens.tolist())
        print(windows.tokens.itemsize, len(windows.tokens) - 3 - tokens, inputs.dtype, targets.dtype)
        print(repr(text[:6]), repr(text[-1:]))
    """)
    assert in_project(render(data_kind="language_modeling"), "-c", code, tmp_path).stdout.splitlines() == [
        "1 0 torch.int64 torch.int64",
        "'été ☃\\n' '\ufffd'",
        "2 0 torch.int64 torch.int64",
        "'été ☃\\n' '\U0001f327'",
    ]


DUPLICATES = {
    "image_classification": """
    for number in range(24):
        path = folder / "source" / "ab"[number // 4 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number // 4).save(path)
    """,
    "image_segmentation": """
    for number in range(24):
        for name, value in {"images": number // 4, "masks": number % 2}.items():
            path = folder / "source" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), value).save(path)
    (folder / "source" / "classes.txt").write_text("ground\\nroad\\n")
    """,
    "object_detection": """
    import json
    (folder / "source" / "images").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(24)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(24)]
    for number, image in enumerate(images):
        Image.new("L", (8, 8), number // 4).save(folder / "source" / "images" / image["file_name"])
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "source" / "annotations.json").write_text(json.dumps(content))
    """,
}


@pytest.mark.parametrize("kind", DUPLICATES)
def test_a_split_keeps_equal_images_together(render: Render, tmp_path: Path, kind: str) -> None:
    code = (
        script("    from PIL import Image" + DUPLICATES[kind])
        + """
    from my_project.data.utils import check_folder, split_folder
    counts = split_folder(folder / "source", folder / "mine", valid=0.2, test=0.2)
    print(sum(counts.values()), [p for p in check_folder(folder / "mine")[1] if "same" in p])
    """
    )
    assert in_project(render(data_kind=kind), "-c", code, tmp_path).stdout == "24 []\n"


def test_a_split_of_documents_keeps_duplicates_together(render: Render, tmp_path: Path) -> None:
    for number in range(12):
        texts(tmp_path, **{f"source_{number}": f"text {number // 2}\n"})
    (tmp_path / "source" / "broken.txt").write_bytes(b"\xff")
    (tmp_path / "source" / "hollow.txt").touch()
    code = script("""
    from my_project.data.utils import split_folder
    try:
        split_folder(folder / "source", folder / "mine")
    except UserError as error:
        print(error)
    for name in ("broken", "hollow"):
        (folder / "source" / f"{name}.txt").unlink()
    print(split_folder(folder / "source", folder / "mine", valid=0.2, test=0.2))
    parts = {path: path.parent.name for path in (folder / "mine").rglob("*.txt")}
    print(len({(path.read_text(), part) for path, part in parts.items()}))
    """)
    assert in_project(render(data_kind="language_modeling"), "-c", code, tmp_path).stdout.splitlines() == [
        f"{tmp_path}/source/broken.txt, line 1: not UTF-8 (byte 0xff); save it as UTF-8",
        f"{tmp_path}/source/hollow.txt: the text is empty; remove it",
        "{'train': 8, 'valid': 2, 'test': 2}",
        "6",
    ]
