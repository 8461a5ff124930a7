"""The extra `runs`: a table that needs no torch, and runs that are trained, killed or deleted meanwhile."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, copy, git, in_project, save, start

pytestmark = pytest.mark.slow

KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir())

QUICK = ["model.args.width=4", "run.device=cpu", "train.limit_batches=2"]
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from my_project.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a run of two epochs, `first`."""
    folder = tmp_path_factory.mktemp("runs") / "a project"
    copy(template, folder, extras="runs")
    save(folder)
    in_project(folder, "-m", "my_project", "train", *QUICK, "train.epochs=2", "run.name=first")
    return folder


def table(project: Path, *words: str) -> list[dict[str, Any]]:
    done = in_project(project, "-c", WITHOUT_TORCH, "runs", *words, "--json", cold=True)
    assert done.stderr == ""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_two_hundred_runs_are_listed_without_torch(project: Path, tmp_path: Path) -> None:
    for number in range(200):
        shutil.copytree(
            project / "checkpoints/first", tmp_path / f"{number:03d}", ignore=shutil.ignore_patterns("*.pt")
        )
    rows = table(project, "--checkpoints", str(tmp_path))
    assert [row["run"] for row in rows] == [f"{number:03d}" for number in range(200)]
    assert rows[0]["commit"] == git("rev-list", "--max-parents=0", "HEAD", cwd=project)[:8]
    assert rows[0]["best"] == max(best_figures(project))
    assert rows[0]["differs"] == {
        "run.device": "cpu",
        "model.args.width": 4,
        "train.epochs": 2,
        "train.limit_batches": 2,
    }


def best_figures(project: Path) -> list[float]:
    head, *rows = (project / "checkpoints/first/metrics.csv").read_text().splitlines()
    column = head.split(",").index("valid_acc")
    return [float(row.split(",")[column]) for row in rows]


def test_a_run_in_training_is_running_and_stays_and_a_killed_one_is_stopped(project: Path) -> None:
    path = project / "checkpoints" / "long"
    with open(os.devnull, "r+b") as nothing:
        words = ["-m", "my_project", "train", *QUICK, "train.epochs=100000", "run.name=long"]
        process = start(project, *words, files=[nothing] * 3)
    end = time.monotonic() + 120
    while not (path / "last.pt").is_file():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [row["state"] for row in table(project, "long")] == ["running"]
    refused = in_project(project, "-m", "my_project", "runs", "delete", "*", "--yes", ok=False)
    assert (refused.returncode, refused.stderr) == (2, "error: long: a process trains this run; stop it first\n")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [row["state"] for row in table(project, "long")] == ["stopped"]
    in_project(project, "-m", "my_project", "runs", "delete", "checkpoints/long/", "--yes")
    assert not path.exists()
    assert (project / "checkpoints/first/last.pt").is_file()


def test_a_loss_and_a_commit_are_all_that_differs(project: Path) -> None:
    (project / "src/my_project/loss.py").write_text((project / "src/my_project/loss.py").read_text() + "# more\n")
    save(project, "another loss")
    in_project(project, "-m", "my_project", "train", *QUICK, "train.epochs=2", "run.name=second", "loss.name=FocalLoss")
    said = in_project(project, "-m", "my_project", "runs", "compare", "first", "second", drawn=True).stdout
    differences, _, figures = said.partition("figures at the best epoch:\n")
    lines = [line.split() for line in differences.splitlines()]
    commits = [git("rev-parse", "--short=8", f"HEAD{back}", cwd=project) for back in ("~1", "")]
    assert lines == [
        ["config:"],
        ["first", "second"],
        ["loss.name", "CrossEntropyLoss", "FocalLoss"],
        ["code:"],
        ["first", "second"],
        ["commit", *commits],
        ["src/my_project/loss.py", "differs"],
        ["data:", "the", "same"],
        ["packages:", "the", "same"],
    ]
    assert "valid_acc" in figures
    assert (project / "images/result/compare.png").stat().st_size > 10_000
    git("restore", ".", cwd=project)


def test_the_best_checkpoint_of_a_run_is_kept_and_resumed_from(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(project / "checkpoints/first", folder / "first")
    said = in_project(
        project, "-m", "my_project", "runs", "keep-best", "*", "--yes", "--checkpoints", str(folder)
    ).stdout
    best = next(path for path in (folder / "first").glob("*.pt") if path.name != "last.pt")
    assert f"kept {best.name}" in said
    assert best.samefile(folder / "first/last.pt")
    assert not (folder / "first/earlier").exists()
    in_project(project, "-m", "my_project", "train", "--resume", str(folder / "first"), "train.epochs=3")
    assert yaml.safe_load((folder / "first/config.yaml").read_text())["train"]["epochs"] == 3
    assert len((folder / "first/metrics.csv").read_text().splitlines()) == 4


SCIPY = """
import json, sys
from pathlib import Path
import numpy as np
import scipy.stats
import torch
from my_project.engine import inference

config, task, model = inference.load(Path(sys.argv[1]))
right = []
for images, targets in task.eval_loader("test"):
    with torch.no_grad():
        right += (model(images).argmax(dim=1) == targets).tolist()
options = {"method": "percentile", "n_resamples": 9999, "rng": np.random.default_rng(0)}
interval = scipy.stats.bootstrap((np.array(right, float),), np.mean, **options).confidence_interval
print(json.dumps([np.mean(right), *interval]))
"""


def test_an_interval_is_that_of_scipy(project: Path, tmp_path: Path) -> None:
    whole = ["run.name=whole", f"run.checkpoints={tmp_path}", "train.limit_batches=null", "train.epochs=3"]
    in_project(project, "-m", "my_project", "train", *QUICK, *whole)
    words = ["-m", "my_project", "intervals", *[str(tmp_path / "whole")] * 2, "--json", "--resamples", "4000"]
    found = json.loads(in_project(project, *words).stdout)
    one, same, difference = found["metrics"]["acc"]
    value, low, high = json.loads(in_project(project, "-c", SCIPY, found["checkpoints"][0]).stdout)
    assert (found["samples"], one) == (200, same)
    assert one["value"] == value
    assert low < value < high
    assert [one["low"], one["high"]] == pytest.approx([low, high], abs=0.005)  # of 200 samples, one counts so much
    assert difference == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in KINDS])
def test_intervals_hold_the_figures_of_a_test(kind: str, template: Path, tmp_path: Path) -> None:
    copy(template, tmp_path / "project", extras="runs", data_kind=kind)
    settings = ["configs/train.yaml", "run.name=a", "run.device=cpu", "train.epochs=1", "train.limit_batches=2"]
    in_project(tmp_path / "project", "-m", "my_project", "train", *settings)
    words = ["-m", "my_project", "intervals", "a", "--json", "--resamples=100"]
    found = json.loads(in_project(tmp_path / "project", *words).stdout)
    tested = json.loads(in_project(tmp_path / "project", "-m", "my_project", "test", "a", "--json").stdout)
    assert found["metrics"]
    for name, (figure,) in found["metrics"].items():
        assert figure["value"] == pytest.approx(tested[name], rel=1e-3, abs=1e-6), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
