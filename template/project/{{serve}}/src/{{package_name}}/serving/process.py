"""What a worker process does: it loads the model, then predicts the files that it receives."""

import base64
import logging
import multiprocessing
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from ..config import ROOT, locate
from ..errors import UserError
from .limits import Limits

LOG = logging.getLogger(__name__)
SIZE = 8  # bytes of the length before each message


def work(its: socket.socket, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
    """Load the model, then predict each file that the server sends; saves it in `there`."""
    server = its.makefile("rwb")
    for each in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all processes
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    import torch

    from ..exported import load

    torch.set_num_threads(max(1, torch.get_num_threads() // limits.workers))
    try:
        about, task, model = load(folder, pt2, images=str(there / "images"))
    except UserError as error:
        send(server, to_json({"error": str(error)}))
        return
    send(server, about.model_dump_json().encode())
    while name := receive(server):
        path = there / "input" / name.decode()
        path.write_bytes(receive(server))
        status, answer = predict(task, model, path, there)
        if len(answer) > 10e6 * limits.max_megabytes:
            what = f"the answer has more than {10 * limits.max_megabytes:g} MB"
            detail = f"{what}; send a smaller file, or see --max-megabytes"
            status, answer = 413, to_json({"detail": detail})
        send(server, b"%d" % status, answer)


def send(file: BufferedIOBase, *messages: bytes) -> None:
    file.writelines(framed(*messages))
    file.flush()


def framed(*messages: bytes) -> Iterator[bytes]:
    """Yield the length of each message, then the message."""
    for each in messages:
        yield len(each).to_bytes(SIZE, "big")
        yield each


def receive(file: BufferedIOBase) -> bytes:
    """The next message; b"" at the end of the file."""
    return file.read(int.from_bytes(file.read(SIZE), "big"))


def _end_with_the_server() -> None:
    """End this process with its parent, also in the middle of a prediction."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def predict(task: Any, model: Any, path: Path, there: Path) -> tuple[int, bytes]:
    """The status and the JSON of the response for a file."""
    started = time.perf_counter()
    try:
        made = [(each, task.sentence(each)) for each in task.predict(model, [str(path)])]
        predictions = [{"values": values, "sentence": sentence} for values, sentence in made]
        answer = {
            "predictions": without([path.parent, there], predictions),
            "pictures": {
                each.relative_to(there).as_posix(): as_uri(each)
                for each in sorted(there.glob("images/**/*.png"))
            },
            "seconds": time.perf_counter() - started,
        }
        return 200, to_json(answer, inf_nan_mode="null")
    except UserError as error:
        return 422, to_json({"detail": without([path.parent, there], str(error))})
    except Exception as error:
        LOG.exception("the prediction failed")
        what = f"the model's code failed ({type(error).__name__}); the server's log has the reason"
        return 500, to_json({"detail": what})
    finally:
        path.unlink(missing_ok=True)
        shutil.rmtree(there / "images", ignore_errors=True)


def without(folders: list[Path], value: Any) -> Any:
    """Remove this machine's folders from all texts in nested values."""
    pattern = pattern_of(*folders, ROOT)

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [cleaned(item) for item in value]
        return pattern.sub("", value) if isinstance(value, str) else value

    return cleaned(value)


@cache
def pattern_of(*folders: Path) -> re.Pattern[str]:
    """A pattern of these folders at the start of paths, also as the project prints them."""
    paths = [path for each in folders for path in (each, locate(each, inside=True))]
    return re.compile("|".join(re.escape(f"{path}{os.sep}") for path in paths))


def as_uri(picture: Path) -> str:
    """A PNG file as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
