"""A run that is killed repeatedly ends with the results of an uninterrupted one. `make kill-test` kills 30 times."""

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Process, Render, start
from test_configs import KINDS

KILLS, KILLS_OF_OTHER_KINDS = (int(os.environ.get("KILLS", number)) for number in (6, 3))
SETTINGS = ["configs/train.yaml", "train.ema=0.9", "train.accumulate=2", "checkpoint.every_steps=3", "run.device=cpu"]
QUICKER = {"language_modeling": ["train.limit_batches=30"]}  # an epoch takes half a minute
IMAGES = ["data.transforms={random_affine: {}, random_erase: {}}", "model.args={width: 4, dropout: 0.3}"]
# Text is batched by length, and a language model's position is in a stream; the others load as images do.
ALIKE = sorted({*KINDS} - {"image_classification", "text_classification", "language_modeling"})
OTHERS = ["text_classification", "language_modeling", *(pytest.param(k, marks=pytest.mark.exhaustive) for k in ALIKE)]


def begin(project: Path, *arguments: str) -> Process:
    with open(os.devnull, "r+b") as nothing:
        return start(project, "-m", "my_project", "train", *arguments, files=[nothing] * 3, PYTHONUNBUFFERED="1")


def finish(project: Path, *arguments: str) -> dict[str, Any]:
    """Train to the end; returns the last checkpoint."""
    assert begin(project, *arguments).wait() == 0
    contents: dict[str, Any] = torch.load(project / "checkpoints/a-run/last.pt", weights_only=True)
    return contents


def written(run: Path) -> float:
    last = run / "last.pt"
    return last.stat().st_mtime if last.exists() else 0.0


def kill_within(process: Process, run: Path, rng: random.Random, writing: bool) -> bool:
    """Kill a run after its next checkpoint, at a random moment or during a write; returns whether it was killed."""
    before, partial = written(run), run / "last.pt.partial"
    while process.poll() is None and written(run) == before:
        time.sleep(0.001)
    if writing:
        while process.poll() is None and not partial.exists():
            pass
    else:
        time.sleep(rng.uniform(0, 0.1))
    caught = process.poll() is None and (not writing or partial.exists())
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return caught


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_weights(
    workers: int, render: Render, tmp_path: Path
) -> None:
    kill_and_compare(render(), tmp_path, KILLS, [*IMAGES, f"data.workers={workers}"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_every_kind_of_data_survives_being_killed(kind: str, render: Render, tmp_path: Path) -> None:
    settings = ["model.args.dropout=0.3", *QUICKER.get(kind, [])]
    kill_and_compare(render(data_kind=kind), tmp_path, KILLS_OF_OTHER_KINDS, settings)


def kill_and_compare(rendered: Path, folder: Path, kills: int, settings: list[str]) -> None:
    projects = [folder / name for name in ("whole", "killed")]
    for project in projects:
        shutil.copytree(rendered, project)
    # Long enough that no kill is later than the end.
    settings = [*SETTINGS, *settings, "run.name=a-run", f"train.epochs={2 + kills}"]
    whole = finish(projects[0], *settings)

    rng, caught, writing = random.Random(kills), 0, 0
    run = projects[1] / "checkpoints" / "a-run"
    process = begin(projects[1], *settings)
    for number in range(kills):
        hit = kill_within(process, run, rng, writing=number % 3 == 2)
        caught, writing = caught + hit, writing + (hit and number % 3 == 2)
        process = begin(projects[1], "--resume")
    process.wait()
    assert process.returncode == 0
    assert caught >= kills - 2
    assert writing >= 1 or kills < 6
    killed: dict[str, Any] = torch.load(run / "last.pt", weights_only=True)
    for part in ("model", "ema", "optimizer"):
        torch.testing.assert_close(killed[part], whole[part], rtol=0, atol=0)
    assert torch.equal(killed["rng"][0], whole["rng"][0])
    for key in ("scheduler", "epoch", "step", "best"):
        assert killed[key] == whole[key], key
    tables = [(project / "checkpoints/a-run/metrics.csv").read_text().split() for project in projects]
    for row, same in zip(*tables, strict=True):
        assert row.rpartition(",")[0] == same.rpartition(",")[0]  # except the seconds
