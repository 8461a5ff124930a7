"""The option `run.task`, and the extra `labels`: several labels per sample, or numbers, from a table."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import Render, copier_copy, in_project, of_the_day
from test_documents import steps

pytestmark = pytest.mark.slow

KINDS = ["image_classification", "text_classification", "audio_classification"]
EXTRAS = "labels runs sweep export hub"
CHECK = ["-m", "my_project", "check-data"]
TRAIN = ["-m", "my_project", "train", "configs/train.yaml"]
QUICK = ["run.device=cpu", "train.epochs=1", "train.limit_batches=2", "run.name=a-run"]
each_kind = pytest.mark.parametrize("kind", of_the_day(KINDS, 1))

OTHER = """
from . import task


class Task(task.Task):
    def sentence(self, prediction):
        return "another task: " + prediction["prediction"]


def check_folder(folder):
    return "another check", []
"""


@pytest.fixture
def other(render: Render, tmp_path: Path) -> Path:
    """A project with a second task."""
    project = shutil.copytree(render(extras="export"), tmp_path / "project")
    (project / "src/my_project/other.py").write_text(OTHER)
    return project


def test_run_task_names_another_module_and_checkpoints_follow_it(other: Path) -> None:
    in_project(other, *TRAIN, *QUICK, "run.task=other")
    in_project(other, *TRAIN[:-1], "--resume", "a-run", "train.epochs=2")
    assert "another task: " in in_project(other, "-m", "my_project", "run", "images/sample").stdout
    assert in_project(other, *CHECK, "data", "run.task=other").stdout == "another check\n"
    assert "all" in in_project(other, *CHECK, "data").stdout


@pytest.mark.exhaustive
def test_an_export_follows_its_task_too(other: Path) -> None:
    in_project(other, *TRAIN, *QUICK, "run.task=other")
    in_project(other, "-m", "my_project", "export", "a-run")
    said = in_project(other, "-m", "my_project", "run-exported", "exports/a-run", "images/sample").stdout
    assert "another task: " in said
    assert "another check" in (other / "exports/a-run/MODEL_CARD.md").read_text()


CONFIGS = """
import sys
from my_project.cli import main
for name in ("cli", "otter", "data.options", "../other"):
    assert main(["config", "configs/train.yaml", f"run.task={name}"]) == 2
assert "torch" not in sys.modules
"""


def test_a_module_without_a_class_task_is_one_error_before_torch(other: Path) -> None:
    start, known = "error: command line: run.task: no module", "with a class Task; there are: other, task"
    similar = "with a class Task; did you mean 'other'?"
    lines = [f"{start} 'cli' {known}", f"{start} 'otter' {similar}", f"{start} 'data.options' {known}"]
    said = in_project(other, "-c", CONFIGS, cold=True).stderr
    assert said.splitlines() == [*lines, f"{start} '../other' {similar}"]


@each_kind
def test_own_tests_of_a_project_with_labels_pass(render: Render, kind: str, tmp_path: Path) -> None:
    project = shutil.copytree(render(data_kind=kind, extras="labels"), tmp_path / "project")
    said = in_project(project, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "test/test_labels.py").stdout
    assert "16 passed" in said


def prepared(render: Render, kind: str, project: Path, task: str) -> Path:
    """A project with the tables of its page, for a task."""
    shutil.copytree(render(data_kind=kind, extras=EXTRAS), project)
    in_project(project, *TRAIN, "--smoke", "run.device=cpu")  # unpacks the sample
    for step in steps((project / "docs/labels.md").read_text()):
        if step.path:
            (project / step.path).write_text(step.code)
    in_project(project, "scripts/example.py", task)
    return project


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["labels", "numbers"])
def test_other_parts_follow_the_task_or_refuse_it(render: Render, kind: str, task: str, tmp_path: Path) -> None:
    project = prepared(render, kind, tmp_path / "project", task)
    preset = f"configs/{task}.yaml"
    in_project(project, *TRAIN, preset, *QUICK)
    whole = in_project(project, "-m", "my_project", "test", "a-run", "--json").stdout
    two = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
    in_project(project, *two, *TRAIN, preset, *QUICK[:-1], "run.name=two")
    in_project(project, *two, *TRAIN[:-1], "--resume", "two", "train.epochs=2")
    said = in_project(project, "-m", "my_project", "intervals", "a-run", "--json", "--resamples=100").stdout
    for name, (figure,) in json.loads(said)["metrics"].items():
        assert figure["value"] == pytest.approx(json.loads(whole)[name], rel=1e-3, abs=1e-5)
        assert figure["low"] <= figure["high"]
    refused = in_project(project, "-m", "my_project", "calibrate", "a-run", ok=False)
    assert (refused.returncode, "calibrate is for classification" in refused.stderr) == (2, True)
    in_project(project, "-m", "my_project", "export", "a-run")
    run = [in_project(project, "-m", "my_project", "run", "images/sample", "--checkpoint", "a-run").stdout]
    for form in ([], ["--pt2"]):
        exported = ["-m", "my_project", "run-exported", "exports/a-run", "images/sample", *form]
        run.append(in_project(project, *exported).stdout)
    assert [len(each.splitlines()) for each in run] == [len(run[0].splitlines())] * 3
    sweep = ["-m", "my_project", "sweep", "configs/train.yaml", preset, *QUICK[:-1], "--folds=3", "--study=f", "--test"]
    in_project(project, *sweep)
    for fold in range(3):
        (place,) = project.glob(f"data/folds/*/{fold}")
        check = in_project(project, *CHECK, place, f"run.task={task}", ok=kind != KINDS[1])
        assert "the same as in" not in check.stderr
    in_project(project, "-m", "my_project", "push", "--dry-run=pushed", "a-run", "me/model")
    tag = "pipeline_tag" in (project / "pushed/README.md").read_text()
    assert tag == (task == "labels")


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_a_divided_table_trains_without_a_leak(render: Render, kind: str, tmp_path: Path) -> None:
    project = prepared(render, kind, tmp_path / "project", "labels")
    task = ["run.task=labels"]
    in_project(project, "-m", "my_project", "split-data", "data/train", tmp_path / "new", *task)
    with open(tmp_path / "new/test/labels.csv", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) > 10
    in_project(project, *CHECK, tmp_path / "new", *task)
    in_project(project, *TRAIN, "configs/labels.yaml", *QUICK, f"data.folder={tmp_path / 'new'}")


def test_labels_are_refused_for_other_kinds_of_data(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="remove labels: it is for the classification of images, texts and sounds"):
        copier_copy(plain, tmp_path / "project", data_kind="tabular", extras="labels")
