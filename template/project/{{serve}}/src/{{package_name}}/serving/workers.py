"""Worker processes, each with the model: a file that takes too much ends one of them, no more."""

import asyncio
import atexit
import base64
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from ..config import ROOT, locate
from ..errors import UserError
from .limits import Limits

LOG = logging.getLogger(__name__)
STEP = 0.02  # seconds between two looks at a prediction
GRACE = 1.0  # seconds until a prediction whose client left is stopped; a restart takes as long
LOADING = 60.0  # seconds that a restarted worker has at least to load the model


class Refused(Exception):
    """A request that gets no prediction: the status of the response, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


# --- in a worker ---


def work(server: Connection, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
    """Load the model, then predict each file that the server sends; `there` is for files."""
    for each in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to all processes
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    import torch

    from ..exported import load

    torch.set_num_threads(max(1, torch.get_num_threads() // limits.workers))
    try:
        about, task, model = load(folder, pt2, images=str(there / "images"))
    except UserError as error:
        server.send_bytes(to_json({"error": str(error)}))
        return
    server.send_bytes(about.model_dump_json().encode())
    with suppress(EOFError):
        while True:
            name, _, content = server.recv_bytes().partition(b"\0")
            path = there / "input" / name.decode()
            path.write_bytes(content)
            status, answer = predict(task, model, path, there)
            if len(answer) > 10e6 * limits.max_megabytes:
                what = f"the answer has more than {10 * limits.max_megabytes:g} MB"
                detail = f"{what}; send a smaller file, or see --max-megabytes"
                status, answer = 413, to_json({"detail": detail})
            server.send_bytes(b"%d" % status + answer)


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
    """What the paths of files in these folders begin with, also as the project shows them."""
    paths = [path for each in folders for path in (each, locate(each, inside=True))]
    return re.compile("|".join(re.escape(f"{path}{os.sep}") for path in paths))


def as_uri(picture: Path) -> str:
    """A PNG file as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


# --- in the server ---


class Worker:
    """A worker process, in the server; one thread at a time uses it."""

    def __init__(self, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
        # A fork server has torch at once. It is called over a socket, whose path has to be short.
        short = sys.platform == "linux" and len(tempfile.gettempdir()) < 70
        self.context: Any = multiprocessing.get_context("forkserver" if short else "spawn")
        if short:
            package = __package__.rpartition(".")[0]
            self.context.set_forkserver_preload([f"{package}.exported", __name__])
        self.limits = limits
        self.lock, self.closed = threading.Lock(), False
        self.patience: float | None = None  # seconds to load the model; the first time, no limit
        self.arguments = folder, pt2, there, limits
        self.begin()

    def begin(self) -> None:
        """Start the process; it loads the model meanwhile."""
        with self.lock:
            if self.closed:
                raise UserError("the server is stopping")
            there = self.arguments[2]
            shutil.rmtree(there, ignore_errors=True)  # of an ended process
            (there / "input").mkdir(parents=True)
            self.connection, its = self.context.Pipe()
            self.process = self.context.Process(target=work, args=(its, *self.arguments))
            mask = getattr(signal, "pthread_sigmask", None)  # inherited, by the fork server too
            before = mask(signal.SIG_BLOCK, [signal.SIGTERM]) if mask else ()
            self.process.start()
            if mask:
                mask(signal.SIG_SETMASK, before)
            its.close()
            self.about: dict[str, Any] = {}

    def end(self, closed: bool = False) -> None:
        """End the process; `closed` is for good."""
        with self.lock:
            self.closed |= closed
            self.process.kill()
            self.process.join()

    def ready(self) -> None:
        """Wait until the model is loaded; UserError if it can't be."""
        if self.about:
            return
        started = time.monotonic()
        if not self.connection.poll(self.patience):
            raise UserError(f"a worker had not loaded the model after {self.patience:.0f} s")
        try:
            about = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            self.process.join()
            what = f"a worker ended while it loaded the model (exit code {self.process.exitcode})"
            raise UserError(what) from error
        if "error" in about:
            raise UserError(about["error"])
        self.about, self.idle_memory = about, self.memory()
        self.patience = self.patience or max(LOADING, 10 * (time.monotonic() - started))

    def memory(self) -> float:
        """The resident memory of the process in MB; 0 where the system doesn't say."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def predict(self, name: str, file: BinaryIO, left: threading.Event) -> tuple[int, bytes]:
        """The status and the JSON of the response for a file; Refused if it takes too much.

        `left` is set when the client is gone.
        """
        content = file.read()
        try:
            self.renew()
            self.connection.send_bytes(name.encode() + b"\0" + content)
            self.wait(left)
            answer = self.connection.recv_bytes()
            return int(answer[:3]), answer[3:]
        except (EOFError, OSError, UserError) as error:  # the process ended
            self.end()
            if not self.closed:
                LOG.error("a worker ended (exit code %s) %s", self.process.exitcode, error)
            raise Refused(503, "the worker process ended; try again, or another file") from error
        except Refused:
            self.end()
            with suppress(UserError):
                self.begin()  # it loads the model while the client gets the answer
            raise

    def wait(self, left: threading.Event) -> None:
        """Wait for the answer; Refused if it takes too much."""
        most, end = self.limits, time.monotonic() + self.limits.max_seconds
        while not self.connection.poll(STEP):
            if left.is_set():
                end = min(end, time.monotonic() + GRACE)
            if time.monotonic() > end:
                what = f"the prediction took more than {most.max_seconds:g} s"
                raise Refused(504, f"{what}; send a smaller file, or see --max-seconds")
            if self.memory() - self.idle_memory > most.max_memory:
                what = f"the prediction needs more than {most.max_memory:g} MB of memory"
                raise Refused(413, f"{what}; send a smaller file, or see --max-memory")

    def renew(self) -> None:
        """Have a process with the model: a new one if it ended, or kept much of its memory."""
        if self.about and self.memory() - self.idle_memory > self.limits.max_memory / 2:
            self.end()
        if not self.process.is_alive():
            self.begin()
        self.ready()


class Workers:
    """All workers. UserError if the exported model can't be loaded."""

    def __init__(self, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
        self.limits = limits
        numbers = range(limits.workers)
        self.all = [Worker(folder, pt2, there / f"worker{each}", limits) for each in numbers]
        atexit.register(self.close)  # before multiprocessing waits for them, without end
        try:
            for each in self.all:
                each.ready()
        except UserError:
            self.close()
            raise
        self.about = self.all[0].about
        self.idle: asyncio.Queue[Worker] = asyncio.Queue()
        for each in self.all:
            self.idle.put_nowait(each)
        self.threads = ThreadPoolExecutor(limits.workers)

    async def predict(self, name: str, file: BinaryIO) -> tuple[int, bytes]:
        """As `Worker.predict`, when a worker has time.

        A request that is cancelled leaves the queue, or ends its prediction.
        """
        try:
            async with asyncio.timeout(self.limits.max_seconds):
                worker = await self.idle.get()
        except TimeoutError as error:
            what = f"no worker had time for {self.limits.max_seconds:g} s"
            raise Refused(503, f"{what}; try again later, or see --max-seconds") from error
        left = threading.Event()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self.threads, worker.predict, name, file, left)
        work.add_done_callback(partial(self.give_back, worker))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            left.set()
            raise

    def give_back(self, worker: Worker, done: asyncio.Future[Any]) -> None:
        """Let the next request have a worker."""
        if not done.cancelled():
            done.exception()  # asyncio warns of one that nobody has looked at
        self.idle.put_nowait(worker)

    def close(self) -> None:
        """End all processes."""
        for each in self.all:
            each.end(closed=True)
        atexit.unregister(self.close)
