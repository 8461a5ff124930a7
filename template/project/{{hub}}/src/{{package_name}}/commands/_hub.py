"""What `push` and `pull` share: the files of a model on the Hugging Face Hub, and Hub errors."""

import contextlib
import errno
import hashlib
import importlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, JsonValue

from ..config import LARGEST, ROOT
from ..errors import UserError

A_DAY = 86_400  # seconds: longer than an upload takes
FACTS, WEIGHTS, LOSS = "run.json", "model.safetensors", "loss.safetensors"
FILES = {  # all that `push` uploads except pictures, and the most bytes that `pull` downloads
    "README.md": 0,
    "config.yaml": LARGEST,
    "metrics.csv": 50_000_000,
    FACTS: 50_000_000,
    WEIGHTS: 0,  # as many as the model has
    LOSS: 0,
}
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
Count = Field(ge=0, lt=2**63)


class Facts(BaseModel):
    """`run.json`: what a checkpoint holds besides tensors and the config."""

    model_config = {"ser_json_inf_nan": "constants", "strict": True}

    format: Literal[1] = 1
    kind: str  # of data
    epoch: int = Count
    step: int = Count
    best: float | None  # value of `checkpoint.monitor`
    best_loss: float | None
    data: list[int] | None  # as `fingerprint` returns it
    info: dict[str, JsonValue]  # the task's, such as class names
    code: dict[str, JsonValue]
    files: dict[str, str] = Field(default_factory=dict)  # SHA-256 by name


def data_kind() -> str:
    """The answer `data_kind` of this project; empty if it has no file with its answers."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        answers = (ROOT / ".copier-answers.yml").read_text(encoding="utf-8")
        if found := re.search(r"^data_kind: (\w+)$", answers, re.MULTILINE):
            return found[1]
    return ""


def check_repository(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]{0,95}", name, re.ASCII) or ".." in name:
        raise UserError(f"{name}: should be a repository on the Hub: ORGANIZATION/NAME, USER/NAME")


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, removed at the end; what a kill leaves is removed a day later."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".hub-*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - A_DAY:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".hub-", dir=folder) as name:
        yield Path(name)


def open_hub() -> Any:
    """The client of the Hub at HF_ENDPOINT."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(f"hub: {error}; run pip install -e '.[hub]'") from error
    return HfApi()


@contextlib.contextmanager
def hub_errors(repo: str, transfer: bool = False) -> Iterator[None]:
    """Raise UserError of one line for any error of the Hub, the network or the disk."""
    from huggingface_hub import get_token

    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the client raises many types
        if transfer:
            print(file=sys.stderr)  # after the progress bar, which the client leaves open
        reason = _reason(error).replace(get_token() or "\0", "(token)")
        raise UserError(f"{repo}: {reason}") from error


def _reason(error: BaseException) -> str:
    """What is wrong, and what to do."""
    from huggingface_hub import constants

    errors: Any = importlib.import_module("huggingface_hub.errors")

    if isinstance(error, RuntimeError | errors.LocalEntryNotFoundError) and error.__cause__:
        return _reason(error.__cause__)  # of a file that was being transferred
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if isinstance(error, errors.GatedRepoError):
            return f"gated: ask for access on {constants.ENDPOINT}, then {LOGIN}"
        if isinstance(error, errors.RevisionNotFoundError):
            return "no such revision; name a branch, a tag or a commit"
        if isinstance(error, errors.RepositoryNotFoundError):
            return f"no such repository, or a private one; check the name, or {LOGIN}"
        if status == 401:
            return f"the token is not valid; {LOGIN}"
        if status == 403:
            return f"your token does not permit this; {LOGIN} with another one"
        return f"the Hub answered {status}; run the command again later"
    if isinstance(error, errors.HTTPError | ConnectionError):
        again = "check the network, then run the command again"
        return f"no connection to {constants.ENDPOINT} ({error}); {again}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space, then run the command again"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
