"""The extras `sweep` and `submitit`, with the real Optuna and submitit: stopped, killed, several at once."""

import csv
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import conftest
import pytest
import torch
from conftest import Process, Render, copy, in_project, run, turn

pytestmark = pytest.mark.slow

QUICK = ["train.log_every=1000", "run.device=cpu"]
GRID = ["optimizer.lr=[0.1, 0.2]", "optimizer.weight_decay=0", "model.args.dropout=0"]


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with both extras; each test has its own sweep in it."""
    folder = tmp_path_factory.mktemp("sweeps") / "project"
    copy(template, folder, extras="submitit", data_kind="custom")
    in_project(folder, "-m", "my_project", "train", *QUICK, "--smoke")  # unpacks the sample
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "my_project", *arguments, *QUICK]


def start(project: Path, *arguments: str, log: str = "log.txt") -> subprocess.Popen[bytes]:
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    with open(project / log, "ab") as file:
        return subprocess.Popen(command(*arguments), cwd=project, env=env, stdout=file, stderr=file)


def begin(project: Path, *arguments: str) -> Process:
    """Like `start`, but warm and faster, for tests that send no signal."""
    with open(os.devnull, "r+b") as nothing:
        return conftest.start(project, *arguments, files=[nothing] * 3)


def until(happened: Callable[..., object], *arguments: Any) -> None:
    end = time.monotonic() + 240
    while not happened(*arguments):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def epochs(run: Path) -> int:
    table = run / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.is_file() else 0


@turn(0, of=3)
def test_a_stopped_and_killed_sweep_ends_like_an_uninterrupted_one(project: Path) -> None:
    space = {"optimizer": {"lr": {"low": 1e-3, "high": 1e-1, "log": True}}, "sweep": {"pruner": "none"}}
    sweep = ["sweep", "train.epochs=12", spaced(project, **space), "--trials=3"]
    whole, broken = (project / "checkpoints" / f"sweep-{name}" for name in ("whole", "broken"))
    in_project(project, *command(*sweep, "--study=whole")[1:])
    for number, sign in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
        process = start(project, *sweep, "--study=broken")
        until(lambda run: epochs(run) > 2, broken / f"trial-00{number}")
        process.send_signal(sign)
        assert process.wait() == {signal.SIGTERM: 75, signal.SIGKILL: -9, signal.SIGINT: 130}[sign]
    in_project(project, *command(*sweep, "--study=broken")[1:])
    assert rows(broken) == rows(whole)
    assert [row["state"] for row in rows(broken)] == ["complete"] * 3
    for trial in ("trial-000", "trial-001", "trial-002"):
        one, other = (torch.load(folder / trial / "last.pt", weights_only=True) for folder in (whole, broken))
        torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


def spaced(project: Path, **sections: Any) -> str:
    """The option `--space` with a file of these sections."""
    path = project / f"space-{abs(hash(str(sections)))}.json"
    path.write_text(json.dumps(sections))
    return f"--space={path.name}"


def test_a_bad_trial_is_pruned(project: Path) -> None:
    space = {"optimizer": {"lr": {"low": 1e-6, "high": 1e-2, "log": True}}, "sweep": {"startup": 2}}
    goal = ["checkpoint.monitor=loss", "checkpoint.mode=min", "train.epochs=4", "--trials=6"]
    in_project(project, *command("sweep", spaced(project, **space), *goal, "--study=bad")[1:])
    found = rows(project / "checkpoints" / "sweep-bad")
    bad = [row for row in found if row["state"] == "pruned"]
    assert bad
    assert {row["epochs"] for row in bad} <= {"2", "3"}
    best = min(found, key=lambda row: float(row["loss"]))
    assert (best["state"], best["epochs"]) == ("complete", "4")
    space["sweep"] = {"startup": 2, "pruner": "none"}
    in_project(project, *command("sweep", spaced(project, **space), *goal, "--study=all")[1:])
    assert {row["epochs"] for row in rows(project / "checkpoints" / "sweep-all")} == {"4"}


@pytest.mark.parametrize("storage", [[], ["--storage=checkpoints/journal.log"], ["--grid"], ["--seeds=1"]])
def test_processes_share_a_sweep(project: Path, storage: list[str]) -> None:
    lists = {"optimizer": {"lr": [0.001, 0.01]}, "model": {"args": {"dropout": [0.0, 0.1, 0.2]}}}
    study = f"--study=shared-{len(''.join(storage))}"
    some: dict[str, Any] = {"optimizer": {"lr": {"low": 1e-3, "high": 1e-1}}, "sweep": {"pruner": "none"}}
    kind = {"--grid": "grid", "--seeds=1": "seeds"}.get("".join(storage), "sweep")
    space = spaced(project, **(some if kind == "sweep" else lists))
    arguments = ["sweep", space, *storage, "train.epochs=3", study, "--trials=6"]
    both = [begin(project, *command(*arguments)[1:]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    in_project(project, *command(*arguments, "--show")[1:])
    found = rows(project / "checkpoints" / study.replace("--study=", f"{kind}-"))
    assert [row["trial"] for row in found] == ["0", "1", "2", "3", "4", "5"]
    assert {row["state"] for row in found} == {"complete"}
    assert len({tuple(row.values())[4:] for row in found}) == 6


@turn(1, of=3)
def test_seeds_of_a_killed_sweep_have_the_averages_of_an_unkilled_one(project: Path) -> None:
    sweep = ["sweep", "model.args.width=[8, 16]", "train.epochs=8", "--test"]
    whole, broken = (project / "checkpoints" / f"seeds-{name}" for name in ("whole", "broken"))
    in_project(project, *command(*sweep, "--seeds=3", "--study=whole")[1:])
    process = start(project, *sweep, "--seeds=2", "--study=broken")
    until(lambda run: epochs(run) > 2, broken / "trial-001")
    process.kill()
    process.wait()
    for seeds in ("2", "3"):
        in_project(project, *command(*sweep, f"--seeds={seeds}", "--study=broken")[1:])
    assert rows(broken) == rows(whole)
    assert [row["run.seed"] for row in rows(broken)] == ["0", "0", "1", "1", "2", "2"]
    assert len({row["test loss"] for row in rows(broken)}) == 6
    with (broken / "seeds.csv").open() as file:
        averages = list(csv.DictReader(file))
    for number, row in enumerate(averages):
        for name, title in (("acc", "valid acc"), ("test loss", "test loss")):
            figures = [float(trial[name]) for trial in rows(broken)[number::2]]
            assert float(row[f"{title} mean"]) == pytest.approx(statistics.mean(figures))
            assert float(row[f"{title} deviation"]) == pytest.approx(statistics.stdev(figures))
    assert [(row["model.args.width"], row["seeds"]) for row in averages] == [("8", "3"), ("16", "3")]


KILLED = """if True:
    import os, signal, sys
    from my_project.cli import main
    from my_project.engine import loop
    def until(left, function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    os.link = until(int(sys.argv[1]), os.link)
    loop.train_step = until(int(sys.argv[2]), loop.train_step)
    main(sys.argv[3:])
"""


@pytest.mark.parametrize("folds", [2, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_folds_of_a_killed_sweep_are_those_of_an_unkilled_one(template: Path, tmp_path: Path, folds: int) -> None:
    copy(template, tmp_path / "project", extras="sweep")
    project, short = tmp_path / "project", ["train.epochs=2", "train.limit_batches=2"]
    sweep = ["sweep", f"--folds={folds}", "--test", *short, *QUICK]
    in_project(project, "-m", "my_project", *sweep, "--study=whole")
    shutil.rmtree(project / "data" / "folds")
    limits = [("1500", "0"), ("9999", "3"), ("9999", "2"), ("9999", "3"), ("9999", "6")]
    for links, steps in limits[: max(3, folds)]:
        killed = in_project(project, "-c", KILLED, links, steps, *sweep, "--study=broken", ok=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    in_project(project, "-m", "my_project", *sweep, "--study=broken")
    whole, broken = (project / "checkpoints" / f"folds-{name}" for name in ("whole", "broken"))
    for name in ("results.csv", "folds.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert [row["fold"] for row in rows(broken)] == [str(fold) for fold in range(folds)]
    assert len({row["test loss"] for row in rows(broken)}) == folds
    assert len([path for path in (project / "data" / "folds").iterdir() if path.is_dir()]) == 1


def test_processes_make_the_folds_once_and_share_them(project: Path) -> None:
    arguments = ["sweep", "--folds=4", "--study=shared", "train.epochs=1", "run.seed=7"]
    both = [begin(project, *command(*arguments)[1:]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    in_project(project, *command(*arguments, "--show")[1:])
    found = rows(project / "checkpoints" / "folds-shared")
    assert [(row["fold"], row["state"]) for row in found] == [(str(fold), "complete") for fold in range(4)]
    assert len([*(project / "data" / "folds").glob("4-7-*")]) == 1


def test_folds_are_even_and_keep_samples_of_one_key_together(project: Path) -> None:
    code = """if True:
        import random
        from collections import Counter
        from pathlib import Path
        from my_project.commands._folds import deal
        for seed in range(300):
            draw = random.Random(seed)
            folds, keys = draw.randint(2, 6), draw.choice([20, 10**9])
            power = 3 if keys == 20 else 1  # some keys have many samples
            drawn = [int(keys * draw.random() ** power) for _ in range(draw.randint(40, 90))]
            samples = [(key, "ab"[key % 3 > 1]) for key in drawn]
            of = deal(samples, folds, seed, Path("data"))
            assert of == deal(samples, folds, seed, Path("data"))
            assert len({*zip([key for key, _ in samples], of)}) == len({key for key, _ in samples})
            for label in "ab":
                counts = Counter(fold for (_, own), fold in zip(samples, of) if own == label)
                groups = {key for key, own in samples if own == label}
                assert len(counts) == min(folds, len(groups))
                assert keys == 20 or max(counts.values()) - min(counts[fold] for fold in range(folds)) <= 1
            totals = Counter(of)
            assert keys == 20 or max(totals.values()) - min(totals.values()) <= 1
    """
    in_project(project, "-c", code)


def test_folds_have_what_is_linked_also_without_hard_links(project: Path) -> None:
    code = """if True:
        import os
        from pathlib import Path
        from my_project.commands import _folds
        from my_project.config import load
        from my_project.errors import UserError
        from my_project.options import Config
        def link(*_):
            raise PermissionError("no hard links here")
        test = Path("data/test/points.csv")
        Path("outside.csv").write_bytes(test.read_bytes())
        test.unlink()
        test.symlink_to("../../outside.csv")
        Path("elsewhere").mkdir()
        more = Path("elsewhere/more.csv")
        more.write_text("x,y,class\\n")
        Path("data/test/linked").symlink_to("../../elsewhere")
        for seed in (8, 9):
            config = load(Config, ["configs/train.yaml"], [f"run.seed={seed}"])
            for fold in _folds.make(config, 2):
                made = Path(fold, "test", "points.csv")
                assert made.read_bytes() == Path("outside.csv").read_bytes()
                assert not made.is_symlink() and made.samefile("outside.csv") == (seed == 8)
                assert Path(fold, "test", "linked", "more.csv").samefile(more)
            os.link = link
        Path("data/.DS_Store").touch()
        assert Path(fold) in map(Path, _folds.make(config, 2))
        more.write_text("x,y,class\\n1,2,0\\n")
        assert Path(fold) not in map(Path, _folds.make(config, 2))
        Path("data/test").rename("away")
        _folds.make(config, 2)
        try:
            _folds.make(config, 2, test=True)
        except UserError as error:
            assert str(error) == "--test: data/test: no such folder; add it, or omit --test"
        else:
            raise AssertionError("known only after the training")
    """
    in_project(project, "-c", code)


def test_failed_trials_with_others_between_do_not_end_a_sweep(project: Path) -> None:
    code = """if True:
        from my_project.commands import sweep
        class Trials:
            left = [sweep.UserError("bad"), None] * 4
            def claim(self):
                return type("Trial", (), {"number": 0, "options": {}})() if self.left else None
            def finish(self, trial, state):
                pass
        def train(made, trials, trial):
            if error := Trials.left.pop():
                raise error
        sweep.train = train
        sweep.work(None, Trials())
        print("all of them")
    """
    assert in_project(project, "-c", code).stdout.endswith("all of them\n")


def test_a_trial_killed_between_a_row_and_its_checkpoint_resumes_right(project: Path) -> None:
    """The metrics row is written before the checkpoint, so the epoch is trained again."""
    code = """if True:
        import sys, types
        from pathlib import Path
        from my_project.cli import build_parser
        from my_project.commands import sweep
        run = Path("checkpoints/killed")
        plan = sweep.plan(build_parser().parse_args(["sweep", *sys.argv[1:]]))
        trials = types.SimpleNamespace(path=lambda number: run, report=lambda trial: False)
        for _ in range(2):
            trial = types.SimpleNamespace(number=0, options={"optimizer.lr": 0.1}, figures=[])
            sweep.train(plan, trials, trial)
            last = (run / "metrics.csv").read_text().splitlines()[-1]
            with (run / "metrics.csv").open("a") as file:
                file.write(last + "\\n")
        print(len(trial.figures))
    """
    settings = ["optimizer.lr=[0.1, 0.2]", "train.epochs=2", *QUICK]
    assert in_project(project, "-c", code, *settings).stdout.endswith("\n2\n")


def test_a_trial_names_its_model_before_the_arguments_that_a_name_resets(project: Path) -> None:
    """Otherwise `model.name` would reset `model.args`, and the trial would train with default arguments."""
    code = """if True:
        import sys
        from my_project.cli import build_parser
        from my_project.commands import sweep
        plan = sweep.plan(build_parser().parse_args(["sweep", *sys.argv[1:]]))
        print(*plan.settings({"model.name": "mlp", "model.args.dropout": 0.1}), sep="\\n")
    """
    said = in_project(project, "-c", code, "optimizer.lr=[0.1, 0.2]", "model.args.dropout=[0.1, 0.2]").stdout
    settings = [line.partition("=")[0] for line in said.splitlines()]
    assert settings.index("model.name") < settings.index("model.args.dropout")


def test_submit_passes_all_options_of_sweep_to_its_jobs(project: Path) -> None:
    """With a stand-in for submitit, which records what it would submit."""
    code = """if True:
        import sys, types
        sent = []
        class Executor:
            def __init__(self, folder, cluster): pass
            def update_parameters(self, **options): pass
            def batch(self): return __import__("contextlib").nullcontext()
            def submit(self, job):
                sent.append(job.arguments)
                paths = types.SimpleNamespace(stdout="log")
                return types.SimpleNamespace(job_id=len(sent), paths=paths)
        sys.modules["submitit"] = types.SimpleNamespace(AutoExecutor=Executor)
        from my_project.cli import main
        main(["submit", *sys.argv[1:]])
        print(*sent, sep="\\n")
    """
    options = ["--grid", "--study=sent", "--jobs=2", "--trials=2", "--seeds=3", "--folds=2", *GRID]
    said = in_project(project, "-c", code, *options).stdout.splitlines()[-2:]
    assert said == [str([*GRID, "--trials=2", "--study=sent", "--seeds=3", "--folds=2", "--grid"])] * 2


def test_the_printed_command_trains_like_the_best_trial(project: Path) -> None:
    arguments = ["sweep", "train.epochs=2", "--study=best", "--trials=2"]
    done = in_project(project, *command(*arguments)[1:])
    best = done.stdout.splitlines()[-2].split("trial ")[1][0]
    again = in_project(project, *shlex.split(done.stdout.splitlines()[-1])[1:], "run.name=again")
    assert "trained in" in again.stdout
    shown = in_project(project, "-m", "my_project", "sweep", "--show", "--study=best").stdout
    assert shown.splitlines() == done.stdout.splitlines()[-len(shown.splitlines()) :], "without the settings"
    assert len(shown.splitlines()) == 1 + 2 + 4
    none = in_project(project, "-m", "my_project", "sweep", "--show", "--study=nowhere", ok=False).stderr
    assert "sweep-nowhere: no such sweep; there are: " in none
    assert "sweep-best" in none
    other = in_project(project, *command("sweep", "train.epochs=3", "--study=best")[1:], ok=False).stderr
    assert "sweep-best: a sweep with another train; set another name: --study NAME" in other
    runs = project / "checkpoints" / f"sweep-best/trial-00{best}", project / "checkpoints" / "again"
    one, other = (torch.load(folder / "last.pt", weights_only=True) for folder in runs)
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


def test_a_sweep_refuses_torchrun(project: Path) -> None:
    done = run(*command("sweep"), cwd=project, ok=False, WORLD_SIZE="2", PYTHONPATH=str(project / "src"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: torchrun: a trial uses one process")


@turn(2, of=3)
def test_jobs_share_a_sweep_and_one_at_its_time_limit_resumes(project: Path) -> None:
    space = {"optimizer": {"lr": {"low": 1e-3, "high": 1e-1}}, "sweep": {"pruner": "none"}}
    sweep = ["train.epochs=30", spaced(project, **space), "--study=jobs", "--trials=3"]
    submitted = start(project, "submit", *sweep, "--cluster=local", "--jobs=2", "--minutes=10", log="submit.txt")
    assert submitted.wait() == 0
    logs = [Path(line.partition(": ")[2]) for line in (project / "submit.txt").read_text().splitlines()]
    assert len(logs) == 2
    folder = project / "checkpoints" / "sweep-jobs"
    until(lambda: epochs(folder / "trial-000") > 3)
    task = next(pid for pid in processes("submitit.core._submit") if str(folder) in pid[1])
    os.kill(task[0], signal.SIGUSR2)  # Slurm sends it before the time limit
    until(lambda: all("completed successfully" in log.read_text() for log in logs))
    in_project(project, *command("sweep", *sweep, "--show")[1:])
    assert [(row["state"], row["epochs"]) for row in rows(folder)] == [("complete", "30")] * 3


def processes(name: str) -> list[tuple[int, str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # the process has ended
        if name in line:
            found.append((int(path.parent.name), line))
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster=slurm"], "error: sweep.storage: several nodes can't share SQLite's file; set --storage "),
        (["--cluster=slurm", "--grid", *GRID], "error: slurm: Could not detect"),
        (["--cluster=slurm", "--storage=checkpoints/trials.log"], "error: slurm: Could not detect"),
        (["--slurm=account"], "error: --slurm account: write each as KEY=VALUE"),
        (["optimizer.lr=-1"], "error: command line: optimizer.lr: should be greater than 0, got -1"),
    ],
)
def test_a_mistake_is_reported_before_a_job_is_submitted(project: Path, arguments: list[str], message: str) -> None:
    done = in_project(project, *command("submit", "--study=none", *arguments)[1:], ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


def test_a_grid_continues_after_trial_999(project: Path) -> None:
    code = """if True:
        import sys
        from my_project.cli import build_parser
        from my_project.commands import _trials, sweep
        grid = _trials.Grid(sweep.plan(build_parser().parse_args(["sweep", "--grid", "--study=many", *sys.argv[1:]])))
        for number in (1000, 999):
            assert grid.lock_trial(number)
            grid.finish(_trials.Trial(number, {}), "complete")
        print([trial.number for trial in grid.all()])
    """
    assert in_project(project, "-c", code, *GRID).stdout == "[999, 1000]\n"


def test_a_sweep_killed_before_its_first_trial_starts_again(project: Path) -> None:
    sweep = ["--study=early", "--trials=1", "train.epochs=1", "train.limit_batches=1"]
    kill = "import os, sys; os.replace = lambda *_: os._exit(9); from my_project.cli import main; main(sys.argv[1:])"
    killed = in_project(project, "-c", kill, "sweep", *sweep, *QUICK, ok=False)
    assert killed.returncode == 9
    in_project(project, *command("sweep", *sweep)[1:])
    assert [row["state"] for row in rows(project / "checkpoints" / "sweep-early")] == ["complete"]


def test_the_search_space_is_the_same_in_every_format(render: Render) -> None:
    code = "from my_project.commands import sweep; from my_project.cli import build_parser\n"
    code += "plan = sweep.plan(build_parser().parse_args(['sweep'])); print(plan.fixed, plan.tried, plan.sweep)"
    formats = ("yaml", "json", "ini", "py")
    plans = {in_project(render(extras="sweep", config_format=f), "-c", code).stdout for f in formats}
    assert len(plans) == 1
    assert "optimizer.lr" in plans.pop()


@pytest.mark.parametrize("kind", ["image_classification", "object_detection", "language_modeling"])
def test_each_kind_trains_with_its_search_space(template: Path, tmp_path: Path, kind: str) -> None:
    copy(template, tmp_path / "project", extras="sweep", data_kind=kind, config_format="ini")
    once = ["train.epochs=1", "train.limit_batches=1", "--trials=1"]
    in_project(tmp_path / "project", *command("sweep", *once)[1:])
    assert [row["state"] for row in rows(tmp_path / "project/checkpoints/sweep-first")] == ["complete"]
