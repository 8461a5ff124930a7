"""A tiny data set (is the left or right half lit?) of 22, 10 and 8 samples, and a quick config."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from digits.config import ROOT, load
from digits.options import Config

# Settings that tests train with, in addition to those of all kinds; then those of a resumed run.
COMPONENTS = [["loss.name=FocalLoss", "data.transforms.random_erase.p=1.0", "model.name=resnet"]]
EXACT = ["data.cache=true", "data.sampling=balanced", "loss.args.weight=balanced"]
PICTURES = {"confusion.png", "mistakes.png"}  # drawn by `test`


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in {"train": 11, "valid": 5, "test": 4}.items():
        for half, name in enumerate(["left", "right"]):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, size=(12, 12), dtype=np.uint8)
                pixels[:, 6 * half : 6 * half + 6] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def settings(data_folder: Path, tmp_path: Path) -> list[str]:
    """Overrides of configs/train for a quick run below `tmp_path`."""
    quick = "data.image_size=12 data.batch_size=8 model.args.width=4 train.epochs=2 run.device=cpu"
    folders = [f"run.{name}={tmp_path / name}" for name in ("checkpoints", "images")]
    return [*quick.split(), *folders, f"data.folder={data_folder}", "run.name=a-run"]


@pytest.fixture
def config(settings: list[str]) -> Config:
    return load(Config, (ROOT / "configs").glob("train.*"), settings)


@pytest.fixture
def inputs(data_folder: Path) -> dict[str, int]:
    """Inputs for `run`, and the number of predictions of each."""
    samples = ROOT / "images" / "sample"
    return {str(data_folder / "test/left/0.png"): 1, str(samples): len(list(samples.iterdir()))}


def check(prediction: dict[str, Any]) -> None:
    """A prediction is one of the classes, with its probabilities."""
    assert Path(prediction["file"]).suffix == ".png"
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)
    assert prediction["prediction"] in ("left", "right")
