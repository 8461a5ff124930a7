"""`check-data` says what the data are, names every planted fault in one run, and gives the settings that fit."""

import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, Render, in_project
from test_configs import KINDS

pytestmark = pytest.mark.slow

# Each program writes `folder` with several faults; one run of check-data must print all lines of NAMED.
IMAGES = """if True:
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    def image(path, *shape):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(path)
    def upside_down(path):
        exif = Image.Exif()
        exif[274] = 3
        Image.open(path).save(path, exif=exif)
"""
FAULTS = {
    "image_classification": IMAGES
    + """
    for split, cats in (("train", 30), ("valid", 2), ("test", 2)):
        for index in range(cats):
            image(folder / split / "cat" / f"{index}.png", 96, 128, 3)
        for index in range(2):
            image(folder / split / "dog" / f"{index}.png", 96, 128, 3)
    cat = folder / "train" / "cat"
    for index in range(12):
        (cat / f"empty{index}.png").touch()
    whole = (cat / "0.png").read_bytes()
    (cat / "cut.png").write_bytes(whole[:9000])
    (cat / "text.jpg").write_text("hello")
    (cat / "photo.heic").touch()
    (folder / "test" / "dog" / "twin.png").write_bytes(whole)
    Image.open(cat / "1.png").save(folder / "test" / "cat" / "again.bmp")
    (cat / "moved.png").symlink_to(folder / "gone.png")
    (cat / ".ipynb_checkpoints").mkdir()
    (cat / ".ipynb_checkpoints" / "2-checkpoint.png").write_bytes((cat / "2.png").read_bytes())
    (folder / "train" / "dog" / "label.png").write_bytes(whole)
    (folder / "valid" / "cow").mkdir()
    """,
    "tabular": """if True:
    rows = [f"{1000 + 3 * i},{i % 7},{'' if i % 4 == 0 else 'x'},{('low', 'high')[i % 2]}" for i in range(40)]
    parts = {"train": rows[:30], "valid": rows[30:35], "test": rows[35:]}
    parts["train"] += ["2001,1,x", '2002,"d"e,x,low', "2003,many,x,low", "2004,3,x,"]
    parts["valid"] += [rows[2], "8,3,x,low,more"]
    parts["test"] += ["7,wide,x,high"]
    for split, lines in parts.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "t.csv").write_text("\\n".join(["nr,width,shape,price", *lines]) + "\\n")
    (folder / "train" / "u.csv").write_text("nr,width,shape,cost\\n3001,2,x,low\\n")
    (folder / "test" / "empty.csv").touch()
    """,
    "text_classification": """if True:
    for split in ("train", "valid", "test"):
        for name in ("rain", "sun"):
            (folder / split / name).mkdir(parents=True)
            lines = [f"{split} {name} {i} " + "long " * 80 for i in range(12 if name == "rain" else 3)]
            (folder / split / name / "a.txt").write_text("\\n".join(lines) + "\\n")
    rain = folder / "train" / "rain"
    (rain / "b.txt").write_bytes(b"\\x07bell \\x00 nul \\x07\\n\\nfine\\n\\xff\\n" + b"\\x01\\n" * 30)
    (rain / "empty.txt").touch()
    (rain / "c.pdf").touch()
    (folder / "valid" / "rain" / "twin.txt").write_text("fine\\n")
    (folder / "valid" / "snow").mkdir()
    (folder / "test" / "sun" / "a.txt").unlink()
    """,
    "time_series": """if True:
    import datetime
    def write(path, first, count, **odd):
        path.parent.mkdir(parents=True, exist_ok=True)
        days = [(datetime.date(2024, 1, 1) + datetime.timedelta(first + i)).isoformat() for i in range(count)]
        lines = [odd.get(f"row{i}", f"{day},{i},{i % 7}") for i, day in enumerate(days)]
        path.write_text("\\n".join(["time,load,wind", *filter(None, lines)]) + "\\n")
    write(folder / "train" / "a.csv", 0, 80, row5="2024-01-06,1", row9="2024-01-10,calm,1", row20="2024-01-21,,2")
    write(folder / "train" / "b.csv", 0, 80, row7="soon,1,2", row8="2024-01-09,1,x", row9="2024-01-10,1,2,3")
    write(folder / "train" / "c.csv", 0, 80, row30="", row40="")
    write(folder / "train" / "d.csv", 0, 80)
    write(folder / "valid" / "d.csv", 79, 20)
    write(folder / "valid" / "c.csv", 90, 20)
    (folder / "train" / "e.csv").touch()
    lines = (folder / "train" / "d.csv").read_text().splitlines()
    (folder / "valid" / "copy.CSV").write_text("\\n".join(lines[:1] + lines[-30:]))
    (folder / "train" / "f.xlsx").touch()
    """,
    "audio_classification": """if True:
    import wave, zlib
    import numpy as np
    def sound(path, rate, seconds, loud=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            seed = zlib.crc32(str(path).encode())
            values = np.random.default_rng(seed).integers(-999, 999, int(rate * seconds)) * loud
            file.writeframes(values.astype("<i2").tobytes())
    for split in ("train", "valid", "test"):
        for index in range(3):
            sound(folder / split / "rain" / f"{index}.wav", 16000, 2.5)
            sound(folder / split / "wind" / f"{index}.wav", 16000, 2.5)
    rain = folder / "train" / "rain"
    whole = (rain / "0.wav").read_bytes()
    (rain / "empty.wav").touch()
    (rain / "cut.wav").write_bytes(whole[:5000])
    (rain / "text.wav").write_text("hello")
    (rain / "notes.m4a").touch()
    sound(rain / "still.wav", 16000, 1, loud=0)
    sound(rain / "slow.wav", 11025, 2.5)
    (folder / "test" / "wind" / "twin.wav").write_bytes(whole)
    (folder / "test" / "rain" / "tagged.wav").write_bytes(whole + b"LIST\\x04\\0\\0\\0INFO")
    sound(rain / "wind" / "0.wav", 16000, 2.5)
    sound(rain / ".trash" / "0.wav", 44100, 2.5)
    (rain / "lost.wav").symlink_to("elsewhere.wav")
    (folder / "valid" / "snow").mkdir()
    """,
    "image_segmentation": IMAGES
    + """
    for split in ("train", "valid", "test"):
        for index in range(3):
            image(folder / split / "images" / f"{index}.png", 96, 128, 3)
            (folder / split / "masks").mkdir(exist_ok=True)
            mask = Image.new("L", (128, 96))
            mask.paste(255, (0, 0, 20, 20))
            mask.save(folder / split / "masks" / f"{index}.png")
    (folder / "classes.txt").write_text("background\\nroad\\n")
    train = folder / "train"
    (train / "images" / "0.png").write_bytes((train / "images" / "0.png").read_bytes()[:9000])
    Image.new("L", (64, 96)).save(train / "masks" / "1.png")
    Image.new("RGB", (128, 96)).save(folder / "valid" / "masks" / "0.png")
    (folder / "valid" / "masks" / "1.png").write_bytes(b"")
    image(folder / "valid" / "images" / "alone.png", 96, 128, 3)
    (folder / "test" / "images" / "1.png").write_bytes((train / "images" / "2.png").read_bytes())
    Image.open(train / "images" / "2.png").save(folder / "test" / "images" / "2.bmp")
    (folder / "test" / "images" / "2.png").unlink()
    image(folder / "test" / "images" / "0.bmp", 96, 128, 3)
    upside_down(folder / "test" / "images" / "0.png")
    Image.new("L", (128, 96)).save(folder / "valid" / "masks" / "2.png", "JPEG")
    for path, other in (("images/4.png", "images/2.png"), ("masks/4.png", "masks/2.png")):
        (train / path).parent.joinpath(".ipynb_checkpoints").mkdir(exist_ok=True)
        (train / path).parent.joinpath(".ipynb_checkpoints", "2.png").write_bytes((train / other).read_bytes())
        (train / path).symlink_to(folder / "gone.png")
    """,
    "object_detection": IMAGES
    + """
    import json
    for split in ("train", "valid", "test"):
        for index in range(3):
            image(folder / split / "images" / f"{index}.png", 240, 320, 3)
        images = [{"id": i, "file_name": f"{i}.png", "width": 320, "height": 240} for i in range(3)]
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(2)]
        if split == "train":
            boxes += [{"id": 7, "image_id": 0, "category_id": 1, "bbox": [300, 1, 90, 9]}]
            boxes += [{"id": 8, "image_id": 0, "category_id": 5, "bbox": [1, 1, 9, 9]}]
            boxes += [{"id": 9, "image_id": 0, "category_id": 1, "bbox": [1, 1, 0, 9]}]
            boxes += [{"id": 10, "image_id": 0, "category_id": 1, "bbox": [0.2, 0.3, 0.5, 0.25]}]
            boxes += [{"id": 11, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}]
            images += [{"id": 9, "file_name": "none.png", "width": 320, "height": 240}]
            images += [{"id": 10, "file_name": "images/0.png", "width": 320, "height": 240}]
        classes = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": classes}
        (folder / split / "annotations.json").write_text(json.dumps(content), encoding="utf-8-sig")
    image(folder / "train" / "images" / "1.png", 100, 100, 3)
    image(folder / "train" / "images" / "extra.png", 240, 320, 3)
    (folder / "train" / "images" / "2.png").write_bytes(b"")
    (folder / "valid" / "images" / "1.png").write_bytes((folder / "train" / "images" / "0.png").read_bytes())
    (folder / "valid" / "images" / "2.png").unlink()
    Image.open(folder / "train" / "images" / "0.png").save(folder / "valid" / "images" / "2.png", "BMP")
    upside_down(folder / "valid" / "images" / "0.png")
    (folder / "valid" / "images" / ".ipynb_checkpoints").mkdir()
    image(folder / "valid" / "images" / ".ipynb_checkpoints" / "thumbnail.png", 24, 32, 3)
    (folder / "test" / "annotations.json").write_text("{")
    """,
    "language_modeling": """if True:
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        for index in range(3):
            (folder / split / f"{index}.txt").write_text(f"{split} {index} says this and that, and no more. " * 9)
    (folder / "train" / "empty.txt").touch()
    (folder / "train" / "odd.txt").write_bytes(b"one\\n\\xff\\n")
    (folder / "train" / "nul.txt").write_bytes(b"one\\n\\0\\n")
    (folder / "train" / "c.pdf").touch()
    (folder / "valid" / "new.txt").write_text("\u0436" * 200)
    (folder / "valid" / "twin.txt").write_text((folder / "train" / "0.txt").read_text())
    """,
    "custom": """if True:
    for number, split in enumerate(("train", "valid")):
        (folder / split).mkdir(parents=True)
        rows = [f"{number + i / 100},{i},{i % 2}" for i in range(30)]
        (folder / split / "a.csv").write_text("\\n".join(["x,y,class", *rows]) + "\\n")
    with open(folder / "valid" / "a.csv", "a") as file:
        file.write("1,2\\none,2,1\\n3,inf,1\\n3,4,7\\n0.03,3,1\\n1.04,4,1\\n")
    (folder / "train" / "more").mkdir()
    (folder / "train" / "more" / "b.CSV").write_text("x;y;class\\n")
    (folder / "train" / "c.txt").touch()
    """,
}
NAMED = {
    "image_classification": """
        few images to train on: dog 3; at most 45
        files not read: 1 .heic;
        43 images of mode RGB
        median size 128 x 96, smallest 128 x 96, largest 128 x 96
        settings that fit: data.channels=3 data.image_size=96
        train/cat/empty0.png: not an image (the file is empty)
        error: 2 more: not an image (the file is empty); fix or remove it
        train/cat/cut.png: not an image (image file is truncated)
        train/cat/moved.png: no such file
        train/cat/text.jpg: not an image (cannot identify image file)
        train/dog/label.png: the same as in train: FOLDER/train/cat/0.png
        test/dog/twin.png: the same as in train: FOLDER/train/cat/0.png
        test/cat/again.bmp: the same as in train: FOLDER/train/cat/1.png
        valid/cow: not a class of the training data
    """,
    "tabular": """
        no value: shape 8
        numbers: nr
        settings that fit: data.task=classification loss.name=CrossEntropyLoss checkpoint.monitor=auroc
        'data.ignore=["nr"]'
        train: target 'price': 31 of 31 are texts; set data.task=classification loss.name=CrossEntropyLoss
        train/t.csv:32: 3 cells, but the header names 4 columns
        train/t.csv:33: not CSV
        train/t.csv:34: column 'width': 'many' is not a finite number
        train/t.csv:35: no value for the target 'price'
        train/u.csv:2: not the columns of
        valid/t.csv:8: 5 cells, but the header names 4 columns
        valid/t.csv:7: the same row is in train: FOLDER/train/t.csv:4
        test/empty.csv: is empty
    """,
    "text_classification": """
        few texts to train on: sun 3; at most 13
        files not read: 1 .pdf
        words of a text: 83 (median), at most 83; characters: 4
        settings that fit: data.max_length=448
        train/rain/b.txt, line 1: holds the control characters U+0007, U+0000; remove them
        train/rain/b.txt, line 2: is empty
        train/rain/b.txt, line 4: not UTF-8
        train/rain/b.txt, line 5: holds the control character U+0001
        error: 20 more: holds the control character …; remove it
        train/rain/empty.txt: the file is empty
        valid/rain/twin.txt, line 1: 'fine' is in train, too
        valid/snow: not a class of the training data
        test/sun: holds no files
    """,
    "time_series": """
        d.csv                 80      20
        files not read: 1 .xlsx
        values: load 0 to 79, wind 0 to 6
        column 'load' counts the rows; leave it out of data.columns
        times: column 'time', 1 day apart
        rows 1 day apart usually repeat after 7; set data.season=7
        data.context=104 and data.horizon=13 do not fit 80 rows to train on; set data.context=40
        settings that fit: data.missing=interpolate data.context=40 data.season=7
        train/a.csv, line 7: 2 cells under a header of 3
        train/a.csv, line 11, column 'load': 'calm' is not a number
        train/a.csv, line 22, column 'load': no value
        train/b.csv, line 9, column 'time': 'soon' is not a time
        train/b.csv, line 10, column 'wind': 'x' is not a number
        train/b.csv, line 11: 4 cells under a header of 3
        train/c.csv, line 32: 2024-02-01: 1 rows are missing before it
        train/c.csv, line 41: 2024-02-11: 1 rows are missing before it
        train/e.csv: is empty
        valid/c.csv: does not begin one step after
        valid/copy.CSV: the same rows as in FOLDER/train/d.csv
        valid/d.csv: begins before
        test: holds no .csv files
    """,
    "audio_classification": """
        few sounds to train on: wind 3; at most 10
        files not read: 1 .m4a
        sounds: 22 of 16,000 Hz, 1 of 11,025 Hz; median 2.50 s, shortest 1.00 s, longest 2.50 s
        settings that fit: data.resample=true data.seconds=2.5
        train/rain/empty.wav: the file is empty
        train/rain/cut.wav: cut short
        train/rain/text.wav: not a WAV file
        train/rain/still.wav: is silent
        train/rain/lost.wav: No such file
        train/rain/wind: named like another class; move it
        test/wind/twin.wav: the same as in train
        test/rain/tagged.wav: the same as in train
        sounds of several sample rates: 11025 in FOLDER/train/rain/slow.wav, 16000 in
        valid/snow: not a class of the training data
    """,
    "image_segmentation": """
        images: train 4, valid 3, test 4
        values of masks: 0, 255; write 1 for road, since 255 means no class
        median size 128 x 96
        settings that fit: data.channels=3
        train/images/0.png: not an image (image file is truncated)
        train/masks/1.png: is 64 x 96 pixels, its image 128 x 96
        valid/masks/0.png: holds colours or fractions (RGB)
        valid/masks/1.png: not an image (the file is empty)
        valid/images/alone.png: has no mask
        test/images/1.png: the same as in train
        test/images/2.bmp: the same as in train
        test/images/0.png: has the same mask as FOLDER/test/images/0.bmp
        valid/masks/2.png: is a JPEG
        train/images/4.png: no such file
        1 are turned by their EXIF tag; see whether their masks fit
        masks: no pixel is road
    """,
    "object_detection": """
        boxes of an image: 1 (median), at most 1; 1 images have none
        median size 320 x 240
        settings that fit: data.channels=3 data.image_size=320
        annotation 7: the box [300, 1, 90, 9] leaves the image of 320 x 240
        annotation 8: there is no category_id 5
        annotation 9: the box [1, 1, 0, 9] has no size
        annotation 10: the box [0.2, 0.3, 0.5, 0.25] has no value above 1
        annotation 11: the box [1, 1, 9, 9] is given twice
        image 10: 'images/0.png' is image 0, too
        1 are turned by their EXIF tag; see whether their boxes fit
        train/images/none.png: no such file
        train/images/1.png: is 100 x 100, but FOLDER/train/annotations.json says 320 x 240
        train/images/2.png: not an image (the file is empty)
        train/images/extra.png: not in FOLDER/train/annotations.json
        valid/images/1.png: the same image is in train
        valid/images/2.png: the same image is in train
        category 'dog': has no boxes
        test/annotations.json: not JSON
    """,
    "language_modeling": """
        files not read: 1 .pdf
        characters of a document: 3
        settings that fit: data.tokens=bytes
        train/empty.txt: the text is empty
        train/odd.txt, line 2: not UTF-8
        train/nul.txt, line 2: a NUL character
        valid/twin.txt: the same document as FOLDER/train/0.txt
        test: no such folder
    """,
    "custom": """
        class 0               15      15       0
        files not read: 1 .txt
        x 0 to 1.29, y 0 to 29
        valid/a.csv, line 32: should be x,y,class, has 2 fields
        valid/a.csv, line 33: could not convert
        valid/a.csv, line 34: x and y should be finite
        valid/a.csv, line 35: the class should be 0 or 1, got '7'
        valid/a.csv, line 36: the same point is in train/
        valid/a.csv, line 37: the same point is of class 0, too; remove one
        train/more/b.CSV, line 1: should be x,y,class
        test: not read (No such file or directory)
    """,
}
CHECK = """if True:
    import sys
    from pathlib import Path
    folder = Path(sys.argv[1])
    exec(sys.argv[2])
    from my_project.cli import main
    sys.exit(main(["check-data", str(folder), *sys.argv[3:]]))
"""
OPTIONS = {"tabular": ["data.target=price", "data.target_log=false"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_fault_is_named_in_one_run(render: Render, tmp_path: Path, kind: str) -> None:
    words: list[str | Path] = ["-c", CHECK, tmp_path / "data", FAULTS[kind], *OPTIONS.get(kind, [])]
    done = in_project(render(data_kind=kind), *words, ok=False)
    said = done.stdout + done.stderr
    missing = [
        line.strip()
        for line in NAMED[kind].strip().splitlines()
        if line.strip().replace("FOLDER", str(tmp_path / "data")) not in said
    ]
    assert not missing, said
    assert done.returncode == 2
    assert "Traceback" not in said
    assert ".ipynb_checkpoints" not in said  # hidden folders


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_takes_few_lines_and_fits_its_config(render: Render, tmp_path: Path, kind: str) -> None:
    room = "{{" + kind + "}}"
    with zipfile.ZipFile(ROOT / "template" / "project" / room / "data" / "sample.zip") as file:
        file.extractall(tmp_path)
    done = in_project(render(data_kind=kind), "-m", "my_project", "check-data", tmp_path)
    assert len(done.stdout.splitlines()) <= 15
    assert "set data." not in done.stdout.replace("; data.text=", "")
    assert "settings that fit" not in done.stdout


def test_the_settings_that_fit_are_written_once_in_each_format(render: Render, tmp_path: Path) -> None:
    code = (
        IMAGES
        + """
    import sys
    from pathlib import Path
    from my_project import cli
    from my_project.cli import main
    from my_project.config import load
    from my_project.options import Config
    folder = Path(sys.argv[1])
    for split in ("train", "valid", "test"):
        for name in ("cat", "dog"):
            for index in range(10):
                image(folder / "data" / split / name / f"{index}.png", 128, 128, 3)
    for suffix in ("yaml", "json", "ini", "py"):
        path = folder / f"own.{suffix}"
        words = ["check-data", str(folder / "data"), "data.batch_size=8", "--write", str(path)]
        found = main(words), main(words)
        data = load(Config, ["configs/train.yaml", path]).data
        print(*found, data.folder, data.batch_size, data.channels, data.image_size, file=sys.stderr)
        assert load(Config, ["configs/train.yaml", path]).train == load(Config, ["configs/train.yaml"]).train
    main(["check-data", str(folder / "data"), "--write", "own.toml"])
    cli.ROOT = folder  # a folder in the project is written as in train.yaml, for other machines
    main(["check-data", str(folder / "data"), "--write", str(folder / "inside.yaml")])
    print((folder / "inside.yaml").read_text().split()[:3], file=sys.stderr)
    """
    )
    done = in_project(render(), "-c", code, tmp_path)
    taken = "error: --write {}: name a new file, of .yaml, .json, .ini, .py"
    assert done.stderr.splitlines() == [
        line
        for path in (tmp_path / f"own.{suffix}" for suffix in ("yaml", "json", "ini", "py"))
        for line in (taken.format(path), f"0 2 {tmp_path / 'data'} 8 3 128")
    ] + [taken.format("own.toml"), "['data:', 'folder:', 'data']"]
    command = f"scripts/train.sh configs/train.yaml {tmp_path / 'own.yaml'}"
    assert f"written; train with it: {command}\n" in done.stdout


def test_a_check_of_an_earlier_release_still_works(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from my_project.cli import main
        from my_project.data import utils
        utils.check_folder = lambda folder: ("a table", [f"{folder}/{i}.png: is {i}; fix it" for i in range(12)])
        main(["check-data", sys.argv[1]])
    """
    done = in_project(render(), "-c", code, tmp_path)
    assert done.stdout == "a table\n"
    assert done.stderr.splitlines()[-2:] == [f"error: {tmp_path}/9.png: is 9; fix it", "error: 2 more: is …; fix it"]


def test_a_table_of_many_classes_is_short(render: Render) -> None:
    code = """if True:
        from collections import Counter
        from my_project.data.splits import table
        counts = Counter({f"class {i}": 100 - i for i in range(99)})
        print(table({"train": counts, "valid": counts, "test": counts}, "images"))
    """
    lines = in_project(render(), "-c", code).stdout.splitlines()
    assert len(lines) == 13
    assert lines[10].split() == ["(90", "more)"]
    assert lines[11].split() == ["all", *3 * [str(sum(range(2, 101)))]]
    few = ", ".join(f"class {100 - count} {count}" for count in range(2, 7))
    assert lines[12] == f"few images to train on: {few} and 3 more; at most 100"
