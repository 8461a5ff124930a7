"""Checkpoints: tensors and plain values only, whole or not there at all.

`last.pt` and the best one, named by the rule `checkpoint.name`, hold all that it takes to go on.
"""

import os
from pathlib import Path
from typing import Any

import torch

from ..config import locate
from ..errors import UserError

LAST = "last.pt"
KEYS = {"model", "optimizer", "scheduler", "epoch", "step", "best", "rng", "config", "info"}


def save(contents: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill or a full disk leaves the old one, or the new one."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk into a RuntimeError
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); what was saved is kept") from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; UserError if there is none, or it is damaged or foreign."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds
        reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise UserError(f"{path}: not loaded: {reason}") from error
    missing = KEYS - contents.keys() if isinstance(contents, dict) else KEYS
    if missing:
        names = ", ".join(sorted(missing))
        raise UserError(f"{path}: not a checkpoint of this project (it has no {names})")
    return contents


def find_run(name: str | None, folder: Path) -> Path:
    """The run called `name`, or the one of `folder` that was saved last; UserError if none was."""
    if name:
        return locate(name) if locate(name).exists() else folder / name
    runs = sorted(folder.glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UserError(f"{folder}: holds no run with a {LAST} yet; train one first")
    return runs[-1].parent


def find(name: str | None, folder: Path) -> Path:
    """The checkpoint file `name`, or the best one of a run; UserError if it is not there."""
    path = find_run(name, folder)
    if path.is_dir():
        path = path / load(path / LAST)["best"]["file"]
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; name a run in {folder}, or a file")
    return path
