"""Checkpoints: tensors and plain values only, whole or not there at all.

A run's folder holds the newest state, `last.pt`, those before it in `earlier/`, and the best one,
named by the rule `checkpoint.name`. Each has all that a resume needs, and a checksum at its end.
"""

import contextlib
import errno
import io
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..config import FORMATS, locate
from ..errors import UserError
from . import distributed, sharded

LAST, EARLIER = "last.pt", "earlier"
TYPES: dict[str, Any] = dict.fromkeys(("model", "optimizer", "scheduler", "config", "info"), dict)
TYPES |= {"best": dict, "rng": list, "epoch": int, "step": int}


# --- writing ---
class Writer:
    """Has rank 0 write a run's states; `keep` stay. In the `background`, it writes from a copy."""

    def __init__(self, run: Path, keep: int, background: bool) -> None:
        self.run, self.keep = run, keep
        self.thread = ThreadPoolExecutor(1) if background else None
        self.writing: Future[None] | None = None

    def save(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        """Make `contents` the newest state, and that of `replaced_step` an earlier one.

        UserError if it can't be written, now or the last time; what was saved is kept.
        """
        self.wait()
        if "shards" in contents:
            folder = self.run / f"shards-{contents['step']:08d}"
            if replaced_step != contents["step"]:  # or last.pt has these very tensors already
                sharded.save_shards(contents["shards"], folder)
            sums = _sums(folder) if distributed.rank() == 0 else {}
            contents = {**contents, "shards": folder.name, "sums": sums}
        if distributed.rank() == 0 and self.thread:
            snapshot = _copied(contents)
            self.writing = self.thread.submit(self._write, snapshot, replaced_step, old_best)
        elif distributed.rank() == 0:
            self._write(contents, replaced_step, old_best)
        distributed.agree()

    def wait(self) -> None:
        """Until the last state is on the disk."""
        if self.writing:
            self.writing.result()
            self.writing = None

    def _write(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        last, best = self.run / LAST, contents["best"]["file"]
        partial = self.run / f"{LAST}.partial"
        try:
            with _Summed(io.FileIO(partial, "wb")) as file:
                torch.save(contents, file)
                file.write(b"crc32 %08x\n" % file.sum)
                file.flush()
                os.fsync(file.fileno())
            if "shards" in contents:
                sync(self.run / contents["shards"])
            if last.exists() and self.keep > 1 and replaced_step != contents["step"]:
                (self.run / EARLIER).mkdir(exist_ok=True)
                _link(last, self.run / EARLIER / f"step-{replaced_step:08d}.pt")
                sync(self.run / EARLIER)
            if best and not contents["best"]["stale"] and not contents["under_way"]["batches"]:
                _link(partial, self.run / best)
            sync(self.run)  # whatever last.pt needs is on the disk before it is
            os.replace(partial, last)
            sync(self.run)  # and only now is what it replaces removed
            if old_best not in ("", best):
                (self.run / old_best).unlink(missing_ok=True)
            for path in _earlier(self.run)[self.keep - 1 :]:
                path.unlink()
            if folders := {path.name for path in self.run.glob("shards-*")}:
                states = [last, *_earlier(self.run), *([self.run / best] if best else [])]
                used = {_read(path).get("shards") for path in states if path.is_file()}
                for name in folders - used:
                    shutil.rmtree(self.run / name)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            reason = f"({_reason(error)}); what was saved is kept"
            raise UserError(f"{last}: cannot be written {reason}") from error


class _Summed(io.BufferedWriter):
    """Keeps the checksum of what is written."""

    sum = 0

    def write(self, data: Any) -> int:
        self.sum = zlib.crc32(data, self.sum)
        return super().write(data)


def write_whole(path: Path, text: str) -> None:
    """Write a small file: whatever ends the process, the old one or the new one is there."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def sync(folder: Path) -> None:
    """Have the names in a folder survive a power loss; some file systems can't, and say so."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _link(file: Path, name: Path) -> None:
    """Another name for a file that is never changed, only replaced; a copy where there are none."""
    partial = name.with_name(f"{name.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:
        shutil.copyfile(file, partial)
        with open(partial, "rb+") as copy:
            os.fsync(copy.fileno())
    os.replace(partial, name)


def _reason(error: Exception) -> str:
    """What the disk said: torch, closing its archive, may put an error of its own before it."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    return getattr(cause, "strerror", None) or str(error).splitlines()[0]


def _copied(value: Any) -> Any:
    """The same on the CPU, where nothing changes it."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


# --- reading ---
def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; UserError if there is none, or it is damaged or foreign."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        if not _intact(path):
            raise ValueError("its checksum is another one")
        contents = _read(path)
    except Exception as error:  # torch raises half a dozen kinds
        reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise UserError(f"{path}: not loaded: {reason}") from error
    foreign = f"{path}: not a checkpoint of this project"
    if missing := TYPES.keys() - (contents if isinstance(contents, dict) else ()):
        raise UserError(f"{foreign} (it has no {', '.join(sorted(missing))})")
    wrong = [key for key, kind in TYPES.items() if not isinstance(contents[key], kind)]
    if wrong or not isinstance(contents["best"].get("file"), str):
        raise UserError(f"{foreign} (it has another type of {', '.join(wrong) or 'best.file'})")
    if "shards" in contents:
        folder = path.parent.parent if path.parent.name == EARLIER else path.parent
        shards = folder / Path(str(contents["shards"])).name
        if not (shards / ".metadata").is_file():
            raise UserError(f"{path}: not loaded: its tensors are gone, {shards}")
        if contents.get("sums", found := _sums(shards)) != found:  # v0.7 and older save none
            raise UserError(f"{path}: not loaded: its tensors are damaged, {shards}")
        contents["shards"] = str(shards)
    return contents


@contextlib.contextmanager
def fits(else_say: str | None) -> Iterator[None]:
    """What of a checkpoint is used in here may be of a wrong type, and fail in any way."""
    try:
        yield
    except Exception as error:
        if not else_say or isinstance(error, UserError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"{else_say}: {reason}") from error


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _intact(path: Path) -> bool:
    """Whether the checksum at the end is right; of torch.save's own, and v0.7's, those within."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 22))
        tail = file.read()
    if tail.startswith(b"PK\5\6"):  # with which an archive ends that has no comment
        return zipfile.ZipFile(path).testzip() is None
    found = re.fullmatch(rb"crc32 ([0-9a-f]{8})\n", tail[-15:])
    return found is not None and int(found[1], 16) == _sum(path, 15)


def _sum(path: Path, but: int = 0) -> int:
    """The checksum of a file without its last bytes."""
    left, found = path.stat().st_size - but, 0
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            found, left = zlib.crc32(block, found), left - len(block)
    return found


def _sums(folder: Path) -> dict[str, int]:
    """The checksum of each file in a folder."""
    return {path.name: _sum(path) for path in sorted(folder.iterdir())}


def _earlier(run: Path) -> list[Path]:
    """The states before the last, newest first."""
    return sorted((run / EARLIER).glob("step-*.pt"), reverse=True)


def newest(run: Path) -> dict[str, Any]:
    """The newest state of a run that can be read; a warning if it isn't the last, or UserError."""
    first: UserError | None = None
    for path in [run / LAST, *_earlier(run), *sorted(run.glob("*.pt"))]:
        try:
            contents = load(path)
        except UserError as error:
            first = first or error
            continue
        if first:
            print(f"warning: {first}\nwarning: using the state before it, {path}", file=sys.stderr)
        return contents
    raise first or UserError(f"{run}: holds no checkpoint")


def find_run(name: str | None, folder: Path) -> Path:
    """The run called `name`, or the one of `folder` that was saved last; UserError if none was."""
    if name:
        path = locate(name) if locate(name).exists() else folder / name
        if path.suffix[1:] in FORMATS and path.is_file():
            raise UserError(f"{path}: a config, not a checkpoint; give a run or a .pt file")
        return path
    runs = sorted(folder.glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UserError(f"{folder}: holds no run with a {LAST} yet; train one first")
    return runs[-1].parent


def find(name: str | None, folder: Path) -> Path:
    """The checkpoint file `name`, or the best one of a run; UserError if it is not there."""
    path = find_run(name, folder)
    if path.is_dir():
        best = Path(newest(path)["best"]["file"]).name
        path = path / (best or LAST)  # a run that has not finished an epoch has no best one yet
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; name a run in {folder}, or a file")
    return path
