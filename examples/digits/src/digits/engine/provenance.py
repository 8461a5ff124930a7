"""A run's lock, held by the process that trains it, and the record of its code and machine."""

import errno
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import distributions
from itertools import count
from pathlib import Path
from typing import IO, Any

import torch

from ..config import ROOT
from ..errors import UserError
from .checkpoint import sync, write_whole

FILE, LOCK = "provenance.json", "run.lock"
_locks: dict[Path, tuple[IO[str], bool]] = {}


def lock_run(run: Path, new: bool, rename: bool = False) -> Path:
    """Lock a run's folder until `unlock_runs` or the end of this process; returns the folder.

    If the folder is taken, `rename` appends -2, -3 and so on; otherwise, UserError.
    """
    path, numbers = run, count(2)
    while problem := _try_lock(path, new):
        if not rename:
            raise UserError(f"{path}: {problem}")
        path = run.with_name(f"{run.name}-{next(numbers)}")
    return path


def _try_lock(run: Path, new: bool) -> str:
    """Lock the folder; returns the problem, empty if there is none."""
    taken = "already exists; set another run.name, or --resume it"
    if run.resolve() in _locks:
        return ""
    run.mkdir(parents=True, exist_ok=True)
    if new and not _unsaved(run):
        return taken
    empty = not any(run.iterdir())
    sync(run.parent)
    file = open(run / LOCK, "a+", encoding="utf-8")  # noqa: SIM115, closed by `unlock_runs`
    if not _lock_file(file):
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        return f"{owner} trains this run; wait for it, or stop it first"
    if not os.fstat(file.fileno()).st_nlink or (new and not _unsaved(run)):
        file.close()  # another process removed the file, or trained the run, a moment ago
        return taken
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
    _locks[run.resolve()] = file, empty
    return ""


def unlock_runs() -> None:
    """Release all locks; a new run without a checkpoint is removed."""
    while _locks:
        run, (file, empty) = _locks.popitem()
        file.truncate(0)
        if empty and not any(run.rglob("*.pt")):
            shutil.rmtree(run, ignore_errors=True)
        file.close()


def _unsaved(run: Path) -> bool:
    """Whether a folder is empty, or belongs to a run that has no checkpoint."""
    ours = any((run / name).exists() for name in (LOCK, "config.yaml"))
    return (ours or not any(run.iterdir())) and not any(run.rglob("*.pt"))


def _lock_file(file: IO[str]) -> bool:
    """Lock an open file; False if another process has. Child processes do not inherit the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # beyond the text, which others must be able to read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        print(f"warning: {file.name}: cannot be locked ({error.strerror})", file=sys.stderr)
    return True


def record(run: Path, device: torch.device) -> None:
    """Add an entry for this start; uncommitted changes are saved in `code-<number>.diff`."""
    entries = read(run)
    if not entries and (run / FILE).exists():  # damaged
        os.replace(run / FILE, run / f"{FILE}.damaged")
    changes = _git("diff", "HEAD") or ""
    names = (f"code-{number}.diff" for number in count(len(entries)))
    name = next(name for name in names if not (run / name).exists()) if changes else None
    if name:
        (run / name).write_text(changes, encoding="utf-8")
    files = ("METADATA", "PKG-INFO", "")  # of two distributions of one name, the first is imported
    texts = (next(filter(None, map(each.read_text, files)), "") for each in distributions())
    heads = [re.findall(r"^(Name|Version): *(\S+)", text.split("\n\n")[0], re.M) for text in texts]
    versions = {d["Name"]: d.get("Version") for d in map(dict, reversed(heads)) if "Name" in d}
    entry = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "commit": (_git("rev-parse", "HEAD") or "").strip() or None,
        "diff": name,
        "untracked": (_git("ls-files", "--others", "--exclude-standard") or "").splitlines(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "packages": dict(sorted(versions.items())),
    }
    write_whole(run / FILE, json.dumps([*entries, entry], indent=2, ensure_ascii=False) + "\n")


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of a run, oldest first; empty, with a warning, if the file is damaged."""
    path = run / FILE
    with suppress(OSError, ValueError, RecursionError):
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
    print(f"warning: {path}: damaged; the record of earlier starts is lost", file=sys.stderr)
    return []


def newest(run: Path) -> dict[str, Any]:
    """The entry of the newest start, empty if there is none."""
    return (read(run) or [{}])[-1]


def changes(run: Path) -> str | None:
    """The uncommitted changes at the newest start, as `git diff` prints them; None without any."""
    path = run / Path(newest(run).get("diff") or ".").name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _git(*arguments: str) -> str | None:
    """The output of a git command in the project; None if it fails."""
    command = ["git", "-C", str(ROOT), "-c", "core.quotePath=false", *arguments]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return done.stdout.decode("utf-8", "replace")
    return None
