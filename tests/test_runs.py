"""The extra `runs`: a table that needs no torch, and runs that are trained, killed or deleted meanwhile."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, copy, git, in_project, of_the_day, save, start

pytestmark = pytest.mark.slow

KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir())

QUICK = ["model.args.width=4", "run.device=cpu", "train.limit_batches=2"]
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from my_project.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of two epochs, `first`."""
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


def test_brackets_in_the_name_of_a_run_are_no_pattern(project: Path, tmp_path: Path) -> None:
    for name in ("lr1", "lr[1]", "lr[2]"):
        shutil.copytree(project / "checkpoints/first", tmp_path / name)
    words = ["-m", "my_project", "runs", "delete", "lr[1]", "--yes", "--checkpoints", str(tmp_path)]
    in_project(project, *words)
    assert sorted(os.listdir(tmp_path)) == ["lr1", "lr[2]"]
    refused = in_project(project, *words, ok=False)
    assert (refused.returncode, refused.stderr) == (2, f"error: lr[1]: no such run in {tmp_path}\n")
    assert [row["run"] for row in table(project, "lr[*", "l??", "--checkpoints", str(tmp_path))] == ["lr[2]", "lr1"]


STOPPED = """
import os, signal, sys
from my_project.cli import main
from my_project.engine.session import Session

tell = Session.tell
def tell_and_stop(session, event, *news):
    tell(session, event, *news)
    if event == "step" and session.state.step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
Session.tell = tell_and_stop
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def by_steps(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs whose validations are not at the ends of epochs; one is stopped at step 5 of 20, and one resumed from it."""
    folder = tmp_path_factory.mktemp("by steps")
    quick = ["train", *QUICK, "data.batch_size=8", f"run.checkpoints={folder}"]
    whole = [*quick, "train.limit_batches=10", "train.epochs=2", "valid.every_steps=2"]
    in_project(project, "-m", "my_project", *quick, "run.name=most", "train.epochs=20", "train.max_steps=3")
    in_project(project, "-m", "my_project", *quick, "run.name=each", "train.epochs=4", "valid.every_steps=1")
    stopped = in_project(project, "-c", STOPPED, *whole, "run.name=stopped", ok=False)
    assert stopped.returncode == 75, stopped.stderr
    shutil.copytree(folder / "stopped", folder / "whole")
    in_project(project, "-m", "my_project", "train", "--resume", str(folder / "whole"))
    return folder


def test_states_and_epochs_are_right_if_runs_validate_by_steps(project: Path, by_steps: Path) -> None:
    rows = {row["run"]: row for row in table(project, "--checkpoints", str(by_steps))}
    assert {name: (row["state"], row["epoch"]) for name, row in rows.items()} == {
        "most": ("done", 1),
        "each": ("done", 4),
        "stopped": ("stopped", 0),
        "whole": ("done", 2),
    }
    assert {name: row["step"] for name, row in rows.items()} == {"most": 3, "each": 8, "stopped": 4, "whole": 20}
    lines = in_project(project, "-m", "my_project", "runs", "--checkpoints", str(by_steps)).stdout.splitlines()
    cells = {line.split()[0]: re.split("  +", line)[3] for line in lines[1:]}
    assert cells == {"most": "3/3 steps", "each": "4/4", "stopped": "0/2", "whole": "2/2"}
    in_order = table(project, "--sort", "epochs", "--checkpoints", str(by_steps))
    assert [row["run"] for row in in_order] == ["stopped", "most", "whole", "each"]


def test_early_stopping_and_old_runs_are_read_from_their_rows(project: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((project / "checkpoints/first/config.yaml").read_text())
    cases: dict[str, tuple[dict[str, int], int, str]] = {  # options of train, valid.every_steps, the rows
        "waits": ({"epochs": 9, "patience": 3}, 1, "epoch,step,valid_loss\n1,1,4\n1,2,3\n1,3,2\n1,4,5\n"),
        "gave up": ({"epochs": 9, "patience": 3}, 1, "epoch,step,valid_loss\n1,1,4\n1,2,5\n1,3,5\n1,4,5\n"),
        "old": ({"epochs": 2}, 0, "epoch,valid_loss\n1,4\n2,3\n"),
        "half": ({"epochs": 3}, 0, "epoch,valid_loss\n1,4\n2,3\n"),
    }
    for name, (options, every, rows) in cases.items():
        (tmp_path / name).mkdir()
        own = {"train": config["train"] | options, "valid": {"every_steps": every or None}}
        own["checkpoint"] = config["checkpoint"] | {"monitor": "loss", "mode": "min"}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config | own))
        (tmp_path / name / "metrics.csv").write_text(rows)
        (tmp_path / name / "train.log").write_text("step 4/90  epoch 1  valid_loss 5.0000\n" if every else "")
        (tmp_path / name / "last.pt").touch()
    found = {row["run"]: (row["state"], row["epoch"]) for row in table(project, "--checkpoints", str(tmp_path))}
    expected = {"waits": ("stopped", 0), "gave up": ("done", 0), "old": ("done", 2), "half": ("stopped", 2)}
    assert found == expected


DRAWN = """
import json, sys
from pathlib import Path
from my_project.commands import runs
from my_project.visualization import charts

figures = []
charts.write = lambda path, save: figures.append(save.__self__)
found = {run.run: run for run in runs.find_runs(Path(sys.argv[1]))}
runs.draw([found[name] for name in sys.argv[2:]], Path("compare.png"))
axes = figures[0].axes[0]
print(json.dumps([axes.get_xlabel(), *(line.get_xdata().tolist() for line in axes.lines)]))
"""


def test_curves_go_over_steps_if_an_epoch_has_validations(project: Path, by_steps: Path) -> None:
    drawn = in_project(project, "-c", DRAWN, str(by_steps), "most", "each", drawn=True).stdout
    assert json.loads(drawn) == ["step", [2, 3], list(range(1, 9))]
    drawn = in_project(project, "-c", DRAWN, str(project / "checkpoints"), "first", "first", drawn=True).stdout
    assert json.loads(drawn) == ["epoch", [1, 2], [1, 2]]


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
    assert [one["low"], one["high"]] == pytest.approx([low, high], abs=0.005)  # the weight of one of 200 samples
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


@pytest.fixture(scope="module")
def regressions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of tables with the run `log`, and its data in `turned` with the test rows in reverse."""
    folder = tmp_path_factory.mktemp("regressions") / "project"
    copy(template, folder, extras="runs", data_kind="tabular")
    train_table(folder, "log")
    shutil.copytree(folder / "data", folder / "turned")
    for path in (folder / "turned/test").glob("*.csv"):
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(reversed(rows)))
    return folder


def train_table(project: Path, name: str, *settings: str) -> None:
    quick = ["configs/train.yaml", "configs/debug.yaml", "train.epochs=1", "train.limit_batches=1", "run.device=cpu"]
    in_project(project, "-m", "my_project", "train", *quick, f"run.name={name}", *settings)


FOR_CLASSES = ["data.task=classification", "data.target_log=false", "loss.name=CrossEntropyLoss"]
FOR_CLASSES += ["checkpoint.monitor=auroc", "checkpoint.mode=max"]
OTHER_TARGETS = r"test: the runs have different targets in \d+ of 1426 samples, the first is number 1; "
NO_METRIC = "no metric in common: r2, mae, rmse for the first, acc, auroc for the second; "


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("order", ["data.folder=turned"], OTHER_TARGETS),
        ("target", ["data.target=carat"], OTHER_TARGETS),
        ("task", ["data.target=cut", *FOR_CLASSES], NO_METRIC),
    ],
    ids=["order", "target", "task"],
)
def test_runs_with_other_samples_are_not_compared(
    name: str, settings: list[str], error: str, regressions: Path
) -> None:
    train_table(regressions, name, *settings)
    refused = in_project(regressions, "-m", "my_project", "intervals", "log", name, ok=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.match(f"error: {error}", refused.stderr), refused.stderr


def test_runs_with_other_inputs_are_compared_in_columns(regressions: Path) -> None:
    train_table(regressions, "plain", "data.target_log=false", "data.normalize=quantile", 'data.ignore=["cut"]')
    words = ["-m", "my_project", "intervals", "log", "plain", "--resamples=100"]
    lines = in_project(regressions, *words).stdout.splitlines()[3:]
    cells = [re.split("  +", line.strip()) for line in lines]
    assert cells[0] == ["first", "second", "first - second"]
    assert [(name, len(rest)) for name, *rest in cells[1:]] == [("r2", 3), ("mae", 3), ("rmse", 3)]
    starts = [lines[0].index(name) for name in ("first ", "second ", "first - ")]
    assert all(line[start - 1] == " " != line[start] for line in lines for start in starts)


TARGETS = """
import sys
import torch
from my_project.commands.intervals import TargetReader, differing
from my_project.config import load
from my_project.options import Config
from my_project.task import Task

def targets(*settings):
    config = load(Config, ["configs/train.yaml"], ["data.batch_size=1", *settings])
    task = Task(config, torch.device("cpu"))
    return list(map(TargetReader(task), task.eval_loader("test")))

one, two = targets(), targets(*sys.argv[1:])
print(len(differing(one, two)), len(differing(one, one[::-1])) > 0)
"""
OTHER_INPUTS = {
    "audio_classification": ["data.seconds=0.5"],
    "custom": ["data.normalize=false"],
    "image_classification": ["data.image_size=16"],
    "image_segmentation": ["data.max_size=32"],
    "language_modeling": ["data.tokens=bytes"],
    "object_detection": ["data.image_size=64"],
    "tabular": ["data.target_log=false", "data.normalize=quantile"],
    "text_classification": ["data.max_length=5"],
    "time_series": ["data.context=64", "data.scaling=train"],
}


@pytest.mark.parametrize(("kind", "settings"), of_the_day(sorted(OTHER_INPUTS.items()), 3))
def test_targets_are_the_same_whatever_the_inputs(
    kind: str, settings: list[str], template: Path, tmp_path: Path
) -> None:
    copy(template, tmp_path / "project", extras="runs", data_kind=kind)
    printed = in_project(tmp_path / "project", "-c", TARGETS, *settings).stdout
    assert printed.splitlines()[-1] == "0 True"
