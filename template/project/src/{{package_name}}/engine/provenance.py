"""The lock of the process that may write to a run; the code and machine of each of its starts."""

import errno
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from typing import IO, Any

import torch

from ..config import ROOT
from ..errors import UserError
from .checkpoint import sync, write_whole

FILE, LOCK = "provenance.json", "run.lock"
_owned: dict[Path, tuple[IO[str], bool]] = {}


# --- the process ---
def own(run: Path, new: bool, rename: bool = False) -> Path:
    """Lock a run's folder until `disown`, or this process's end; returns it.

    If it is taken, the run gets a number more with `rename`, else UserError.
    """
    path, number = run, 1
    while problem := _own(path, new):
        if not rename:
            raise UserError(f"{path}: {problem}")
        number += 1
        path = run.with_name(f"{run.name}-{number}")
    return path


def _own(run: Path, new: bool) -> str:
    """Lock the folder; what is in the way if that cannot be done."""
    taken = "already exists; set another run.name, or --resume it"
    if run.resolve() in _owned:
        return ""
    run.mkdir(parents=True, exist_ok=True)
    if new and not _unsaved(run):
        return taken
    empty = not any(run.iterdir())
    sync(run.parent)
    file = open(run / LOCK, "a+", encoding="utf-8")  # noqa: SIM115, closed by `disown`
    if not _locked(file):
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        return f"{owner} trains this run; wait for it, or stop it first"
    if not os.fstat(file.fileno()).st_nlink or (new and not _unsaved(run)):
        file.close()  # another process removed the file, or trained the run, a moment ago
        return taken
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
    _owned[run.resolve()] = file, empty
    return ""


def disown() -> None:
    """Let other processes have what this one owns; a run that it began, and never saved, goes."""
    while _owned:
        run, (file, empty) = _owned.popitem()
        file.truncate(0)
        if empty and not any(run.rglob("*.pt")):
            shutil.rmtree(run, ignore_errors=True)
        file.close()


def _unsaved(run: Path) -> bool:
    """Whether a folder is empty, or is that of a run without any checkpoint."""
    ours = any((run / name).exists() for name in (LOCK, "config.yaml"))
    return (ours or not any(run.iterdir())) and not any(run.rglob("*.pt"))


def _locked(file: IO[str]) -> bool:
    """Lock an open file, unless another process has; a child of this process does not hold it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # behind the text, which others read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        print(f"warning: {file.name}: cannot be locked ({error.strerror})", file=sys.stderr)
    return True


# --- its code and machine ---
def record(run: Path, device: torch.device) -> None:
    """Add an entry; what differs from the commit goes to `code-<number>.diff` beside it."""
    entries = read(run)
    if not entries and (run / FILE).exists():  # damaged
        os.replace(run / FILE, run / f"{FILE}.damaged")
    changes = _git("diff", "HEAD") or ""
    names = (f"code-{number}.diff" for number in count(len(entries)))
    name = next(name for name in names if not (run / name).exists()) if changes else None
    if name:
        (run / name).write_text(changes, encoding="utf-8")
    entry = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "commit": (_git("rev-parse", "HEAD") or "").strip() or None,
        "diff": name,
        "untracked": (_git("ls-files", "--others", "--exclude-standard") or "").splitlines(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "packages": packages(),
    }
    text = json.dumps([*entries, entry], indent=2, ensure_ascii=False)
    write_whole(run / FILE, text + "\n")


@cache
def packages() -> dict[str, str]:
    """The version of each installed package; of two of one name, that which is imported."""
    found = reversed([each.metadata for each in distributions()])
    versions = {each["Name"]: each["Version"] for each in found if each["Name"]}  # or broken
    return dict(sorted(versions.items()))


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of a run, the newest last; none if there are none, or if the file is damaged."""
    path = run / FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
    except (OSError, ValueError, RecursionError):
        pass
    print(f"warning: {path}: damaged, so what it said of earlier starts is lost", file=sys.stderr)
    return []


def newest(run: Path) -> dict[str, Any]:
    """The entry of the newest start, empty if there is none."""
    return (read(run) or [{}])[-1]


def changes(run: Path) -> str | None:
    """The newest start's difference from its commit, if any, as `git diff` prints it."""
    path = run / Path(newest(run).get("diff") or ".").name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _git(*arguments: str) -> str | None:
    """What git says of the project; None without git, a repository, or a commit."""
    command = ["git", "-C", str(ROOT), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")
