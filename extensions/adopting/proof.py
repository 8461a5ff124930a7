"""Checks that an adopted project works: a trial update and a training step."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from update.commands import ask, plan_for, target_version
from update.git import Refusal, git
from update.project import Project, check, check_files
from update.versions import conditional_questions, template_paths

from .project import ANSWERS, Candidate

SHOWN = 20  # last lines of a failed run


def verify(project: Candidate, answers: dict[str, Any], done: bool, smoke: bool) -> bool:
    """Try a later update and, if asked, a training step; print the results. False if one of them failed.

    Args:
        answers: the project's answers, with Copier's keys such as the version.
        done: whether the merge is committed. If not, the commands to run after the commit are printed.
    """
    works = True
    if why := refused(project.folder, answers, done):
        works = False
        print(f"\nA later update would be refused: {why}")
    elif done:
        print("\nTrial update: a later update would not be refused.")
    name = str(answers["package_name"])
    if not done:
        print_checks(project.folder, name)
    elif smoke:
        works &= train(project.folder, name)
    return works


def refused(folder: Path, answers: dict[str, Any], done: bool) -> str:
    """Why a later update would be refused, and what to do; "" if it would not be. Only git objects are written."""
    project = Project(folder, ANSWERS)
    newest = target_version(project, answers, None, step=False)
    paths = template_paths(str(answers["_commit"]), answers) | template_paths(newest, answers)
    try:
        if not done:
            check_files(project, paths)
            return ""
        check(project, paths, conditional_questions(newest))
        same = newest == answers["_commit"]
        text = git("show", f"HEAD:./{ANSWERS}", cwd=folder) if same else ask(project, newest, answers, {}, True)
        plan_for(project, answers, newest, text)
    except Refusal as why:
        return str(why)
    except Exception as error:  # Copier raises several classes
        return f"the template cannot be rendered with the project's answers: {error}"
    return ""


def print_checks(folder: Path, package: str) -> None:
    """Print the commands that check the project once the merge is committed."""
    python = shlex.quote(python_with_torch(folder) or "python3")
    print(f"\nAfter the commit, in {shlex.quote(str(folder))}, check training and updates:\n")
    print(f"    PYTHONPATH=src {python} -P -m {package} train --smoke\n    python3 scripts/update.py --preview")


def train(folder: Path, package: str) -> bool:
    """Run a training step and print the result; whether it worked."""
    python = python_with_torch(folder)
    command = ["-P", "-m", package, "train", "--smoke"]
    if python is None:
        print(f"Smoke run: skipped, since no Python here has torch. In {shlex.quote(str(folder))}:\n")
        print(f"    make install\n    .venv/bin/python {shlex.join(command)}")
        return False
    path = os.pathsep.join([str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [python, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    output = done.stdout.rstrip().splitlines() or ["(it printed nothing)"]
    if done.returncode == 0:
        print(f"Smoke run: {output[-1]}")
        return True
    print(f"Smoke run: failed with exit status {done.returncode}; the merge stays. The end of its output:\n")
    print(*(f"    {line}" for line in output[-SHOWN:]), sep="\n")
    print(f"\nTo run it again, in {shlex.quote(str(folder))}: PYTHONPATH=src {shlex.join([python, *command])}")
    return False


def python_with_torch(folder: Path) -> str | None:
    """The first Python that has torch: the project's, this one, or `python3` of the PATH."""
    code = "import sys, importlib.util as util; sys.exit(util.find_spec('torch') is None)"
    for python in pythons(folder):
        done = subprocess.run([python, "-P", "-c", code], cwd=folder, capture_output=True, check=False)
        if done.returncode == 0:
            return python
    return None


def pythons(folder: Path) -> Iterator[str]:
    """Candidates, best first."""
    for path in (folder / ".venv" / "bin" / "python", folder / ".venv" / "Scripts" / "python.exe"):
        if path.exists():
            yield str(path)
    yield sys.executable
    if found := shutil.which("python3"):
        yield found
