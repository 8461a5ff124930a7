"""Checkpoints: files of tensors and plain values, with a checksum, written whole or not at all.

A run's folder holds the newest state in `last.pt`, the states before it in `earlier/`, and the best
one under the name that `checkpoint.name` gives. A run can resume from each of them.
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
from . import distributed
from .device import map_tensors

LAST, EARLIER, CALIBRATED = "last.pt", "earlier", "calibrated.pt"  # which cannot resume
TYPES: dict[str, Any] = dict.fromkeys(("model", "optimizer", "scheduler", "config", "info"), dict)
TYPES |= {"best": dict, "rng": list, "epoch": int, "step": int}


# --- writing ---
class Writer:
    """Writes states of a run on rank 0, keeps the newest `keep`; in a thread if `background`."""

    def __init__(self, run: Path, keep: int, background: bool) -> None:
        self.run, self.keep = run, keep
        self.thread = ThreadPoolExecutor(1) if background else None
        self.writing: Future[None] | None = None

    def save(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        """Make `contents` the newest state, and the one of `replaced_step` an earlier one.

        UserError if it cannot be written, or a write in the background failed; older ones are kept.
        """
        self.wait()
        if distributed.rank() == 0 and self.thread:
            snapshot = cpu_copy(contents)
            self.writing = self.thread.submit(self._write, snapshot, replaced_step, old_best)
        elif distributed.rank() == 0:
            self._write(contents, replaced_step, old_best)
        distributed.all_sum()

    def wait(self) -> None:
        """Wait until the last state is on the disk."""
        if self.writing:
            self.writing.result()
            self.writing = None

    def _write(self, contents: dict[str, Any], replaced_step: int, old_best: str) -> None:
        last, best = self.run / LAST, contents["best"]["file"]
        partial = self.run / f"{LAST}.partial"
        try:
            with _ChecksumWriter(io.FileIO(partial, "wb")) as file:
                torch.save(contents, file)
                file.write(b"crc32 %08x\n" % file.checksum)
                file.flush()
                os.fsync(file.fileno())
            if last.exists() and self.keep > 1 and replaced_step != contents["step"]:
                (self.run / EARLIER).mkdir(exist_ok=True)
                link(last, self.run / EARLIER / f"step-{replaced_step:08d}.pt")
                sync(self.run / EARLIER)
            if best and contents["best"]["step"] == contents["step"]:
                link(partial, self.run / best)
            sync(self.run)  # what last.pt refers to is on the disk first
            os.replace(partial, last)
            sync(self.run)  # only now may older states be deleted
            if old_best not in ("", best):
                (self.run / old_best).unlink(missing_ok=True)
            for path in earlier(self.run)[self.keep - 1 :]:
                path.unlink()
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            reason = f"({_reason(error)}); what was saved is kept"
            raise UserError(f"{last}: cannot be written {reason}") from error


class _ChecksumWriter(io.BufferedWriter):
    checksum = 0  # of all that was written

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return super().write(data)


def write_whole(path: Path, text: str) -> None:
    """Replace a small text file at once: a kill leaves the old one or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def sync(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the file system can do that."""
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


def link(file: Path, name: Path) -> None:
    """Make `name` a hard link to a file, which never changes; or a copy, where links don't work."""
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
    """The error of the disk, which torch hides behind its own when it closes the archive."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__context__
    return getattr(cause, "strerror", None) or str(error).splitlines()[0]


def cpu_copy(contents: Any) -> Any:
    """A deep copy on the CPU, which training does not change."""
    return map_tensors(contents, lambda tensor: tensor.detach().to("cpu", copy=True))


# --- reading ---
def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; UserError if it is missing, damaged, or of another project."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        if not intact(path):
            raise ValueError("wrong checksum")
        contents = read(path)
    except Exception as error:  # torch raises many types
        reason = "it is damaged, or holds more than tensors and plain values, which could run code"
        raise UserError(f"{path}: not loaded: {reason}") from error
    foreign = f"{path}: not a checkpoint of this project"
    if missing := TYPES.keys() - (contents if isinstance(contents, dict) else ()):
        raise UserError(f"{foreign} (it lacks {', '.join(sorted(missing))})")
    wrong = [key for key, kind in TYPES.items() if not isinstance(contents[key], kind)]
    if wrong or not isinstance(contents["best"].get("file"), str):
        raise UserError(f"{foreign} (wrong type: {', '.join(wrong) or 'best.file'})")
    if "shards" in contents:
        distributed.fsdp(f"{path}: a checkpoint in shards").find_shards(contents, path)
    return contents


@contextlib.contextmanager
def mismatch_error(message: str) -> Iterator[None]:
    """Raise UserError(message) for any error in the block; an empty message changes nothing."""
    try:
        yield
    except Exception as error:
        if not message or isinstance(error, UserError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"{message}: {reason}") from error


def read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def intact(path: Path) -> bool:
    """Whether the checksum at the end is right; files up to v0.7 have those of a zip archive."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 22))
        tail = file.read()
    if tail.startswith(b"PK\5\6"):  # the end of an archive without a comment
        return zipfile.ZipFile(path).testzip() is None
    found = re.fullmatch(rb"crc32 ([0-9a-f]{8})\n", tail[-15:])
    return found is not None and int(found[1], 16) == checksum(path, 15)


def checksum(path: Path, omit: int = 0) -> int:
    """The CRC-32 of a file without its last `omit` bytes."""
    left, found = path.stat().st_size - omit, 0
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            found, left = zlib.crc32(block, found), left - len(block)
    return found


def earlier(run: Path) -> list[Path]:
    """The states in `earlier/`, the newest first."""
    return sorted((run / EARLIER).glob("step-*.pt"), reverse=True)


def newest(run: Path) -> dict[str, Any]:
    """The newest intact state of a run; warns if that is not last.pt; UserError without any."""
    first: UserError | None = None
    for path in [run / LAST, *earlier(run), *sorted({*run.glob("*.pt")} - {run / CALIBRATED})]:
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
    """The folder of the run `name`, or of the newest run in `folder`; UserError if it has none."""
    if name:
        path = next((p for p in (locate(name), folder / name) if p.exists()), locate(name))
        if path.suffix[1:] in FORMATS and path.is_file():
            raise UserError(f"{path}: a config, not a checkpoint; give a run or a .pt file")
        return path
    if not (runs := sorted(folder.glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)):
        raise UserError(f"{folder}: has no run with a {LAST}; train one first")
    return runs[-1].parent


def find(name: str | None, folder: Path) -> Path:
    """The file `name`, or the best checkpoint of the run `name`; UserError if there is none."""
    path = find_run(name, folder)
    if path.is_dir():
        best = Path(newest(path)["best"]["file"]).name
        path = path / (best or LAST)  # before the end of the first epoch, no checkpoint is the best
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; name a run in {folder}, or a file")
    return path
