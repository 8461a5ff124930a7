"""Real faults lose nothing that was saved, and print the messages that docs/faults.md of the project shows."""

import csv
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import Render, in_project, of_the_day, run, start

pytestmark = pytest.mark.slow

TRAIN = ["-m", "my_project", "train", "configs/train.yaml", "run.name=a-run", "run.device=cpu"]
QUICK = ["model.args.width=4", "train.epochs=3", "train.log_every=10"]
RESUME = ["-m", "my_project", "train", "--resume"]
STEPS = 25  # of an epoch
SHORT = ["model.args.width=4", "train.epochs=2", "train.limit_batches=3", "checkpoint.every_steps=2"]


@pytest.fixture(scope="session")
def fresh(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data are unpacked: read it, or copy it."""
    project = tmp_path_factory.mktemp("faults") / "project"
    shutil.copytree(render(), project)
    in_project(project, "-m", "my_project", "train", "--smoke")
    return project


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Path:
    shutil.copytree(fresh, tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="session")
def undisturbed(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last checkpoint of an uninterrupted run."""
    project = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(fresh, project)
    in_project(project, *TRAIN, *QUICK)
    return last(project)


def last(project: Path) -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(project / "checkpoints/a-run/last.pt", weights_only=True)
    return contents


def assert_resumes(project: Path, undisturbed: dict[str, Any]) -> None:
    """Resume the run: its results must be those of an uninterrupted one."""
    in_project(project, *RESUME)
    torch.testing.assert_close(last(project)["model"], undisturbed["model"], rtol=0, atol=0)
    assert last(project)["scheduler"] == undisturbed["scheduler"]


def assert_documented(project: Path, title: str, done: "subprocess.CompletedProcess[str]") -> None:
    """docs/faults.md must show, under this title, the exit status and all output except the progress."""
    said = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if not re.match(r"  step|epoch|train\.epochs is|\S+: cnn,", line)
    ]
    page = (project / "docs" / "faults.md").read_text()
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    text = sections.get(title, "")
    shown = "\n".join(re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S))
    assert counted("\n".join(said)) == counted(shown.rstrip("\n")), f"{title}:\n" + "\n".join(said)
    assert f"Exit status {done.returncode}." in text


def counted(text: str) -> str:
    """The text without what varies: numbers of steps, and process IDs."""
    text = re.sub(r"process \d+ on \S+", "process N on HOST", text)
    return re.sub(r"(step[ -]|pid |pid\(s\) )0*\d+", r"\1N", text)


def interrupt(project: Path, when: str, do: Callable[[subprocess.Popen[str]], object], *settings: str) -> Any:
    """Train; as soon as a line with `when` is printed, do something to the process. Returns how it ended."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *TRAIN, *QUICK, *settings]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project, env=environment, **pipes)  # type: ignore[call-overload]
    said = ""
    for line in process.stdout:
        said += line
        if when in line:
            do(process)
            break
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, said + out, err)


SIGNALS = [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "status"), of_the_day(SIGNALS, 1), ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_saves_the_state_and_ends_the_run(
    number: signal.Signals, status: int, workers: int, project: Path, undisturbed: dict[str, Any]
) -> None:
    # To all processes of the run, as a terminal and a cluster do.
    def send(process: subprocess.Popen[str]) -> None:
        for child in children(process.pid):
            os.kill(child, number)
        process.send_signal(number)

    done = interrupt(project, "step 30", send, f"data.workers={workers}")
    assert done.returncode == status
    if workers == 0:
        assert_documented(project, f"The run gets {number.name}", done)
    assert STEPS < last(project)["step"] < 3 * STEPS
    assert_resumes(project, undisturbed)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def test_a_run_that_is_killed_resumes_from_its_last_checkpoint(project: Path, undisturbed: dict[str, Any]) -> None:
    done = interrupt(project, "step 40", lambda process: process.kill(), "checkpoint.every_steps=10")
    assert done.returncode == -signal.SIGKILL
    assert_resumes(project, undisturbed)


def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(project: Path, undisturbed: dict[str, Any]) -> None:
    in_project(project, *TRAIN, *QUICK)
    damaged = project / "checkpoints" / "a-run" / "last.pt"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    done = in_project(project, *RESUME)
    said = done.stdout.replace(re.findall(r"trained in.*", done.stdout, flags=re.S)[0], "")
    done.stdout = said
    assert_documented(project, "last.pt is damaged", done)
    torch.testing.assert_close(last(project)["model"], undisturbed["model"], rtol=0, atol=0)


def test_a_full_disk_leaves_the_last_good_checkpoint(project: Path, undisturbed: dict[str, Any]) -> None:
    (project / "disk").mkdir()
    # The third checkpoint does not fit. The others are copied before the disk is unmounted.
    script = 'mount -t tmpfs -o size=300k tmpfs disk && { "$@"; status=$?; cp -r disk/. checkpoints; exit $status; }'
    train = [sys.executable, *TRAIN, *QUICK, "run.checkpoints=disk", "checkpoint.every_steps=5", "checkpoint.keep=9"]
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    done = run(*alone, *train, cwd=project, ok=False, PYTHONPATH=str(project / "src"))
    assert_documented(project, "The disk is full", done)
    assert 0 < last(project)["step"] < 3 * STEPS
    in_project(project, *RESUME, "run.checkpoints=checkpoints", "checkpoint.keep=2")
    torch.testing.assert_close(last(project)["model"], undisturbed["model"], rtol=0, atol=0)


def test_a_non_finite_loss_stops_the_run_and_keeps_the_state_before(project: Path) -> None:
    in_project(project, *TRAIN, *QUICK, "train.epochs=1")
    before = last(project)
    with (project / "src/my_project/transforms.py").open("a") as file:
        file.write('\n\ndef poison(image, target, rng):\n    return image * float("nan"), target\n')
    done = in_project(project, *RESUME, "train.epochs=3", "data.transforms={poison: {}}", ok=False)
    assert_documented(project, "The loss is no longer a number", done)
    torch.testing.assert_close(last(project)["model"], before["model"], rtol=0, atol=0)
    assert all(weight.isfinite().all() for weight in last(project)["model"].values())


def test_non_finite_values_are_never_saved(project: Path) -> None:
    """Found before a line is logged, too: when it is time to save."""
    with (project / "src/my_project/transforms.py").open("a") as file:
        file.write('\n\ndef poison(image, target, rng):\n    return image * float("nan"), target\n')
    poisoned = ["data.transforms={poison: {}}", "train.log_every=999", "checkpoint.every_steps=5"]
    done = in_project(project, *TRAIN, *QUICK, *poisoned, ok=False)
    assert done.returncode == 2
    assert "the loss is nan at step 5" in done.stderr
    assert not (project / "checkpoints" / "a-run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_and_what_was_trained_is_saved(
    workers: int, project: Path, undisturbed: dict[str, Any]
) -> None:
    image = sorted((project / "data/train/7").glob("*.png"))[3]
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    done = in_project(project, *TRAIN, *QUICK, f"data.workers={workers}", ok=False)
    assert_documented(project, "A sample is broken", done)
    assert 0 < last(project)["step"] < STEPS
    image.write_bytes(whole)
    assert_resumes(project, undisturbed)


def test_an_image_that_goes_away_during_the_run_is_named(project: Path, undisturbed: dict[str, Any]) -> None:
    image = sorted((project / "data/train/7").glob("*.png"))[3]
    whole = image.read_bytes()
    done = interrupt(project, "step 10", lambda process: image.unlink())
    assert_documented(project, "A sample goes away", done)
    image.write_bytes(whole)
    assert_resumes(project, undisturbed)


def test_a_worker_that_is_killed_ends_the_run_with_its_state_saved(project: Path, undisturbed: dict[str, Any]) -> None:
    def kill_worker(process: subprocess.Popen[str]) -> None:
        os.kill(children(process.pid)[-1], signal.SIGKILL)

    done = interrupt(project, "step 30", kill_worker, "data.workers=2")
    done.stdout = re.sub("saved at .*\n", "", done.stdout)  # missing if the error comes in the middle of a step
    # A thread of Python's prints a traceback if the worker was just handing over a batch; the end of the process may
    # cut it off. The other worker says so, too.
    done.stderr = re.sub(r"Traceback .*?\nConnectionResetError: .*?\n", "", done.stderr, flags=re.S)
    of_thread = r'Traceback \(most recent call last\):\n  File "[^"]*resource_sharer\.py".*?(\n\w+Error\b.*?\n|\Z)'
    done.stderr = re.sub(of_thread, "", done.stderr, flags=re.S)
    assert_documented(project, "A data worker is killed", done)
    assert_resumes(project, undisturbed)


def test_an_error_of_one_process_ends_all_with_its_message(project: Path) -> None:
    image = sorted((project / "data/train/7").glob("*.png"))[3]
    image.write_bytes(b"")
    launch = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
    started = time.monotonic()
    done = in_project(project, *launch, *TRAIN, *QUICK, ok=False, cold=True)
    assert time.monotonic() - started < 60
    done.stderr = "\n".join(line for line in done.stderr.splitlines() if not re.match(r"[WE]\d{4} ", line))
    assert_documented(project, "One of several processes fails", done)


def test_the_message_of_one_process_is_not_lost_while_the_others_end(project: Path) -> None:
    """torchrun ends all processes once one has ended: here, while the one that prints the error is slow."""
    (project / "slow").mkdir()
    code = "import builtins, time\nsay = builtins.print\n\n\ndef slowly(*words, **options):\n"
    code += "    time.sleep(1.5 * str(words).count('error'))\n    say(*words, **options)\n\n\nbuiltins.print = slowly\n"
    (project / "slow" / "sitecustomize.py").write_text(code)
    launch = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
    paths = os.pathsep.join([str(project / "src"), str(project / "slow")])
    done = in_project(project, *launch, *TRAIN, "checkpoint.monitor=beauty", ok=False, cold=True, PYTHONPATH=paths)
    assert done.returncode == 2
    assert "checkpoint.monitor: no metric 'beauty'" in done.stderr


# --- one process owns a run ---


def test_a_second_resume_is_refused_and_names_the_process(project: Path, undisturbed: dict[str, Any]) -> None:
    second: list[Any] = []

    def resume(process: subprocess.Popen[str]) -> None:
        second.append(in_project(project, *RESUME, "a-run", ok=False))

    first = interrupt(project, "epoch 1", resume, "data.workers=2")
    [done] = second
    owner = (project / "checkpoints/a-run/provenance.json").read_text().count('"started"')
    assert (first.returncode, done.returncode, owner) == (0, 2, 1)
    assert_documented(project, "Two processes train one run", done)
    torch.testing.assert_close(last(project)["model"], undisturbed["model"], rtol=0, atol=0)


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(project: Path, undisturbed: dict[str, Any]) -> None:
    """Also while one of its data workers is still running."""
    stopped: list[int] = []

    def kill(process: subprocess.Popen[str]) -> None:
        stopped.extend(children(process.pid))
        for child in stopped:
            os.kill(child, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert_resumes(project, undisturbed)
        for child in stopped:
            os.kill(child, signal.SIGKILL)

    interrupt(project, "epoch 1", kill, "data.workers=2")
    assert stopped


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_simultaneous_starts_with_one_name_pattern_are_separate_runs(project: Path, count: int) -> None:
    words = ["-m", "my_project", "train", "configs/train.yaml", *SHORT, "train.epochs=1", "run.name={date:.8s}"]
    with open(os.devnull, "r+b") as nothing:
        processes = [start(project, *words, "run.device=cpu", files=[nothing] * 3) for _ in range(count)]
    assert [process.wait() for process in processes] == [0] * count
    runs = sorted((project / "checkpoints").glob("*/last.pt"))
    assert len({path.parent.name for path in runs}) == count
    assert all(torch.load(path, weights_only=True)["epoch"] == 1 for path in runs)


def test_of_simultaneous_starts_with_one_name_only_one_trains(project: Path, undisturbed: dict[str, Any]) -> None:
    with open(os.devnull, "r+b") as nothing:
        processes = [start(project, *TRAIN, *QUICK, files=[nothing] * 3) for _ in range(3)]
    assert sorted(process.wait() for process in processes) == [0, 2, 2]
    torch.testing.assert_close(last(project)["model"], undisturbed["model"], rtol=0, atol=0)
    assert len(list((project / "checkpoints").iterdir())) == 2  # and README.md


def test_an_input_that_cannot_be_read_is_skipped_by_run(project: Path) -> None:
    in_project(project, *TRAIN, *SHORT)
    done = in_project(project, "-m", "my_project", "run", "gone.png", "images/sample", ok=False)
    assert len(done.stdout.splitlines()) == 3
    done.stdout, (_, _, done.stderr) = "", done.stderr.partition("\n")  # without the checkpoint's name
    assert_documented(project, "An input cannot be read", done)


# --- every call that changes a file fails once ---

WAYS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "killed": 0}


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[warm.Server]:
    """A server that starts commands in which `faults.c` intercepts operations on files."""
    if not warm.AVAILABLE or not shutil.which("cc"):
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("library") / "faults.so"
    run("cc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("faults.c"), "-ldl", cwd=library.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        server = warm.Server()
    yield server
    server.stop()


def train_with_a_fault(server: warm.Server, project: Path, folder: Path, at: int, way: str) -> Any:
    """Train a short run in a folder; one of its file operations fails."""
    folder.mkdir()
    fault = {"FAULT_FOLDER": str(folder), "FAULT_LOG": f"{folder}.log"}
    fault |= {"FAULT_AT": str(at), "FAULT_ERRNO": str(WAYS[way])}
    places = [f"run.checkpoints={folder}/checkpoints", f"run.images={folder}/images"]
    env = {"PYTHONPATH": str(project / "src"), "SKETCH": "1"} | fault
    return server.run([*TRAIN, *SHORT, *places], project, os.environ | env)


def outcome(folder: Path) -> dict[str, Any]:
    """The results of a run without times: the last checkpoint, the best one, and the rows of metrics.csv."""
    at = folder / "checkpoints" / "a-run"
    kept = ("model", "optimizer", "scheduler", "rng", "epoch", "step", "best")
    last: dict[str, Any] = torch.load(at / "last.pt", weights_only=True)
    best: dict[str, Any] = torch.load(at / last["best"]["file"], weights_only=True)
    with (at / "metrics.csv").open() as file:
        rows = [row | {"seconds": ""} for row in csv.DictReader(file)]
    return {"last": {key: last[key] for key in kept}, "best": {key: best[key] for key in kept}, "rows": rows}


def plain(value: Any) -> Any:
    """The same value with the bytes of tensors, to compare bit for bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def recovers(project: Path, folder: Path, done: "subprocess.CompletedProcess[str]", whole: dict[str, Any]) -> None:
    """Resume the run, or start it again if it saved nothing: its results must be those of an uninterrupted one."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 2, -signal.SIGKILL), done
    assert (done.returncode == 2) == bool(re.search("^error: ", done.stderr, flags=re.M)), done
    places = [f"run.checkpoints={folder}/checkpoints", f"run.images={folder}/images"]
    again = in_project(project, *RESUME, "a-run", "--checkpoints", folder / "checkpoints", ok=False)
    if again.returncode:
        assert (again.returncode, again.stderr.count("\n")) == (2, 1), again
        if "epochs are done" not in again.stderr:
            assert not list(folder.rglob("*.pt")), again
            in_project(project, *TRAIN, *SHORT, *places)
    assert plain(outcome(folder)) == plain(whole)


@pytest.mark.parametrize("count", [6, pytest.param(0, marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_a_call_that_fails_once_loses_no_run(count: int, preloaded: warm.Server, fresh: Path, tmp_path: Path) -> None:
    """`make kill-test` tries all calls, each in all of WAYS."""
    project = shutil.copytree(fresh, tmp_path / "project")
    train_with_a_fault(preloaded, project, tmp_path / "whole", 0, "EIO")
    whole, calls = outcome(tmp_path / "whole"), (tmp_path / "whole.log").read_text().splitlines()
    points = [(at, way) for at in range(1, len(calls) + 1) for way in WAYS]
    for at, way in random.Random(int(os.environ["SEED"])).sample(points, count) if count else points:
        folder = tmp_path / f"{at}-{way}"
        done = train_with_a_fault(preloaded, project, folder, at, way)
        print(f"{at} of {len(calls)}, {calls[at - 1]}: {way}, exit status {done.returncode}", flush=True)
        recovers(project, folder, done, whole)
        shutil.rmtree(folder)
