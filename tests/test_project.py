"""A fresh project works from nothing, as its owner would use it."""

import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Render, git, in_project, run, save


@pytest.mark.slow
def test_make_train_test_and_lint_pass_from_nothing(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "내 project"
    shutil.copytree(render(), project)
    save(project)
    make = ["make", "--no-print-directory", f"PYTHON={sys.executable}", f"CONSTRAINTS={ROOT / 'constraints.txt'}"]
    trained = run(
        *make, "train", "CONFIG=configs/train.yaml configs/debug.yaml", "ARGS=optimizer.lr=0.002", cwd=project
    )
    assert "trained in" in trained.stdout
    started = time.monotonic()
    run(*make, "test", cwd=project)
    assert time.monotonic() - started < 60
    run(*make, "lint", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""
    versions = run(project / ".venv" / "bin" / "python", "-m", "pip", "freeze", cwd=project).stdout
    assert "torch==2.13.0" in versions
    assert "pip install" not in run(*make, "train", "--dry-run", cwd=project).stdout


def test_an_old_python_is_refused_in_one_line(project: Path) -> None:
    old = project / "old python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    done = run("make", "train", f"PYTHON={old}", cwd=project, ok=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (project / ".venv").exists()


def test_the_command_line_answers_without_torch(render: Render) -> None:
    project = render()
    assert "usage" in without_torch(project, "--help")
    wrong = ["configs/train.yaml", "optimizer.lr=fast", "trian.epochs=3", "model.nme=cnn"]
    problems = without_torch(project, "train", *wrong).splitlines()
    assert len(problems) == 3
    assert all(any(key in line for line in problems) for key in ("optimizer.lr", "trian", "model.nme"))


def without_torch(project: Path, *arguments: str) -> str:
    command = (
        "import sys; sys.modules['torch'] = None; from my_project.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = in_project(project, "-c", command, *arguments, ok=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
