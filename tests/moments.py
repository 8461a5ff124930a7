"""Events during an update: the owner saves a file, or kills the update and cleans up.

The moment of an event is before a git command of the update, soon after the command started, or after a delay.
"""

import contextlib
import multiprocessing
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from conftest import extension, git, run, save, tree
from owner import MARK, Owner
from test_places import links

Update: TypeAlias = Callable[[], "subprocess.CompletedProcess[str]"]
OF_UPDATE = ["git", "-c", f"core.hooksPath={os.devnull}"]  # how the commands of an update begin
CLEAN_UPS = [
    "nothing",
    "printed",
    "undo",
    "git reset --hard && git clean -fd",
    "git checkout .",
    "git stash --include-untracked",
]


def state(project: Path) -> tuple[Any, ...]:
    return tree(project), links(project), git("ls-files", "--stage", cwd=project)


def ignored_files(project: Path) -> set[str]:
    """The files that git ignores: no update reports them."""
    return {*git("ls-files", "--others", "--ignored", "--exclude-standard", "-z", cwd=project).split("\0")}


@contextlib.contextmanager
def at(moment: int, do: Callable[[], object]) -> Iterator[list[list[str]]]:
    """Call `do` before the git command with this number; yields the list of commands, without those of a render."""
    real, seen = subprocess.run, list[list[str]]()

    def counted(command: Any, *rest: Any, **options: Any) -> Any:
        if command[:3] == OF_UPDATE and not multiprocessing.parent_process():
            seen.append(command)
            if len(seen) == moment:
                do()
        return real(command, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", counted)
        yield seen


def started(update: Update, said: Path, first: Callable[[], object] = lambda: None) -> int:
    """Start an update in its own session, after calling `first` there; its output goes to a file."""
    process = os.fork()
    if process == 0:
        status = 99
        with contextlib.suppress(BaseException):
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs ignore it
            first()
            done = update()
            said.write_text(done.stdout + done.stderr)
            status = done.returncode
        os._exit(status)
    return process


def killed(update: Update, said: Path, moment: int, delay: float, by: signal.Signals) -> None:
    """Kill an update and its git soon after the git command with this number starts; 0 is the start of the update."""

    def arm() -> None:
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, by))
        signal.setitimer(signal.ITIMER_REAL, delay)

    def counted() -> "subprocess.CompletedProcess[str]":
        with at(moment, arm):
            return update()

    os.waitpid(started(counted, said, first=print if moment else arm), 0)


def paused(update: Update, said: Path, delay: float, do: Callable[[], object]) -> tuple[int, bool]:
    """Pause an update after a delay, call `do`, continue. Returns the exit status and whether Copier had finished."""
    process = started(update, said)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGSTOP)
    stages = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) == process != int(path.name):
                stages.append((path / "environ").read_bytes())  # empty once it has ended
    copied = not any(stages) or any(b"STAGE=after" in stage for stage in stages)
    do()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), copied


# --- after a kill ---


def clean_up(project: Path, printed: str, how: str) -> None:
    """Clean up after an interrupted update, as an owner might.

    Args:
        printed: what another run of it printed at its start.
        how: `nothing`, `printed`, `undo`, or a command.
    """
    (project / ".git" / "index.lock").unlink(missing_ok=True)  # git itself says to remove it
    taken = sorted((project / ".git" / "copier-update").glob("*/state.json"))
    begun = [path.parent.name for path in taken if '"ended": false' in path.read_text()]
    if how == "printed" and begun and "undo it with\n" in printed:
        back = printed.split("undo it with\n")[1].splitlines()[0].strip()
        run("sh", "-c", re.sub(r"copier-update/[^/ ']+", f"copier-update/{begun[-1]}", back), cwd=project)
        return
    if how == "undo":
        undo(project)
    elif how not in ("nothing", "printed"):
        run("sh", "-c", how, cwd=project, ok=False)
    if git("status", "--porcelain", cwd=project):
        undo(project)


def undo(project: Path) -> str:
    """Undo as the command line does; returns its output."""
    update = extension("update.undo")
    try:
        return str(update.undo(extension("update.project").Project(project, ".copier-answers.yml")))
    except extension("update.git").Refusal as error:
        return str(error)


# --- an update that is repeated while the owner acts ---


@dataclass
class Case:
    """A project made from a seed, and an update of it.

    Attributes:
        run, run_again: functions that update: the first may use Copier, the second only the script.
        before, after: the project before the update and after it, as `state` gives it.
        commands: the number of git commands of the update, if it ran in this process.
        said, seconds: the output and the duration of the update.
        rendered: the paths of the template's old version and new one.
    """

    project: Path
    owner: Owner
    rng: random.Random
    run: Update
    run_again: Update
    before: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()
    commands: int = 0
    said: str = ""
    seconds: float = 0.0
    rendered: frozenset[str] = frozenset()

    def again(self) -> None:
        self.run_again()
        assert state(self.project) == self.after, "an update does the same every time"

    def while_the_owner_saves(self) -> None:
        """A file saved during the update is kept and reported; or it stops the update, and nothing else changes."""
        saved, ignored = list[str](), ignored_files(self.project)
        moment = self.rng.randint(1, self.commands)
        with at(moment, lambda: saved.append(self.owner.save(self.after[0]))) as commands:
            done = self.run()
        [name] = saved
        line, written = f"{MARK} {self.owner.count} ".encode(), self.project / name
        about = f"saved {name} before {commands[moment - 1][-8:]}, {moment} of {self.commands}"
        print(about, done.returncode, done.stderr)
        assert not name or line in written.read_bytes(), f"lost: {about}"
        assert "Traceback" not in done.stderr, done.stderr
        stopped = "error: " in done.stderr
        outcome = self.before if stopped else self.after
        self.put(name, outcome)
        assert state(self.project) == outcome, about
        looks = [number for number, words in enumerate(commands, 1) if words[-2:] == ["--ignore-submodules", "HEAD"]]
        if name and name not in ignored and not (looks and moment > looks[-1]):
            assert name in done.stdout + done.stderr, f"unreported: {about}"
        if stopped:
            self.again()

    def put(self, name: str, outcome: tuple[Any, ...]) -> None:
        """Restore a saved file to its content before or after the update."""
        path = self.project / name
        if name in outcome[0]:
            content, executable = outcome[0][name]
            path.write_bytes(content)
            path.chmod(0o755 if executable else 0o644)
        elif name:
            path.unlink(missing_ok=True)

    def while_copier_runs_and_the_owner_saves(self) -> None:
        """A file saved at a path of the template can be lost only while Copier itself writes."""
        saved, ignored = list[str](), ignored_files(self.project)
        said = self.project.with_name("said")
        delay = self.rng.uniform(0.3, self.seconds)
        status, later = paused(self.run, said, delay, lambda: saved.append(self.owner.save(self.after[0])))
        [name] = saved
        line, written = f"{MARK} {self.owner.count} ".encode(), self.project / name
        kept = name and written.exists() and line in written.read_bytes()
        about = f"saved {name} after {delay:.1f} s of {self.seconds:.1f}, {'after' if later else 'in'} Copier's pass"
        print(about, status, "kept" if kept else "lost")
        assert not name or kept or (not later and name in self.rendered), f"lost: {about}"
        reported = name in said.read_text() or "Destination repository is dirty" in said.read_text()  # by Copier
        assert later or not kept or name in ignored or reported, f"unreported: {about}"
        self.put(name, self.before)
        clean_up(self.project, "", "git reset --hard")
        assert state(self.project) == self.before, about

    def refused_for_a_link(self, package: Path) -> None:
        """A link in place of a folder of the template is refused by name, and nothing changes."""
        folder, new = self.owner.link_a_folder(package)
        save(self.project, "a link")
        linked = state(self.project)
        done = self.run_again()
        name = folder.relative_to(self.project).as_posix()
        assert f"error: {name} is a link, but a folder in the template" in done.stderr
        assert state(self.project) == linked
        folder.unlink()
        new.rename(folder)
        save(self.project, "a folder again")

    def killed_and_cleaned_up(self) -> None:
        """A kill and the clean-up do not affect the next update."""
        moment, delay = self.rng.randint(1, self.commands or 1), self.rng.choice([0.0001, self.rng.uniform(0, 0.05)])
        if not self.commands:
            moment, delay = 0, self.rng.uniform(0.3, self.seconds)
        by = self.rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
        how = self.rng.choice(CLEAN_UPS)
        killed(self.run, self.project.with_name("said"), moment, delay, by)
        about = f"{by.name} at {moment} of {self.commands} after {delay:.2f} s, then {how}"
        print(about)
        clean_up(self.project, self.said, how)
        now, was = tree(self.project), self.before[0]
        if changed := {name for name in {*now, *was} if now.get(name) != was.get(name)}:
            assert changed <= ignored_files(self.project), about  # git has no copy of them; the update's snapshot has
            undo(self.project)
        assert state(self.project) == self.before, about
        self.again()
