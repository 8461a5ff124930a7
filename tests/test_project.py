"""A new project works in a clean environment, as its owner would use it."""

import contextlib
import importlib
import io
import itertools
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, Render, git, in_project, of_the_day, run, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMATS = ["yaml", "json", "ini", "py"]
COMPONENTS = ["loss", "optim", "scheduler", "transforms"]


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "skipped"), of_the_day([("docs_site", "make lint"), ("weekly", "")], 1))
def test_make_and_what_ci_runs_pass_from_nothing(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, skipped: str
) -> None:
    """Runs one file of the project's own tests (test_kinds.py runs all), and the checks of lint in one case."""
    project = tmp_path / "내 project"
    shutil.copytree(render(ci="gitlab", extras=extra), project)
    save(project)
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PIP_CONSTRAINT", (ROOT / "constraints.txt").as_uri())  # a URI has no spaces
    monkeypatch.setenv("PYTEST_ADDOPTS", "test/test_model.py -p no:cacheprovider")
    monkeypatch.setenv("PIP_COMPILE", "0")  # compiling takes long, and few modules are imported here
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    train = ["make", "--no-print-directory", "train", "CONFIG=configs/train.yaml configs/debug.yaml"]
    assert "trained in" in run(*train, "ARGS=optimizer.lr=0.002", cwd=project).stdout
    assert "pip install" not in run(*train, "--dry-run", cwd=project).stdout
    versions = run(project / ".venv" / "bin" / "python", "-m", "pip", "freeze", cwd=project).stdout
    assert "torch==2.13.0" in versions
    whole = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    jobs = [whole["test"], *([whole["newest"]] if extra == "weekly" else [])]
    commands = [command for job in jobs for command in job["script"] if command != skipped]
    assert "make test" in commands
    for command in commands:
        done = run("sh", "-c", command, cwd=project)
        assert "make test" not in command or "passed" in done.stdout
    assert git("status", "--porcelain", cwd=project) == ""


def test_an_old_python_is_refused_in_one_line(project: Path) -> None:
    old = project / "old python"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    done = run("make", "train", f"PYTHON={old}", cwd=project, ok=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (project / ".venv").exists()


def test_the_command_line_works_without_torch(render: Render) -> None:
    project = render()
    assert "usage" in without_torch(project, "--help")
    wrong = ["configs/train.yaml", "optimizer.lr=fast", "trian.epochs=3", "model.nme=cnn"]
    unknown = "error: model: unknown name 'resnett'; did you mean 'resnet'?\n"  # the same message as in components.py
    assert without_torch(project, "train", "model.name=resnett") == unknown
    problems = without_torch(project, "train", *wrong).splitlines()
    assert len(problems) == 3
    assert all(any(key in line for line in problems) for key in ("optimizer.lr", "trian", "model.nme"))


def test_the_command_line_runs_in_a_notebook_with_a_stdout_of_its_kind(render: Render) -> None:
    """As `%run -m my_project` does; IPython's stdout can't be configured."""
    code = "import contextlib, io, runpy, sys\nsys.argv = ['my_project', '--help']\n"
    code += "with contextlib.redirect_stdout(io.StringIO()): runpy.run_module('my_project', run_name='__main__')"
    assert in_project(render(), "-c", code, ok=False).stderr == ""


def test_a_model_defined_at_import_time_is_accepted(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(), tmp_path / "project")
    code = "from my_project.config import check_model\nfor name in {}: check_model(name)"
    in_project(project, "-c", code.format(["cnn", "resnet"]))
    (project / "src/my_project/model/mine.py").write_text("small = lambda num_classes: None\n")
    in_project(project, "-c", code.format(["small"]))
    assert "unknown name 'smal'; there are: " in in_project(project, "-c", code.format(["smal"]), ok=False).stderr
    (project / "src/my_project/model/mine.py").write_text("for n in (1, 2):\n    globals()[f'm{n}'] = print\n")
    in_project(project, "-c", code.format(["m1"]))


def test_threads_sleep_soon_while_they_wait_unless_told_otherwise(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP threads that spin long take cores from other processes; those that never do are slow to wake."""
    names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"
    for name in names[:2]:  # a test that called `main` in this process has set them
        monkeypatch.delenv(name, raising=False)
    code = "import os; from my_project.cli import main; main(['config', 'configs/train.yaml']); "
    code += f"print([os.environ.get(name) for name in {names}])"
    for env, seen in (
        ({}, ["PASSIVE", "1000", "1"]),
        ({"GOMP_SPINCOUNT": "0"}, ["PASSIVE", "0", "1"]),
        ({"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3"}, ["ACTIVE", None, "3"]),
    ):
        done = in_project(render(), "-c", code, ok=True, cold=True, drawn=False, **env)
        assert done.stdout.splitlines()[-1] == str(seen)


def test_a_folder_that_was_moved_copied_or_linked_runs_its_own_code(render: Render, tmp_path: Path) -> None:
    """An editable install stores an absolute path, so a copy could silently run the code of the first folder."""
    first = shutil.copytree(render(), tmp_path / "first place")
    run(sys.executable, "-m", "venv", "--without-pip", first / ".venv", cwd=first)
    (lib,) = (first / ".venv/lib").glob("python*/site-packages")
    (lib / "pip").mkdir()  # a stand-in for pip, which needs a network: it does what `pip install -e .` does
    (lib / "pip/__main__.py").write_text(
        f"open({str(lib / '__editable__.my_project.pth')!r}, 'w').write({str(first / 'src')!r})"
    )
    run("make", "install", cwd=first)
    second = shutil.copytree(first, tmp_path / "second place", symlinks=True)
    moved = first.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(second)
    code = "import my_project; print(my_project.__file__)"
    for folder, own in ((second, second), (moved, moved), (tmp_path / "link", second)):
        said = run(".venv/bin/python", "-c", code, cwd=folder).stdout
        assert Path(said.strip()).resolve() == own / "src/my_project/__init__.py"
        assert "pip" not in run("make", "install", cwd=folder).stdout, "it needs nothing"


def test_the_scripts_find_the_package_of_their_folder(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(), tmp_path / "a place")
    (tmp_path / "link").symlink_to(project)
    package = project / "src/my_project/cli.py"
    package.write_text(package.read_text().replace('"""Train a model, or resume a run."""', '"""Own words."""'))
    for script in (project / "scripts/train.sh", tmp_path / "link/scripts/train.sh", "a place/scripts/train.sh"):
        assert "Own words." in run(script, "--help", cwd=tmp_path, PYTHON=sys.executable).stdout
    for name in ("test", "run"):
        assert "usage" in run(project / f"scripts/{name}.sh", "--help", cwd=tmp_path, PYTHON=sys.executable).stdout


def without_torch(project: Path, *arguments: str) -> str:
    command = (
        "import sys; sys.modules['torch'] = None; from my_project.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = in_project(project, "-c", command, *arguments, ok=False, cold=True)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


# --- the same run with each config format and each layout of components ---


def trained(project: Path, *arguments: str) -> dict[str, torch.Tensor]:
    """The weights after a short run."""
    quick = ["train.epochs=1", "model.args.width=4", "run.device=cpu", "run.name=a-run"]
    in_project(project, "-m", "my_project", "train", *arguments, *quick)
    weights = torch.load(project / "checkpoints" / "a-run" / "last.pt", weights_only=True)["model"]
    assert isinstance(weights, dict)
    return weights


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_training_from_each_config_format_ends_with_the_same_weights(render: Render, tmp_path: Path) -> None:
    weights = []
    for ending in FORMATS:
        project = tmp_path / ending
        shutil.copytree(render(config_format=ending), project)
        weights.append(trained(project, f"configs/train.{ending}"))
    for other in weights[1:]:
        assert_same(weights[0], other)
    again = tmp_path / "another seed"
    shutil.copytree(render(), again)
    different = trained(again, "configs/train.yaml", "run.seed=1")
    assert any(not torch.equal(different[name], weights[0][name]) for name in different)


@pytest.mark.slow
def test_training_in_both_layouts_of_components_ends_with_the_same_weights(render: Render, tmp_path: Path) -> None:
    own = [
        "loss.name=FocalLoss",
        "optimizer.name=Lion",
        "optimizer.lr=0.001",
        "scheduler.name=warmup_cosine",
        "data.transforms={random_affine: {}, random_flip: {}, random_erase: {}}",
    ]
    weights = []
    for components in ("file", "folder"):
        project = tmp_path / components
        shutil.copytree(render(components=components), project)
        weights.append(trained(project, "configs/train.yaml", *own))
    assert_same(*weights)


@pytest.mark.parametrize("name", COMPONENTS)
def test_both_layouts_of_components_start_with_the_same_file(render: Render, name: str) -> None:
    in_file = render(components="file") / "src" / "my_project" / f"{name}.py"
    folder = render(components="folder") / "src" / "my_project" / name
    assert [path.read_text() for path in folder.glob("*.py") if path.stem != "__init__"] == [in_file.read_text()]


# --- conversion of configs between formats ---


@pytest.fixture(scope="module")
def main(render: Render) -> Iterator[Callable[[list[str]], int]]:
    """The command line of a project, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(render() / "src")
        yield importlib.import_module("my_project.__main__").main
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_project"]:
            del sys.modules[name]


TRICKS = """1e3 1_000 0x10 07 1:30 no null ~ # %(x)s ${x} [a] = << " ' \\ : - ? ! | > .nan 🚀 한글"""
TEXT = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    [*re.split(" ", TRICKS), "", " a ", "a\r\nb", "a\nb", "a # b", '"a" b', "{a: b}", "- a", "\x85", "\u2028", "\ufeff"]
)
NUMBERS = st.integers(1 - 2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    folder=TEXT, lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False), args=st.dictionaries(TEXT, VALUES)
)
def test_a_config_is_unchanged_by_conversion_through_all_formats(
    main: Callable[[list[str]], int], tmp_path: Path, folder: str, lr: float, args: dict[str, Any]
) -> None:
    optimizer = {"lr": lr, "args": args}
    config: Any = {
        "model": {"name": "cnn"},
        "loss": {"name": folder},
        "data": {"folder": folder},
        "optimizer": optimizer,
    }
    text, first = json.dumps(config), None
    for source, target in itertools.pairwise(["json", "yaml", "ini", "json", "py", "yaml", "json"]):
        path = tmp_path / f"config.{source}"
        path.write_bytes(text.encode())
        with contextlib.redirect_stdout(io.StringIO(newline="")) as said:
            assert main(["config", str(path), "--to", target]) == 0
        text = said.getvalue()
        if target == "json":
            assert first is None or text == first
            first = text
    config = json.loads(text)
    assert config["data"]["folder"] == config["loss"]["name"] == folder
    assert config["optimizer"]["lr"] == lr
    assert config["optimizer"]["args"] == args
    assert list(config["optimizer"]["args"]) == list(args)


# --- as its owner starts it ---


@pytest.mark.slow
def test_the_scripts_train_test_and_run_from_any_folder(render: Render, python: Path, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "내 project", tmp_path / "else where"
    shutil.copytree(render(), project)
    elsewhere.mkdir()

    def script(name: str, *arguments: str | Path) -> str:
        command = project / "scripts" / f"{name}.sh"
        return run(command, *arguments, cwd=elsewhere, PYTHON=str(python), PYTHONPATH=str(project / "src")).stdout

    said = script("train", "configs/train.yaml", "configs/debug.yaml", "run.name=a run", "train.epochs=3")
    assert "epoch 3/3" in said
    folder = project / "checkpoints" / "a run"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 3
    (best,) = folder.glob("cnn-e*.pt")
    assert str(best) in said

    tested = json.loads(script("test", "a run", "--json"))
    assert tested["checkpoint"] == str(best)
    assert tested["split"] == "test"
    assert f"acc {tested['acc']:.4f}" in script("test", best)
    assert (project / "images" / "result" / "confusion.png").is_file()

    shutil.copy(project / "images" / "sample" / "two.png", elsewhere / "숫자 2.png")
    (one,) = json.loads(script("run", "숫자 2.png", "--checkpoint", best, "--json"))
    assert one["file"] == "숫자 2.png"
    assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert one["prediction"] == max(one["probabilities"], key=one["probabilities"].get)
    many = script("run", "images/sample").splitlines()
    assert len(many) == len(list((project / "images" / "sample").glob("*.png")))
    assert sorted(path.name for path in elsewhere.iterdir()) == ["숫자 2.png"]
