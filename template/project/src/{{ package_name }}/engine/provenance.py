"""Which code, packages and machine a run is of: `provenance.json` in its folder.

It has an entry for each start of the run, since what goes on with it may be another version.
"""

import json
import platform
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from ..config import ROOT
from .checkpoint import write_whole

FILE = "provenance.json"


def record(run: Path, device: torch.device) -> None:
    """Add an entry; what differs from the commit goes to `code-<number>.diff` beside it."""
    entries = read(run)
    changes = _git("diff", "HEAD") or ""
    name = f"code-{len(entries)}.diff" if changes else None
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
    found: dict[str, str] = {}
    for each in distributions():
        metadata = each.metadata  # parsed each time that it is asked for
        if metadata["Name"]:  # None in what an interrupted installation leaves
            found.setdefault(metadata["Name"], metadata["Version"])
    return dict(sorted(found.items()))


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of a run, the newest last; none if it was made before there were any."""
    path = run / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def newest(run: Path) -> dict[str, Any]:
    """The entry of the newest start, empty if there is none."""
    return (read(run) or [{}])[-1]


def changes(run: Path) -> str | None:
    """The newest start's difference from its commit, if any, as `git diff` prints it."""
    name = newest(run).get("diff")
    return (run / name).read_text(encoding="utf-8") if name else None


def _git(*arguments: str) -> str | None:
    """What git says of the project; None without git, a repository, or a commit."""
    command = ["git", "-C", str(ROOT), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")
