"""Bad configs, data and checkpoints: one clear message, exit status 2, and no trace of the attempt.

Bad answers are in test_answers.py.
"""

import contextlib
import csv
import importlib
import io
import itertools
import json
import os
import pickle
import random
import shutil
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Render, in_project
from PIL import Image

pytestmark = pytest.mark.slow

Main = Callable[[list[str]], int]
Refuse = Callable[..., None]
Damage = Callable[[Path], object]

QUICK = [
    "data.image_size=12",
    "data.batch_size=8",
    "data.transforms={}",
    "model.args={width: 4}",
    "train.epochs=1",
    "run.device=cpu",
    "run.name=a-run",
]


def make_data(folder: Path) -> None:
    """Write images of two classes: the left half or the right half is lit."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 9, "valid": 3, "test": 3}.items():
        for half, name in enumerate(["left", "right"]):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, size=(12, 12), dtype=np.uint8)
                pixels[:, 6 * half : 6 * half + 6] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")


@pytest.fixture(scope="module")
def home(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a small data set and the run `first`, to be left as it is."""
    project = tmp_path_factory.mktemp("home") / "project"
    shutil.copytree(render(), project)
    (project / "data" / "sample.zip").unlink()
    make_data(project / "data")
    train = ["-m", "my_project", "train", "configs/train.yaml"]
    in_project(project, *train, *QUICK, "run.name=first")
    (project / "images" / "loader" / "train.png").unlink()  # a new one would show that a batch was drawn
    return project


@pytest.fixture(scope="module")
def main(home: Path) -> Iterator[Main]:
    """The project's command line, in this process: fifty processes would import torch for minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(home / "src")
        yield importlib.import_module("my_project.__main__").main
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_project"]:
            del sys.modules[name]


def everything(folder: Path) -> dict[str, bytes | None]:
    """All files with their content, and all folders."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refuse(home: Path, main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Refuse:
    """Run a command in `tmp_path` that must fail with this message, and change no file anywhere."""

    def check(message: str, *arguments: str) -> None:
        monkeypatch.chdir(tmp_path)
        before = everything(home), everything(tmp_path)
        try:
            status: object = main([*arguments])
        except SystemExit as exit:  # from argparse
            status = exit.code
        said = capfd.readouterr().err
        assert message in said
        assert status == 2
        assert said.count("error: ") == 1
        assert "Traceback" not in said
        assert (everything(home), everything(tmp_path)) == before

    return check


# --- configs ---

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"  # each alias holds eight of the one before: two million values
for _old, _name in itertools.pairwise("abcdefg"):
    BOMB += f"{_name}: &{_name} [{', '.join(8 * [f'*{_old}'])}]\n"

CONFIGS: list[tuple[str, str | bytes, str]] = [
    ("a.yaml", "model: {name: cnn\n", "a.yaml, line 2: expected ',' or '}'"),
    ("a.yaml", "model:\n\tname: cnn", "a.yaml, line 2: found character '\\t'"),
    ("a.yaml", "model: *other", "a.yaml, line 1: found undefined alias 'other'"),
    ("a.yaml", "train: {epochs: 1}\ntrain: {epochs: 2}", "a.yaml, line 2: duplicate key 'train'"),
    ("a.yaml", "train: {epochs: 1, epochs: 2}", "a.yaml, line 1: duplicate key 'epochs'"),
    ("a.yaml", "x: !!python/object/apply:os.getcwd []", "a.yaml, line 1: could not determine a constructor"),
    ("a.yaml", "model: {args: {a: !!timestamp x}}", "a.yaml: a value does not fit its tag; remove the tag (!!)"),
    ("a.yaml", "model: {args: {a: !!bool x}}", "a.yaml: a value does not fit its tag; remove the tag (!!)"),
    ("a.yaml", "just text", "a.yaml: should hold sections (model, data, ...), not a single value"),
    ("a.yaml", "- model\n- data", "a.yaml: should hold sections (model, data, ...), not a single value"),
    ("a.yaml", "3: {epochs: 1}", "a.yaml: 3: Keys should be strings"),
    ("a.yaml", b"run: {name: caf\xe9}", "a.yaml: not UTF-8 text: save it as UTF-8"),
    ("a.yaml", "model: " + "[" * 5000, "a.yaml: is nested too deeply"),
    ("a.yaml", "trian: {epochs: 3}", "a.yaml: trian: unknown key; did you mean 'train'?"),
    ("a.yaml", "train: {epohcs: 3}", "a.yaml: train.epohcs: unknown key; did you mean 'epochs'?"),
    ("a.yaml", "train: {lr: 3}", "a.yaml: train.lr: unknown key; did you mean optimizer.lr?"),
    ("a.yaml", "optimizer: {momentum: 0.9}", "put arguments of optimizer.name under optimizer.args"),
    ("a.yaml", "train: {epochs: 1.5}", "a.yaml: train.epochs: should be a valid integer, got 1.5"),
    ("a.yaml", "train: {epochs: '3'}", "a.yaml: train.epochs: should be a valid integer, got '3'"),
    ("a.yaml", "train: {epochs: true}", "a.yaml: train.epochs: should be a valid integer, got True"),
    ("a.yaml", "train: {epochs: 0}", "a.yaml: train.epochs: should be greater than or equal to 1, got 0"),
    ("a.yaml", "train: {grad_clip: -1}", "a.yaml: train.grad_clip: should be greater than 0, got -1"),
    ("a.yaml", "optimizer: {lr: .nan}", "a.yaml: optimizer.lr: should be a finite number, got nan"),
    ("a.yaml", "optimizer: {lr: .inf}", "a.yaml: optimizer.lr: should be a finite number, got inf"),
    ("a.yaml", "optimizer: {args: {eps: .nan}}", "a.yaml: optimizer.args.eps: should be a finite number, got nan"),
    ("a.yaml", "data: {channels: no}", "a.yaml: data.channels: should be 1 or 3, got 'no'"),
    ("a.yaml", "train: [1, 2]", "a.yaml: train: should be a section with the keys epochs, "),
    ("a.yaml", "train:\n", "a.yaml: train: should be a section with the keys epochs, "),
    ("a.yaml", "data: {transforms: [random_flip]}", "a.yaml: data.transforms: should be a valid dictionary"),
    ("a.yaml", "scheduler: {every: day}", "a.yaml: scheduler.every: should be 'step' or 'epoch', got 'day'"),
    ("a.yaml", "run: {device: tpu}", "run.device: should be auto, cpu, cuda, cuda:1 or mps, got 'tpu'"),
    ("a.json", '{"train": {"epochs": 3},}', "a.json, line 1: Expecting property name enclosed in double quotes"),
    ("a.json", '// three\n{"train": {}}', "a.json, line 1: Expecting value"),
    ("a.json", '{"train": {"epochs": 1, "epochs": 2}}', "a.json: duplicate key 'epochs'"),
    ("a.json", '{"optimizer": {"lr": NaN}}', "a.json: optimizer.lr: should be a finite number, got nan"),
    ("a.json", '{"optimizer": {"lr": 1e999}}', "a.json: optimizer.lr: should be a finite number, got inf"),
    ("a.json", "[]", "a.json: should hold sections (model, data, ...), not a single value"),
    ("a.json", "[" * 100_000, "a.json: is nested too deeply"),
    ("a.ini", "epochs = 3", "a.ini: File contains no section headers."),
    ("a.ini", "[train]\nepochs", "[line  2]: 'epochs'"),
    ("a.ini", "[train]\nepochs = 1\n[train]\nepochs = 2", "[line  3]: section 'train' already exists"),
    ("a.ini", "[train]\nepochs = 1\nepochs = 2", "[line  3]: option 'epochs' in section 'train' already exists"),
    (
        "a.ini",
        "[model]\nargs = {}\n[model.args]\nwidth = 4",
        "a.ini: duplicate key: [model.args] is also a key of [model]",
    ),
    ("a.ini", "[train]\nepochs = no", "a.ini: train.epochs: should be a valid integer, got 'no'"),
    ("a.ini", "[train]\nepochs = [1", "a.ini: train.epochs: cannot be read; put text between double quotes"),
    ("a.ini", "[optimizer]\nlr = nan", "a.ini: optimizer.lr: should be a valid number, got 'nan'"),
    ("a.ini", "[train.epochs]\na = 3", "a.ini: train.epochs: should be a valid integer, got {'a': 3}"),
    ("a.py", "train = dict(\n", "a.py, line 1: SyntaxError: '(' was never closed"),
    ("a.py", "epochs = 3\nraise KeyError('gone')", "a.py, line 2: KeyError: 'gone'"),
    ("a.py", "import nothing_of_this_name", "a.py, line 1: ModuleNotFoundError: No module named"),
    ("a.py", "\0", "a.py, line 1: "),
    ("a.py", "import sys\nsys.exit(0)", "a.py, line 2: SystemExit: 0"),
    ("a.py", "loss = dict(name=open)", "a.py: loss.name: should be a valid string, got <built-in function open>"),
    ("a.py", "loss = dict(args=dict(weight={1, 2}))", "a.py: loss.args.weight: should be a number, text, list or map"),
    ("a.py", "loss = object()", "a.py: loss: should be a section with the keys name, args, got <object"),
    ("a.py", "lr = 0.1", "a.py: lr: unknown key; did you mean optimizer.lr?"),
    ("a.py", "optimizer = dict(lr=float('nan'))", "a.py: optimizer.lr: should be a finite number, got nan"),
    ("a.yaml", "model: &a {args: *a}", "a.yaml: is nested too deeply, or contains itself"),
    ("a.yaml", BOMB, "a.yaml: has more than 100,000 values"),
    ("a.yaml", "run: {name: " + "x" * 300_000 + "}", "a.yaml: has more than 250,000 bytes; is it a config?"),
    ("a.json", '{"run": {"name": "' + "x" * 300_000 + '"}}', "a.json: has more than 250,000 bytes"),
    ("a.ini", "[run]\nname = " + "x" * 300_000, "a.ini: has more than 250,000 bytes"),
    ("a.py", f"run = dict(name={'x' * 300_000!r})", "a.py: has more than 250,000 bytes"),
    ("a.yaml", "train: {epochs: " + "9" * 400 + "}", "a.yaml: an integer is too large: it has more than 64 bits"),
    ("a.yaml", "train: {epochs: " + "9" * 5000 + "}", "a.yaml: Exceeds the limit (4300 digits)"),
    ("a.json", '{"optimizer": {"lr": ' + "9" * 400 + "}}", "a.json: an integer is too large"),
    ("a.ini", "[train]\nepochs = " + "9" * 400, "a.ini: train.epochs: an integer is too large"),
    ("a.py", "train = dict(epochs=10**400)", "a.py: an integer is too large"),
    ("a.py", "model = {}\nmodel['args'] = model", "a.py: is nested too deeply"),
    ("a.ini", "[model]\nargs = " + "[" * 5000, "a.ini: model.args: cannot be read"),
    ("a.ini", "[model" + ".a" * 5000 + "]\nb = 1", "a.ini: is nested too deeply"),
    ("a.yaml", "train: {epochs: " + "x" * 9000 + "}", "a.yaml: train.epochs: should be a valid integer, got 'xxx"),
    ("a.toml", "[train]\nepochs = 3", "a.toml: should be a .yaml, .json, .ini or .py file"),
    ("config", "train: {epochs: 3}", "config: should be a .yaml, .json, .ini or .py file"),
]


@pytest.mark.parametrize(("name", "text", "message"), CONFIGS, ids=lambda value: ascii(value)[:40])
def test_a_bad_config_is_refused(refuse: Refuse, tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse(message, "train", "configs/train.yaml", name)


NAMES = "should be a short file name: no slash, colon, leading dot or 'last'"
SETTINGS = [
    ("missing.yaml", "missing.yaml: No such file or directory; give the path of a config file"),
    ("configs", "configs: should be a .yaml, .json, .ini or .py file"),
    ("debug", "or section.key=value; did you mean "),
    ("configs/debg.yaml", "configs/debug.yaml?"),
    ("train.epochs=" + "9" * 400, "command line: train.epochs: an integer is too large"),
    ("model.args.a=" + "[" * 5000, "command line: model.args: cannot be read"),
    ("model.args={a: !!bool x}", "command line: model.args: cannot be read; put text between double quotes"),
    ("model" + ".a" * 5000 + "=3", "an override is section.key=value"),
    ("model.args={a: &a {b: *a}}", "command line: model.args: is nested too deeply, or contains itself"),
    ("train.epochs", "train.epochs: should be a .yaml, .json, .ini or .py file, or section.key=value"),
    ("=3", "'=3': an override is section.key=value"),
    ("epochs=3", "'epochs=3': an override is section.key=value; did you mean train.epochs=3?"),
    ("train.=3", "'train.=3': an override is section.key=value"),
    ("trian.epochs=3", "command line: trian: unknown key; did you mean 'train'?"),
    ("train.epochs=", "command line: train.epochs: should be a valid integer, got None"),
    ("train.epochs.all=3", "command line: train.epochs: should be a valid integer, got {'all': 3}"),
    ("model.args.width=[4", "command line: model.args: cannot be read; put text between double quotes"),
    ("--epochs=3", "unrecognized arguments: --epochs=3; did you mean train.epochs=3?"),
    ("--optimizer.lr=3", "unrecognized arguments: --optimizer.lr=3; did you mean optimizer.lr=3?"),
    ("--batch-size=8", "unrecognized arguments: --batch-size=8; did you mean data.batch_size=8?"),
    ("--name=cnn", "unrecognized arguments: --name=cnn\n"),
    ("run.device=gpu", "command line: run.device: should be auto, cpu, cuda, cuda:1 or mps, got 'gpu'"),
    ("checkpoint.name=../../escaped", f"command line: checkpoint.name: {NAMES}"),
    ("checkpoint.name=/tmp/escaped", NAMES),
    ("checkpoint.name=..", NAMES),
    ("checkpoint.name=.hidden", NAMES),
    ("checkpoint.name=C:escaped", NAMES),
    ("checkpoint.name=last", NAMES),
    ('checkpoint.name="two\\nlines"', NAMES),
    ('checkpoint.name="\\u0000"', NAMES),
    ("checkpoint.name=" + "x" * 300, NAMES),
    ("checkpoint.name={acc}", "unknown field {acc}; there are: model, epoch, step, monitor, value"),
    ("checkpoint.name={model.__class__}", "unknown field {model.__class__}"),
    ("checkpoint.name={epoch", "command line: checkpoint.name: expected '}' before end of string"),
    ("checkpoint.name={value:d}", "command line: checkpoint.name: Unknown format code 'd'"),
    ("checkpoint.name={step:c}", "checkpoint.name: {step}: use a format such as 03d or .4f, got 'c'"),
    ("checkpoint.name={value:>99999999999}", "{value}: use a format such as 03d or .4f, got '>99999999999'"),
    ("checkpoint.name={value:999}", "{value}: use a format such as"),
    ("checkpoint.name={step:{step}}", "{step}: use a format such as"),
    ("checkpoint.name={model!r}", "{model}: use a format such as"),
    ("run.name={seed:c}", "run.name: {seed}: use a format such as"),
    ("run.name={date:/>9}", "{date}: use a format such as"),
    ("run.name=../escaped", f"command line: run.name: {NAMES}"),
    ("run.name={epoch}", "command line: run.name: unknown field {epoch}; there are: model, date, seed"),
    ("run.name=first", "first: already exists; set another run.name, or --resume it"),
    ("run.device=cuda:99", "run.device: there is no cuda:99 on this machine; try auto or cpu"),
    ("run.tracker=papre", "run.tracker: 'papre' cannot be used"),
    ("run.tracker=loop", "run.tracker: 'loop' cannot be used"),
    ("checkpoint.monitor=accuracy", "checkpoint.monitor: no metric 'accuracy'; there are: loss, acc"),
    ("model.name=resnt", "model: unknown name 'resnt'; did you mean 'resnet'?"),
    ("model.name=../cnn", "model: unknown name '../cnn'"),
    ("model.args.widht=4", "model: cnn takes no argument 'widht'; did you mean 'width'?"),
    ("model.args.dropout=7", "model: dropout probability has to be between 0 and 1, but got 7"),
    ("loss.name=CrossEntropy", "loss: unknown name 'CrossEntropy'; did you mean 'CrossEntropyLoss'?"),
    ("loss.args={smoothing: 3}", "loss: CrossEntropyLoss takes no argument 'smoothing'; did you mean"),
    ("optimizer.name=adamw", "optimizer: unknown name 'adamw'; did you mean 'AdamW'?"),
    ("optimizer.args={betaz: 3}", "optimizer: AdamW takes no argument 'betaz'; did you mean 'betas'?"),
    ("optimizer.args={lr: 3}", "optimizer.args.lr: is set by optimizer.lr or the data; remove it"),
    ("optimizer.args={betas: [2, 3]}", "optimizer: Invalid beta parameter at index 0: 2"),
    ("scheduler.name=cosine", "scheduler: unknown name 'cosine'; did you mean 'warmup_cosine'?"),
    ("scheduler.args={warmup: 3}", "scheduler: warmup should be a share from 0 to 1, got 3"),
    ("data.transforms={random_flop: {}}", "data.transforms: unknown name 'random_flop'; did you mean"),
    ("data.transforms={random_flip: {q: 1}}", "data.transforms: random_flip takes no argument 'q'"),
]


@pytest.mark.parametrize(("setting", "message"), SETTINGS, ids=lambda value: ascii(value)[:40])
def test_a_bad_setting_is_refused(refuse: Refuse, setting: str, message: str) -> None:
    refuse(message, "train", "configs/train.yaml", *QUICK, setting)


COMMANDS = [
    ((), "the following arguments are required: COMMAND"),
    (("tain",), "invalid choice: 'tain'"),
    (("config", "configs/train.yaml", "--to", "toml"), "argument --to: invalid choice: 'toml'"),
    (("test", "--split", "tset"), "argument --split: invalid choice: 'tset'"),
    (("test", "first", "second"), "first second: 2 checkpoints; name one"),
    (("train", "configs/train.yaml", "--epochs", "5"), "; did you mean train.epochs=5?"),
    (("test", "configs/train.yaml"), "train.yaml: a config, not a checkpoint; give a run or a .pt file"),
    (("train", "--resume", "configs/train.yaml"), "train.yaml: a config, not a checkpoint"),
    (("run", "x.png", "--checkpoint", "configs/train.yaml"), "train.yaml: a config, not a checkpoint"),
    (("run", "x.png", "--epochs=3"), "unrecognized arguments: --epochs=3\n"),
    (("run",), "the following arguments are required: INPUT"),
    (("check-data", "nowhere"), "nowhere/train: no such folder; data/README.md shows what belongs there"),
    (("split-data", "nowhere"), "data/train: already exists; move it away first"),
    (("split-data", "nowhere", "new"), "nowhere: no such folder; data/README.md shows what belongs there"),
    (("split-data", "nowhere", "new", "--valid", "2"), "should be above 0, and below 1 together"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_a_bad_command_is_refused(refuse: Refuse, arguments: tuple[str, ...], message: str) -> None:
    refuse(message, *arguments)


# --- data ---


def write(name: str, content: bytes) -> Damage:
    return lambda data: (data / name).write_bytes(content)


def remove(name: str, *, leave: bool = False) -> Damage:
    """Remove a folder, or only its content."""

    def damage(data: Path) -> None:
        shutil.rmtree(data / name)
        if leave:
            (data / name).mkdir()

    return damage


def archive(*names: str, method: int = zipfile.ZIP_STORED, flip: int | None = None) -> Damage:
    """Leave only a sample.zip with these files in the data folder; `flip` is the index of a byte to change."""

    def damage(data: Path) -> None:
        shutil.rmtree(data)
        data.mkdir()
        with zipfile.ZipFile(data / "sample.zip", "w", method) as file:
            for name in names:
                file.writestr(name, b"content" * 99)
        content = bytearray((data / "sample.zip").read_bytes())
        if flip is not None:
            content[flip] ^= 255
        (data / "sample.zip").write_bytes(content)

    return damage


def only_archive(content: bytes) -> Damage:
    def damage(data: Path) -> None:
        remove("", leave=True)(data)
        (data / "sample.zip").write_bytes(content)

    return damage


def truncate(name: str) -> Damage:
    return lambda data: (data / name).write_bytes((data / name).read_bytes()[:70])


def flat(data: Path) -> None:
    for path in [*(data / "train").glob("*/*.png")]:
        path.rename(data / "train" / f"{path.parent.name}-{path.name}")
    (data / "train" / "left").rmdir()
    (data / "train" / "right").rmdir()


def a_file(data: Path) -> None:
    shutil.rmtree(data)
    data.write_text("data")


UNSAFE = "data/sample.zip: not unpacked: unsafe path"
NO_IMAGES = "holds no files (.png, .jpg"
DATA: dict[str, tuple[Damage, str]] = {
    "no folder": (remove(""), "data: holds neither train/ nor sample.zip; see data/README.md"),
    "empty folder": (remove("", leave=True), "data: holds neither train/ nor sample.zip; see data/README.md"),
    "a file instead": (a_file, "data: holds neither train/ nor sample.zip; see data/README.md"),
    "archive empty": (only_archive(b""), "data/sample.zip: not unpacked: File is not a zip file"),
    "archive of text": (only_archive(b"text" * 99), "data/sample.zip: not unpacked: File is not a zip file"),
    "archive cut off": (only_archive(b"PK\x03\x04" * 99), "data/sample.zip: not unpacked: File is not a zip file"),
    "archive damaged": (archive("train/a/1.png", flip=60), "not unpacked: Bad CRC-32 for file 'train/a/1.png'"),
    "archive damaged, deflate": (archive("train/a/1.png", method=zipfile.ZIP_DEFLATED, flip=43), "not unpacked: Error"),
    "archive damaged, lzma": (archive("train/a/1.png", method=zipfile.ZIP_LZMA, flip=60), "not unpacked: Corrupt"),
    "archive goes up": (archive("train/a/1.png", "../escaped"), f"{UNSAFE} '../escaped'"),
    "archive goes up later": (archive("train/../../escaped"), f"{UNSAFE} 'train/../../escaped'"),
    "archive goes to the root": (archive("/tmp/escaped"), f"{UNSAFE} '/tmp/escaped'"),
    "archive goes to a drive": (archive("C:escaped"), f"{UNSAFE} 'C:escaped'"),
    "archive goes up with backslashes": (archive("train\\..\\..\\escaped"), UNSAFE),
    "archive without train": (archive("a/1.png"), "data/sample.zip: not unpacked: it has no train/"),
    "no classes": (remove("train", leave=True), "data/train: holds no class folders; put files into"),
    "no classes but images": (flat, "data/train: holds no class folders; put files into"),
    "empty class": (remove("train/right", leave=True), f"data/train/right: {NO_IMAGES}"),
    "empty class in valid": (remove("valid/left", leave=True), f"data/valid/left: {NO_IMAGES}"),
    "unknown class in valid": (remove("train/right"), "data/valid/right: not a class of the training data (left)"),
    "no valid": (remove("valid"), "data/valid: no such folder; data/README.md shows what belongs there"),
    "empty valid": (remove("valid", leave=True), "data/valid: holds no class folders; put files into"),
    "empty image": (write("train/left/1.png", b""), "data/train/left/1.png: not an image (the file is empty)"),
    "text as image": (write("train/left/1.png", b"text"), "data/train/left/1.png: not an image (cannot identify"),
    "page as image": (write("train/left/1.jpg", b"<html>"), "data/train/left/1.jpg: not an image (cannot identify"),
    "cut-off image": (truncate("train/left/1.png"), "data/train/left/1.png: not an image ("),
}
# These are read after some training, whose result is saved.
VALID: dict[str, tuple[Damage, str]] = {
    "empty image in valid": (write("valid/left/1.png", b""), "data/valid/left/1.png: not an image (the file is empty)"),
    "cut-off image in valid": (truncate("valid/right/2.png"), "data/valid/right/2.png: not an image ("),
}


def train_on(tmp_path: Path) -> list[str]:
    """Train on the data in `tmp_path`. The picture of the first batch is drawn even if a later image is bad."""
    pictures = tmp_path.with_name(tmp_path.name + "-pictures")
    folders = [f"data.folder={tmp_path / 'data'}", f"run.checkpoints={tmp_path / 'runs'}", f"run.images={pictures}"]
    return ["train", "configs/train.yaml", *QUICK, *folders, "run.name=a-run", "data.batch_size=64"]


@pytest.mark.parametrize(("damage", "message"), DATA.values(), ids=DATA)
def test_bad_data_are_refused(refuse: Refuse, tmp_path: Path, damage: Damage, message: str) -> None:
    make_data(tmp_path / "data")
    (tmp_path / "runs").mkdir()
    damage(tmp_path / "data")
    refuse(message, *train_on(tmp_path))


TESTED: dict[str, tuple[Damage, str]] = {
    "no test split": (remove("test"), "data/test: no such folder; data/README.md shows what belongs there"),
    "unknown class": (lambda data: (data / "test/left").rename(data / "test/up"), "data/test/up: not a class of"),
    "empty image": (write("test/left/1.png", b""), "data/test/left/1.png: not an image (the file is empty)"),
}


@pytest.mark.parametrize(("damage", "message"), TESTED.values(), ids=TESTED)
def test_bad_data_to_test_on_are_refused(refuse: Refuse, tmp_path: Path, damage: Damage, message: str) -> None:
    make_data(tmp_path / "data")
    damage(tmp_path / "data")
    refuse(message, "test", "first", f"data.folder={tmp_path / 'data'}")


INPUTS: dict[str, tuple[str, bytes | None, str]] = {
    "missing": ("gone.png", None, "gone.png: no such file"),
    "missing, with an equals sign": ("a=b.png", None, "a=b.png: no such file"),
    "bytes that are not UTF-8": ("a\udcff.png", b"text", "not an image (cannot identify image file)"),
    "quotes": ("a'\"b.png", b"text", "b.png: not an image (cannot identify image file)"),
    "text": ("a.png", b"text", "a.png: not an image (cannot identify image file)"),
    "empty": ("a.png", b"", "a.png: not an image (the file is empty)"),
    "a folder without images": (".", b"", ".: holds no images"),
}


@pytest.mark.parametrize(("name", "content", "message"), INPUTS.values(), ids=INPUTS)
def test_bad_input_to_run_on_is_refused(
    refuse: Refuse, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None and name != ".":
        (tmp_path / name).write_bytes(content)
    refuse(message, "run", name, "--json")


def test_run_skips_what_it_cannot_read_and_predicts_the_rest(
    home: Path, main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "data/test", tmp_path / "inputs")
    (tmp_path / "inputs/left/00.png").write_bytes(b"text")  # in a folder, between good files
    inputs = ["gone.png", "inputs/left", "gone-too.png", "inputs/right"]
    arguments = ["run", *inputs, "--checkpoint", "first"]
    assert main([*arguments, "--jsonl"]) == 3
    out, err = capfd.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    read = [f"inputs/{half}/{number}.png" for half in ("left", "right") for number in range(3)]
    assert [each["file"] for each in found] == read
    bad = [line for line in err.splitlines() if line.startswith("error: ")]
    names = "gone.png: no such file", "left/00.png: not an image", "gone-too.png: no such file"
    assert all(name in line for name, line in zip(names, bad, strict=False))
    assert bad[3:] == ["error: failed inputs: 3; predictions made: 6"]
    assert main([*arguments, "--json"]) == 3
    assert json.loads(capfd.readouterr().out) == found
    assert main(["run", inputs[1], *arguments[1:]]) == 3
    assert len(capfd.readouterr().out.splitlines()) == 9


def test_run_prints_each_prediction_before_it_reads_the_next(
    home: Path, main: Main, tmp_path: Path, capfd: Any
) -> None:
    command = importlib.import_module("my_project.cli")

    class Watched:
        """A task that reads its second input after the first prediction is printed."""

        def predict(self, model: object, inputs: Iterator[str]) -> Iterator[dict[str, Any]]:
            for name in inputs:
                said.append(capfd.readouterr().out)
                yield {"file": name}

        def sentence(self, prediction: dict[str, Any]) -> str:
            return f"{prediction['file']}!"

    for form, first in ((False, "a!\n"), ("lines", '{"file": "a"}\n')):
        said = list[str]()
        assert command.print_predictions(Watched(), None, Namespace(inputs=["a", "b"], json=form, debug=False)) == 0
        assert said == ["", first]
        capfd.readouterr()


def test_run_continues_with_a_task_that_ends_at_an_error(home: Path, main: Main, capfd: Any) -> None:
    command, errors = importlib.import_module("my_project.cli"), importlib.import_module("my_project.errors")

    class Old:
        """A task whose `predict` is a generator, as in earlier releases."""

        def predict(self, model: object, inputs: Iterator[str]) -> Iterator[dict[str, Any]]:
            for name in inputs:
                if name == "absent":
                    Path(name).read_text()
                if name.startswith("bad"):
                    raise errors.UserError(f"{name}: line 1\n{name}: line 2")
                yield {"file": name}

    arguments = Namespace(inputs=["a", "bad1", "b", "bad2", "bad3", "c"], json="lines", debug=False)
    assert command.print_predictions(Old(), None, arguments) == 3
    out, err = capfd.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["a", "b", "c"]
    lines = [f"error: bad{number}: line {line}" for number in (1, 2, 3) for line in (1, 2)]
    assert err.splitlines() == [*lines, "error: failed inputs: 3; predictions made: 3"]
    arguments.inputs = ["bad1", "absent"]
    assert command.print_predictions(Old(), None, arguments) == 2
    assert capfd.readouterr().err.endswith("error: [Errno 2] No such file or directory: 'absent'\n")
    arguments.debug = True
    with pytest.raises(errors.UserError, match="bad1"):
        command.print_predictions(Old(), None, arguments)


def test_run_ends_when_nobody_reads_its_output(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    command = importlib.import_module("my_project.cli")

    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    class Echo:
        def predict(self, model: object, inputs: Iterator[str]) -> Iterator[dict[str, Any]]:
            return (taken.append(name) or {} for name in inputs)  # type: ignore[func-returns-value]

    taken = list[str]()
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        command.print_predictions(Echo(), None, Namespace(inputs=["a", "b"], json="lines", debug=False))
    assert taken == ["a"]


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"]])
def test_run_names_its_checkpoint_on_standard_error(home: Path, main: Main, capfd: Any, form: list[str]) -> None:
    (image,) = (home / "data/test/left").glob("0.png")
    assert main(["run", str(image), "--checkpoint", "first", *form]) == 0
    out, err = capfd.readouterr()
    (best,) = (home / "checkpoints/first").glob("cnn-*.pt")
    assert err == f"checkpoint: {best}\n"
    assert "checkpoint" not in out


def test_a_file_name_with_a_line_break_is_read(home: Path, main: Main, tmp_path: Path) -> None:
    (image,) = (home / "data/test/left").glob("0.png")
    for name in ("a\nb.png", "-dash.png", "a=b.png", "a'\"b.png", "a\udcff.png"):
        shutil.copy(image, tmp_path / name)
        assert main(["run", str(tmp_path / name), "--json"]) == 0, name


# --- checkpoints ---


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def only_last(run: Path) -> Path:
    """The run without the checkpoints that would replace a damaged last one."""
    best_gone(run)
    return run


def last(content: bytes) -> Damage:
    return lambda run: (only_last(run) / "last.pt").write_bytes(content)


def saved(content: object) -> Damage:
    return lambda run: torch.save(content, only_last(run) / "last.pt")


def cut_off(run: Path) -> None:
    whole = (only_last(run) / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(whole[: len(whole) // 2])


def flipped(run: Path) -> None:
    content = bytearray((only_last(run) / "last.pt").read_bytes())
    content[len(content) // 2] ^= 16
    (run / "last.pt").write_bytes(content)


def best_gone(run: Path) -> None:
    (best,) = run.glob("cnn-*.pt")
    best.unlink()


def other_weights(run: Path) -> None:
    (best,) = run.glob("cnn-*.pt")
    torch.save(torch.load(best, weights_only=True) | {"model": {"layer": torch.zeros(3)}}, best)


def nothing(run: Path) -> None:
    pass


NOT_LOADED = "first/last.pt: not loaded: it is damaged, or holds more than tensors and plain values"
FOREIGN = "first/last.pt: not a checkpoint of this project (it lacks "
CHECKPOINTS: dict[str, tuple[Damage, tuple[str, ...], str]] = {
    "none at all": (shutil.rmtree, ("test",), "has no run with a last.pt; train one first"),
    "no last.pt": (lambda run: (run / "last.pt").unlink(), ("test",), "has no run with a last.pt"),
    "an unknown run": (nothing, ("test", "second"), "second: no such checkpoint; name a run in"),
    "a file that no run has": (nothing, ("test", "first/best.pt"), "project/first/best.pt: no such checkpoint"),
    "no checkpoint but an image": (nothing, ("test", "images/sample/two.png"), "two.png: n"),
    "empty": (last(b""), ("test",), NOT_LOADED),
    "text": (last(b"text"), ("test",), NOT_LOADED),
    "cut off": (cut_off, ("test",), NOT_LOADED),
    "a flipped bit": (flipped, ("test",), NOT_LOADED),
    "a flipped bit, for run": (flipped, ("run", "images/sample"), NOT_LOADED),
    "resume with a flipped bit": (flipped, ("train", "--resume", "train.epochs=2"), NOT_LOADED),
    "foreign": (saved({"state_dict": {}}), ("test",), FOREIGN),
    "a list": (saved([1, 2]), ("test",), FOREIGN),
    "best file gone": (best_gone, ("test",), "no such checkpoint; name a run in"),
    "other weights": (other_weights, ("test",), "does not fit cnn: "),
    "another size": (nothing, ("test", "model.args={width: 8}"), "does not fit cnn: size mismatch for "),
    "another model": (nothing, ("test", "model.name=resnet"), "does not fit resnet: "),
    "empty, for run": (last(b""), ("run", "images/sample"), NOT_LOADED),
    "unknown, for run": (nothing, ("run", "images/sample", "--checkpoint", "second"), "second: no such checkpoint"),
    "nothing to resume": (shutil.rmtree, ("train", "--resume"), "has no run with a last.pt; train one first"),
    "resume an unknown run": (nothing, ("train", "--resume", "second"), "second/last.pt: no such checkpoint"),
    "resume an empty file": (last(b""), ("train", "--resume"), NOT_LOADED),
    "resume a cut-off file": (cut_off, ("train", "--resume", "first"), NOT_LOADED),
    "resume what is complete": (nothing, ("train", "--resume"), "first: all 1 epochs are done; set a larger"),
    "resume with another size": (
        nothing,
        ("train", "--resume", "first", "train.epochs=2", "model.args={width: 8}"),
        "the run to resume does not fit: size mismatch for ",
    ),
    "resume with another model": (
        nothing,
        ("train", "--resume", "first", "train.epochs=2", "model.name=resnet"),
        "model: the run to resume has {'name': 'cnn', ",
    ),
    "resume with another optimizer": (
        nothing,
        ("train", "--resume", "first", "train.epochs=2", "optimizer.name=SGD"),
        "optimizer: the run to resume has {'name': 'AdamW', ",
    ),
    "resume with another learning rate": (
        nothing,
        ("train", "--resume", "first", "train.epochs=2", "optimizer.lr=0.5"),
        "optimizer: the run to resume has {'name': 'AdamW', ",
    ),
    "resume with another scheduler": (
        nothing,
        ("train", "--resume", "first", "train.epochs=2", "scheduler.name=StepLR", "scheduler.args={step_size: 2}"),
        "scheduler: the run to resume has {'name': 'warmup_cosine', ",
    ),
}


@pytest.mark.parametrize(("damage", "arguments", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(
    refuse: Refuse, home: Path, tmp_path: Path, damage: Damage, arguments: tuple[str, ...], message: str
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(home / "checkpoints" / "first", runs / "first")
    damage(runs / "first")
    refuse(message, *arguments, "--checkpoints", str(runs))


@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    refuse: Refuse, home: Path, tmp_path: Path, whole: bool
) -> None:
    path, planted = tmp_path / "planted.pt", tmp_path / "planted"
    if whole:
        torch.save({"model": Planted(planted)}, path)
    else:
        path.write_bytes(pickle.dumps(Planted(planted), protocol=2))
    with contextlib.suppress(RuntimeError):
        torch.load(path, weights_only=False)
    planted.unlink()  # so it would have run
    refuse("planted.pt: not loaded: it is damaged, or holds more than tensors and plain values", "test", str(path))
    assert not planted.exists()


def test_a_checkpoint_cannot_have_a_file_outside_its_run_deleted(home: Path, tmp_path: Path) -> None:
    project = shutil.copytree(home, tmp_path / "project")
    last = project / "checkpoints" / "first" / "last.pt"
    contents = torch.load(last, weights_only=True)
    contents["best"] = {"value": -1.0, "file": "../../victim"}  # any epoch is better, so this one would go
    torch.save(contents, last)
    (project / "victim").write_text("own")
    in_project(project, "-m", "my_project", "train", "--resume", "first", "train.epochs=2")
    assert (project / "victim").read_text() == "own"


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_no_flipped_bit_or_zeroed_page_is_loaded(main: Main, home: Path, tmp_path: Path, count: int) -> None:
    checkpoint = importlib.import_module("my_project.engine.checkpoint")
    whole, path = (home / "checkpoints/first/last.pt").read_bytes(), tmp_path / "last.pt"
    path.write_bytes(whole)
    assert checkpoint.load(path)["epoch"] == 1
    rng, silent = random.Random(int(os.environ["SEED"])), []
    for number in range(count):
        content = bytearray(whole)
        if number % 6:
            where, bit = rng.randrange(len(whole)), rng.randrange(8)
            content[where] ^= 1 << bit
        else:
            where, bit = rng.randrange(0, len(whole), 4096), -1
            content[where : where + 4096] = bytes(len(content[where : where + 4096]))
        path.write_bytes(content)
        try:
            checkpoint.load(path)
            silent.append((where, bit))
        except checkpoint.UserError:
            pass
    assert silent == []


def test_a_flipped_bit_changes_nothing_that_is_loaded_without_a_checksum(
    main: Main, home: Path, tmp_path: Path
) -> None:
    """Files up to v0.7 end without a checksum; torch's archive has one of each record, and bytes that nothing reads."""
    checkpoint = importlib.import_module("my_project.engine.checkpoint")
    whole, path = (home / "checkpoints/first/last.pt").read_bytes()[:-15], tmp_path / "last.pt"
    path.write_bytes(whole)

    def loaded() -> bytes:
        torch.save(checkpoint.load(path), saved := io.BytesIO())
        return saved.getvalue()

    right = loaded()
    rng, refused = random.Random(int(os.environ["SEED"])), 0
    for _ in range(60):
        content = bytearray(whole)
        content[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            assert loaded() == right
        except checkpoint.UserError:
            refused += 1
    assert refused > 30


WRONG: dict[str, Any] = {
    "model": [None, [1.0], {"features.0.weight": "text"}, {1: torch.zeros(1)}],
    "optimizer": [7, {}, {"state": 1, "param_groups": {}}, {"state": {}, "param_groups": [1]}],
    "scheduler": ["text", {"last_epoch": "x"}],
    "epoch": ["1", None],
    "step": [1.5],
    "best": [[], {"file": 3, "value": 0.0}, {"file": "x.pt"}],
    "rng": [7, [1, 2], []],
    "config": ["text", {}, {"run": 3}, {"train": {"epochs": "many"}}],
    "info": [None, [], {}, {"classes": 7}],
    "under_way": [3, {}, {"batches": "a"}, {"batches": 1, "samples": 1, "loss": 1, "recent": None, "metrics": 5}],
    "rows": [3, [3]],
    "ranks": [3, [3]],
    "shards": [3, "nowhere"],
}
DAMAGED = [(key, value) for key, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("key", "value"), DAMAGED, ids=[f"{key}-{n}" for n, (key, _) in enumerate(DAMAGED)])
def test_a_wrong_type_in_a_checkpoint_is_one_line(
    main: Main, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(home / "checkpoints" / "first", runs / "first")
    contents = torch.load(runs / "first/last.pt", weights_only=True)
    for path in (runs / "first").glob("*.pt"):
        torch.save(contents | {key: value}, path)
    places = ["--checkpoints", str(runs), f"run.images={tmp_path / 'images'}"]
    for words in (["test"], ["train", "--resume", "first", "train.epochs=2"]):
        status = main([*words, *places])
        said = capfd.readouterr().err
        assert "Traceback" not in said
        lines = said.count("error: ")
        assert (status, lines) in ((0, 0), (2, 1)) or (key, status) == ("config", 2), said


# --- files beside the checkpoints, and names ---


@pytest.fixture
def resumed(
    main: Main, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[[Damage], tuple[Path, str]]:
    """Damages a copy of the run `first` and trains one more epoch; returns its folder and the output."""

    def resume(damage: Damage) -> tuple[Path, str]:
        run = tmp_path / "runs" / "first"
        shutil.copytree(home / "checkpoints" / "first", run)
        damage(run)
        places = ["--checkpoints", str(run.parent), f"run.images={tmp_path / 'images'}"]
        assert main(["train", "--resume", "first", "train.epochs=2", *places]) == 0
        captured = capfd.readouterr()
        return run, captured.err + captured.out

    return resume


def epochs(run: Path) -> list[str]:
    with (run / "metrics.csv").open() as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("content", [None, b"", b"epoch,step\n1", b"\xff\x00\n\x00,,,", b'"'])
def test_a_damaged_table_of_metrics_is_written_anew(resumed: Any, content: bytes | None) -> None:
    def damage(run: Path) -> None:
        (run / "metrics.csv").unlink() if content is None else (run / "metrics.csv").write_bytes(content)

    run, said = resumed(damage)
    assert epochs(run) == ["1", "2"]
    assert "warning" not in said


def of_v07(run: Path) -> None:
    for path in run.glob("*.pt"):
        contents = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in contents.items() if key not in ("rows", "data")}, path)


def test_an_older_checkpoint_takes_its_rows_from_the_table(resumed: Any) -> None:
    run, said = resumed(of_v07)
    assert epochs(run) == ["1", "2"]
    assert "warning" not in said


@pytest.mark.parametrize("content", [b"", b"epoch,step\n1", b"\xff\xfe", b"a\n\x00\n"])
def test_rows_that_are_lost_with_an_older_checkpoint_are_reported(resumed: Any, content: bytes) -> None:
    def damage(run: Path) -> None:
        of_v07(run)
        (run / "metrics.csv").write_bytes(content)

    run, said = resumed(damage)
    assert epochs(run)[-1] == "2"
    assert ("damaged, it has 0 of 1 epochs" in said) == (epochs(run) == ["2"])


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", "[" * 100_000, "\udcff"])
def test_a_damaged_provenance_is_kept_aside(resumed: Any, content: str) -> None:
    def damage(run: Path) -> None:
        (run / "provenance.json").write_text(content, errors="surrogateescape")

    run, said = resumed(damage)
    assert "provenance.json: damaged" in said
    assert (run / "provenance.json.damaged").read_text(errors="surrogateescape") == content
    assert (run / "provenance.json").read_text().count('"started"') == 1


def test_a_new_metric_gets_a_column_of_its_own(main: Main, tmp_path: Path) -> None:
    tracking = importlib.import_module("my_project.engine.tracking")
    table = tracking.CSV(tmp_path / "metrics.csv", [{"epoch": 1, "valid_loss": "0.5"}])
    table.log({"epoch": 2, "valid_loss": 0.25, "valid_f1": 1.0})
    table.log({"epoch": 3, "valid_f1": 0.75})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["epoch,valid_loss,valid_f1", "1,0.5,", "2,0.25,1", "3,,0.75"]


def test_a_longer_run_says_that_the_learning_rate_jumps(resumed: Any) -> None:
    assert "train.epochs is 2, and was 1: the learning rate jumps from " in resumed(nothing)[1]


def test_names_of_files_stay_names_with_any_field(main: Main) -> None:
    file_name = importlib.import_module("my_project.options").file_name
    assert file_name("{model}", model="../../x") == "x"
    assert [file_name(name) for name in ("-lead", "~", "~me", "a-~")] == ["lead", "_", "me", "a-~"]
    assert file_name("{monitor}{value:.4f}", monitor="a/b:c", value=0.5) == "a-b-c0.5000"
    assert len(file_name("{value:.4f}", value=1e300)) == 100
    assert [file_name("{model}", model=name) for name in ("last", "", "..")] == ["last_", "_", "_"]


# --- pictures ---


def test_a_checkpoint_cannot_have_pictures_written_elsewhere(
    main: Main, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = shutil.copytree(home, tmp_path / "project")
    for path in (project / "checkpoints/first").glob("*.pt"):
        contents = torch.load(path, weights_only=True)
        contents["config"]["run"]["images"] = str(tmp_path / "elsewhere")
        torch.save(contents, path)
    done = in_project(project, "-m", "my_project", "test")
    assert f"warning: {tmp_path / 'elsewhere'}: outside the project; images is used" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert (project / "images/result/confusion.png").is_file()
    done = in_project(project, "-m", "my_project", "test", f"run.images={tmp_path / 'elsewhere'}")
    assert not done.stderr
    assert (tmp_path / "elsewhere/result/confusion.png").is_file()


def test_pictures_that_cannot_be_written_cost_one_warning(
    main: Main, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").write_text("a file, where a folder is meant to be")
    places = [f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images", "train.epochs=3"]
    assert main(["train", str(home / "configs/train.yaml"), *QUICK, *places]) == 0
    said = capfd.readouterr()
    assert said.err.count(f"warning: {tmp_path}/images/loader: ") == 1
    assert said.err.count("warning: ") == 2  # and the curves
    assert main(["test", str(tmp_path / "runs/a-run"), f"run.images={tmp_path}/images"]) == 0
    said = capfd.readouterr()
    assert "\n  acc " in said.out
    assert said.err.count("warning: ") == 1


# --- an error of any kind, and other data ---


@pytest.mark.parametrize("where", ["train", "valid"])
def test_any_error_of_a_dataset_keeps_what_was_trained(
    main: Main, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    places = [f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images", "model.args.dropout=0.5"]
    train = ["train", str(home / "configs/train.yaml"), *QUICK, *places, "train.epochs=2"]
    assert main([*train, "run.name=whole"]) == 0
    folder = importlib.import_module("my_project.data.dataset").ClassFolder
    read, reads = folder.__getitem__, []

    def broken(self: Any, index: int) -> Any:
        if where in str(self.samples[0][0]):
            reads.append(index)
        if len(reads) == 10:
            raise KeyError("a bug")
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "__getitem__", broken)
        with pytest.raises(KeyError):
            main([*train, "run.name=stopped"])
    assert main(["train", "--checkpoints", f"{tmp_path}/runs", "--resume", "stopped"]) == 0
    whole, stopped = (torch.load(tmp_path / "runs" / name / "last.pt") for name in ("whole", "stopped"))
    torch.testing.assert_close(stopped["model"], whole["model"], rtol=0, atol=0)
    assert stopped["best"] == whole["best"]


def test_an_error_before_anything_is_saved_spares_earlier_states(
    main: Main, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / "checkpoints/first", tmp_path / "runs/first")
    (tmp_path / "runs/first/last.pt").unlink()

    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(importlib.import_module("my_project.engine.loop"), "train_epoch", broken)
    with pytest.raises(KeyError):
        main(["train", "--checkpoints", f"{tmp_path}/runs", "--resume", "first", "train.epochs=2"])
    assert len(list((tmp_path / "runs/first").glob("cnn-*.pt"))) == 1


def test_a_resume_within_an_epoch_tells_of_other_data(
    main: Main, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path / "data")
    loop = importlib.import_module("my_project.engine.loop")
    step = loop.train_step

    def broken(state: Any, *others: Any) -> Any:
        if state.step == 1:
            raise KeyError("a bug")
        return step(state, *others)

    places = [f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images", f"data.folder={tmp_path}/data"]
    train = ["train", str(home / "configs/train.yaml"), *QUICK, *places, "checkpoint.every_steps=1"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", broken)
        with pytest.raises(KeyError):
            main(train)
    shutil.copytree(tmp_path / "runs", tmp_path / "again")
    changed = "warning: the training data has changed since the run was saved"
    assert main(["train", "--checkpoints", f"{tmp_path}/runs", "--resume", "a-run"]) == 0
    assert changed not in capfd.readouterr().out
    (tmp_path / "data/train/left/3.png").rename(tmp_path / "data/train/left/30.png")
    assert main(["train", "--checkpoints", f"{tmp_path}/again", "--resume", "a-run"]) == 0
    assert changed in capfd.readouterr().out


# --- a folder of a run ---


def test_a_start_that_was_killed_before_its_first_save_is_started_anew(main: Main, home: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a-run"
    run.mkdir(parents=True)
    for name in ("config.yaml", "provenance.json", "metrics.csv", "last.pt.partial"):
        (run / name).write_text("")  # as v0.7 left them
    train = ["train", str(home / "configs/train.yaml"), *QUICK]
    assert main([*train, f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images"]) == 0
    assert epochs(run) == ["1"]


def test_a_run_with_an_equals_sign_in_its_name_can_be_named(main: Main, home: Path, tmp_path: Path) -> None:
    places = [f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images"]
    run = f"{tmp_path}/runs/lr=0.01"
    assert main(["train", str(home / "configs/train.yaml"), *QUICK, *places, "run.name=lr=0.01"]) == 0
    assert main(["train", "--resume", run, "train.epochs=2"]) == 0
    assert epochs(Path(run)) == ["1", "2"]
    assert main(["test", run, f"run.images={tmp_path}/images"]) == 0


def test_a_folder_that_is_no_run_is_left_alone(refuse: Refuse, home: Path, tmp_path: Path) -> None:
    (tmp_path / "runs/a-run").mkdir(parents=True)
    (tmp_path / "runs/a-run/notes.txt").write_text("own")
    places = [f"run.checkpoints={tmp_path}/runs", f"run.images={tmp_path}/images"]
    refuse("a-run: already exists; set another run.name", "train", "configs/train.yaml", *QUICK, *places)


# --- as people start it ---

BY_COMMAND = {"empty image": DATA["empty image"], **VALID}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("damage", "message"), BY_COMMAND.values(), ids=BY_COMMAND)
def test_the_command_names_a_bad_image_and_fails(
    home: Path, tmp_path: Path, damage: Damage, message: str, workers: int
) -> None:
    make_data(tmp_path / "data")
    damage(tmp_path / "data")
    train = ["-m", "my_project", *train_on(tmp_path), f"data.workers={workers}"]
    done = in_project(home, *train, ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    trained = "valid" in message
    assert ("saved at step 1;" in done.stdout) == trained
    assert (tmp_path / "runs" / "a-run" / "last.pt").exists() == trained
    assert list(tmp_path.glob("runs/*")) == ([tmp_path / "runs" / "a-run"] if trained else [])


def test_the_command_reports_all_mistakes_of_a_config_at_once(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epohcs: 3}\noptimizer: {lr: -1}\nmodle: {}\n")
    train = ["-m", "my_project", "train", "configs/train.yaml", str(tmp_path / "a.yaml")]
    done = in_project(home, *train, ok=False)
    assert done.returncode == 2
    assert sorted(line.split(": ")[2] for line in done.stderr.splitlines()) == ["modle", "optimizer.lr", "train.epohcs"]


def test_debug_shows_the_traceback(home: Path) -> None:
    done = in_project(home, "-m", "my_project", "train", "missing.yaml", "--debug", ok=False)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "UserError: " in done.stderr
    assert "missing.yaml: No such file or directory" in done.stderr
