"""Each tracker with its real library, which reads back what was stored. No network, no account."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Render, git, in_project, of_the_day, save

TRACKERS = ["tensorboard", "mlflow", "wandb", "trackio"]
TINY = ["configs/train.yaml", "configs/debug.yaml", "train.limit_batches=2", "optimizer.lr=0.0625", "run.name=a"]

# Each prints curves as tag: [[step, value]], pictures as tag: [step], the learning rate, and the code's version.
TENSORBOARD = """
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("checkpoints/a").Reload()
tags = events.Tags()
text = lambda tag: events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()
print(json.dumps({
    "curves": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]},
    "pictures": {tag: [event.step for event in events.Images(tag)] for tag in tags["images"]},
    "lr": json.loads(text("config"))["optimizer"]["lr"],
    "code": text("code"),
    "packages": json.loads(text("start"))["packages"],
}))
"""
MLFLOW = """
import json
from pathlib import Path
from mlflow import MlflowClient
client = MlflowClient("sqlite:///checkpoints/mlflow.db")
(experiment,) = [each for each in client.search_experiments() if each.name == "my_project"]
(run,) = client.search_runs(experiment.experiment_id)
assert (run.info.run_name, run.info.status) == ("a", "FINISHED")
name = run.info.run_id
history = {tag: client.get_metric_history(name, tag) for tag in run.data.metrics}
pictures = {}
for folder in [folder for kind in ("loader", "result") for folder in client.list_artifacts(name, kind)]:
    for file in client.list_artifacts(name, folder.path):
        kind, step, picture = Path(file.path).with_suffix("").parts
        pictures.setdefault(f"{kind}/{picture}", []).append(int(step.removeprefix("step-")))
files = Path(client.download_artifacts(name, ""))
print(json.dumps({
    "curves": {tag: [[point.step, point.value] for point in points] for tag, points in history.items()},
    "pictures": pictures,
    "lr": float(run.data.params["optimizer.lr"]),
    "code": run.data.tags["mlflow.source.git.commit"] + (files / "code-1.diff").read_text(),
    "packages": json.loads((files / "provenance.json").read_text())[-1]["packages"],
}))
"""
WANDB = """
import json, subprocess, sys
from pathlib import Path
folders = sorted(Path("checkpoints/a/wandb").glob("offline-run-*"))
assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1  # the run's id
found, own = {"curves": {}, "pictures": {}}, []
for folder in folders:
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", folder]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    for record in map(json.loads, lines):
        if record["type"] == "run":
            config = record["run"]["config"]["update"]
        if record["type"] == "history":
            row = record["history"]["item"]
            own.append(row["_step"])
            for tag, value in row.items():
                if tag.endswith(".path"):
                    assert (folder / "files" / value).is_file()
                    found["pictures"].setdefault(tag.removesuffix(".path"), []).append(row["step"])
                elif tag[0] != "_" and "." not in tag:
                    found["curves"].setdefault(tag, []).append([row["step"], value])
assert own == sorted(set(own))  # rows of later folders come after those of earlier ones
files = folders[-1] / "files"
found["lr"] = config["optimizer"]["lr"]
found["code"] = config["commit"] + (files / "code-1.diff").read_text()
found["packages"] = json.loads((files / "provenance.json").read_text())[-1]["packages"]
print(json.dumps(found))
"""
TRACKIO = """
import json, os
os.environ["TRACKIO_DIR"] = "checkpoints/trackio"
import trackio
(run,) = trackio.Api().runs("my_project")
found = {"curves": {}, "pictures": {}}
for row in trackio.SQLiteStorage.get_logs("my_project", run.name):
    for tag, value in row.items():
        if isinstance(value, dict):
            assert os.path.isfile(os.path.join("checkpoints/trackio/media", value["file_path"]))
            found["pictures"].setdefault(tag, []).append(row["step"])
        elif tag not in ("step", "timestamp"):
            found["curves"].setdefault(tag, []).append([row["step"], value])
found["lr"] = run.config["optimizer"]["lr"]
found["code"] = run.config["commit"] + run.config["diff"]
found["packages"] = run.config["start"]["packages"]
print(json.dumps(found))
"""
READ = {"tensorboard": TENSORBOARD, "mlflow": MLFLOW, "wandb": WANDB, "trackio": TRACKIO}


@pytest.fixture
def alone_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate the test: no tracker settings, an empty home folder, no network."""
    for key in list(os.environ):
        if re.match(r"MLFLOW_|WANDB_|TRACKIO_|HF_|DATABRICKS_", key):
            monkeypatch.delenv(key)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(key, "http://127.0.0.1:9")


@pytest.fixture
def tracked(render: Render, tmp_path: Path, tracker: str, alone_at_home: None) -> Path:
    """A project with a tracker, whose README differs from the commit."""
    project = tmp_path / "project"
    shutil.copytree(render(tracker=tracker, data_kind="tabular"), project)
    save(project)
    with (project / "README.md").open("a") as file:
        file.write("one more line\n")
    return project


def command(project: Path, *arguments: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return in_project(project, *arguments, ok=ok)


@pytest.mark.slow
@pytest.mark.parametrize("tracker", of_the_day(TRACKERS, 2))
def test_a_tracker_holds_each_epoch_once_after_a_kill_and_the_test_too(tracked: Path, tracker: str) -> None:
    program = ["-m", "my_project"]
    command(tracked, *program, "train", *TINY)
    folder = tracked / "checkpoints" / "a"
    (folder / "last.pt").unlink()  # as if it was killed after logging the second epoch and before saving it
    command(tracked, *program, "train", "--resume", "a")
    tested = json.loads(command(tracked, *program, "test", "a", "--json").stdout)  # prints nothing but JSON
    command(tracked, *program, "test", "a", "--split", "valid")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))

    found: dict[str, Any] = json.loads(command(tracked, "-c", READ[tracker]).stdout.splitlines()[-1])

    for tag, column in [("loss/train", "train_loss"), ("rmse/valid", "valid_rmse"), ("learning_rate",) * 2]:
        assert [step for step, _ in found["curves"][tag]] == [int(row["step"]) for row in rows] == [2, 4], tag
        values = [float(row[column]) for row in rows]
        assert [value for _, value in found["curves"][tag]] == pytest.approx(values, rel=1e-6), tag
    assert [value for _, value in found["curves"]["loss/test"]] == pytest.approx([tested["loss"]], rel=1e-6)
    assert "loss/test_valid" in found["curves"]
    assert found["pictures"]["loader/train"] == [1, 3]
    assert "result/predicted" in found["pictures"]
    assert found["lr"] == 0.0625
    assert git("rev-parse", "HEAD", cwd=tracked) in found["code"]
    assert "+one more line" in found["code"]
    assert "torch" in found["packages"]
    assert git("status", "--porcelain", cwd=tracked) == "M README.md"  # no untracked files


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["none"])
def test_each_start_of_a_run_is_recorded_with_its_code(tracked: Path) -> None:
    def record() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads((tracked / "checkpoints" / "a" / "provenance.json").read_text())
        return entries

    program = ["-m", "my_project", "train"]
    first = git("rev-parse", "HEAD", cwd=tracked)
    with (tracked / "Makefile").open("a") as file:
        file.write("# staged\n")
    git("add", "Makefile", cwd=tracked)
    command(tracked, *program, *TINY, "train.epochs=1")
    save(tracked)
    (tracked / "new.py").touch()
    command(tracked, *program, "--resume", "a", "train.epochs=2")
    kill = "import os; os.replace = lambda *_: os._exit(9)"
    again = "from my_project.engine import provenance as p; p.record(p.Path('checkpoints/a'), p.torch.device('cpu'))"
    assert command(tracked, "-c", f"{kill}; {again}", ok=False).returncode == 9
    one, two = record()  # no entry for the killed start
    assert [one["commit"], two["commit"]] == [first, git("rev-parse", "HEAD", cwd=tracked)]
    assert [one["diff"], two["diff"]] == ["code-0.diff", None]
    changed = (tracked / "checkpoints" / "a" / "code-0.diff").read_text()
    assert "+one more line" in changed
    assert "+# staged" in changed
    assert [one["untracked"], two["untracked"]] == [[], ["new.py"]]
    assert two["command"][1:] == ["train", "--resume", "a", "train.epochs=2"]
    assert two["packages"]["torch"]
    shutil.rmtree(tracked / ".git")
    command(tracked, "-c", again)
    assert [record()[2][key] for key in ("commit", "diff", "untracked")] == [None, None, []]


@pytest.mark.slow
@pytest.mark.parametrize("tracker", of_the_day(TRACKERS, 2))
def test_a_signal_to_the_whole_job_still_saves_and_exits_with_75(tracked: Path, tracker: str) -> None:
    """Ctrl-C and Slurm also signal workers and the tracker's process; if these die first, the run must still save."""
    program = [sys.executable, "-m", "my_project", "train", *TINY, "train.epochs=10000", "data.workers=1"]
    log = tracked / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            program,
            cwd=tracked,
            env=os.environ | {"PYTHONPATH": "src", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 240
            while "\nepoch 2/" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(60) == 75, log.read_text()
        finally:
            process.kill()
    assert "stopped by SIGTERM, saved at step" in log.read_text()
    if tracker == "mlflow":
        status = "from mlflow import MlflowClient as C; print(C('sqlite:///checkpoints/mlflow.db').search_runs('1')[0].info.status)"
        assert command(tracked, "-c", status).stdout.split()[-1] == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "settings", "message"),
    [
        ("mlflow", {}, "error: run.tracker: mlflow: (sqlite3.DatabaseError) file is not a database"),
        ("wandb", {"WANDB_MODE": "online"}, "error: run.tracker: wandb: No API key configured"),
    ],
)
def test_a_tracker_that_cannot_start_is_an_error_of_one_line(
    tracked: Path, settings: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tracked / "checkpoints" / "mlflow.db").write_text("This is text, and no database at all.\n")
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    done = command(tracked, "-m", "my_project", "train", *TINY, ok=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
    assert not (tracked / "checkpoints" / "a").exists()


@pytest.mark.slow
def test_a_text_among_the_pictures_of_a_test_is_left_out(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(tracker="tensorboard", data_kind="language_modeling"), project)
    quick = ["train.epochs=1", "train.limit_batches=1", "run.name=a", "run.device=cpu"]
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", "configs/debug.yaml", *quick)
    said = in_project(project, "-m", "my_project", "test", "a").stdout
    assert "images/result/generated.txt" in said
