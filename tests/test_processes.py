"""Several processes train as one does, save together, and resume with another world size."""

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Render, in_project, of_the_day

pytestmark = pytest.mark.slow

LAUNCH = ["-m", "my_project.engine.launch", "--nproc-per-node"]
TRAIN = ["-m", "my_project", "train", "configs/train.yaml", "run.device=cpu", "train.epochs=3", "model.name=mlp"]
BOTH = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
# No batch norm and no dropout by default: their statistics and draws differ between processes.
MODEL = """
from torch import nn


def mlp(num_classes, in_channels=1, dropout=0.0):
    hidden = [nn.Linear(in_channels * 64, 48), nn.LayerNorm(48), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), *hidden, nn.Linear(48, num_classes))
"""


@pytest.fixture(scope="module")
def project(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("processes") / "project"
    shutil.copytree(render(extras="fsdp"), project)
    (project / "src/my_project/model/mlp.py").write_text(MODEL)
    in_project(project, "-m", "my_project", "train", "--smoke")
    # 799 images: with a global batch size of 64, the last batch has 31, which two processes can't share evenly.
    sorted((project / "data/train/3").glob("*.png"))[0].unlink()
    return project


def launch(project: Path, processes: str, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """torchrun with warm processes; test_slurm.py and test_faults.py use the real start."""
    return in_project(project, *LAUNCH, processes, *words, **options)


def curve(project: Path, name: str) -> list[list[float]]:
    """Losses and metrics by epoch."""
    with (project / "checkpoints" / name / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [[float(row[key]) for key in row if key not in ("seconds", "epoch")] for row in rows]


def state(project: Path, name: str) -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(project / "checkpoints" / name / "last.pt", weights_only=True)
    return contents


@BOTH
def test_two_processes_give_the_loss_curve_of_one_at_the_same_global_batch(strategy: str, project: Path) -> None:
    in_project(project, *TRAIN, f"run.name={strategy}-one", "data.batch_size=64")
    options = ["data.batch_size=32", f"distributed.strategy={strategy}", f"run.name={strategy}-two"]
    launch(project, "2", *TRAIN, *options)
    one, two = (curve(project, f"{strategy}-{count}") for count in ("one", "two"))
    for row, same in zip(one, two, strict=True):
        assert same == pytest.approx(row, rel=1e-5)


@BOTH
def test_two_processes_accumulate_as_one(strategy: str, project: Path) -> None:
    in_project(project, *TRAIN, f"run.name={strategy}-large", "data.batch_size=96")
    options = ["data.batch_size=16", "train.accumulate=3", f"distributed.strategy={strategy}"]
    launch(project, "2", *TRAIN, *options, f"run.name={strategy}-small")
    large, small = (curve(project, f"{strategy}-{size}") for size in ("large", "small"))
    for row, same in zip(large, small, strict=True):
        assert same == pytest.approx(row, rel=1e-5)


@BOTH
@pytest.mark.parametrize("processes", of_the_day([1, 2, 3], 1))
def test_a_run_of_two_processes_resumes_with_any_world_size(strategy: str, processes: int, project: Path) -> None:
    """It is stopped within an epoch, by a broken image. Resumed with two processes, it ends bit for bit the same."""
    name = f"{strategy}-stopped-{processes}"
    options = ["data.batch_size=16", f"distributed.strategy={strategy}", "train.ema=0.9", "model.args.dropout=0.2"]
    options += ["checkpoint.every_steps=4", "train.precision=bf16"]
    images = sorted((project / "data/train").glob("*/*.png"))
    image = images[np.random.default_rng((0, 0)).permutation(len(images))[500]]  # read at step 16
    whole = image.read_bytes()
    image.write_bytes(b"")
    done = launch(project, "2", *TRAIN, *options, f"run.name={name}", ok=False)
    image.write_bytes(whole)
    assert done.returncode == 2
    assert "error: rank " in done.stderr
    assert 0 < state(project, name)["under_way"]["batches"] < 25
    resume = ["-m", "my_project", "train", "--resume", name]
    launch(project, str(processes), *resume) if processes > 1 else in_project(project, *resume)
    assert state(project, name)["epoch"] == 3
    if processes == 2:
        launch(project, "2", *TRAIN, *options, f"run.name={strategy}-whole")
        # The stop adds one more sum to the epoch's losses, so they are rounded differently; the weights are not.
        for row, same in zip(curve(project, name), curve(project, f"{strategy}-whole"), strict=True):
            assert same == pytest.approx(row, rel=1e-6)
        weights = [state(project, run)["model"] for run in (name, f"{strategy}-whole")]
        torch.testing.assert_close(*weights, rtol=0, atol=0)
        tested = [in_project(project, "-m", "my_project", "test", run).stdout for run in (name, f"{strategy}-whole")]
        assert tested[0].splitlines()[1:3] == tested[1].splitlines()[1:3]


def test_testing_a_sharded_model_uses_its_averaged_weights(project: Path) -> None:
    """Training validates the EMA weights, so `test` of the same checkpoint has to report the same metrics."""
    options = ["data.batch_size=32", "distributed.strategy=fsdp", "train.ema=0.9", "run.name=mean", "train.epochs=1"]
    launch(project, "2", *TRAIN, *options)
    said = in_project(project, "-m", "my_project", "test", "mean", "--split", "valid").stdout
    with (project / "checkpoints/mean/metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert f"loss {float(row['valid_loss']):.4f}" in said
    assert f"acc {float(row['valid_acc']):.4f}" in said


def test_a_sharded_checkpoint_that_would_run_code_is_refused(project: Path, tmp_path: Path) -> None:
    options = ["data.batch_size=32", "distributed.strategy=fsdp", "run.name=unsafe", "train.epochs=1"]
    launch(project, "2", *TRAIN, *options)
    (description,) = (project / "checkpoints/unsafe").glob("shards-*/.metadata")
    description.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    assert "its tensors are damaged" in in_project(project, "-m", "my_project", "test", "unsafe", ok=False).stderr
    for path in (project / "checkpoints/unsafe").glob("*.pt"):  # an attacker can also remove the checksums
        contents = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in contents.items() if key != "sums"}, path)
    done = in_project(project, "-m", "my_project", "test", "unsafe", ok=False)
    assert done.returncode == 2
    assert "could run code" in done.stderr
    for folder in (3, "nowhere"):  # a wrong type, and a folder that isn't there
        torch.save(contents | {"shards": folder}, path)
        done = in_project(project, "-m", "my_project", "test", path, ok=False)
        assert (done.returncode, "its tensors are missing" in done.stderr) == (2, True), done.stderr
    assert not (project / "ran").exists()
