"""Worker processes, each with the model: a file that takes too much ends one of them, no more."""

import asyncio
import atexit
import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from .limits import Limits
from .process import SIZE, framed, receive, work

Read = Callable[[], Awaitable[bytes]]
LOG = logging.getLogger(__name__)
STEP = 0.02  # seconds between two looks at a prediction
GRACE = 1.0  # seconds until a prediction whose client left is stopped; a restart takes as long
LOADING = 60.0  # seconds that a restarted worker has at least to load the model


class Refused(Exception):
    """A request that gets no prediction: the status of the response, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """A worker process, in the server; one request at a time uses it."""

    def __init__(self, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
        # A fork server has torch at once. It is called over a socket, whose path has to be short.
        short = sys.platform == "linux" and len(tempfile.gettempdir()) < 70
        self.context: Any = multiprocessing.get_context("forkserver" if short else "spawn")
        if short:
            package = __package__.rpartition(".")[0]
            self.context.set_forkserver_preload([f"{package}.exported", work.__module__])
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
            self.socket, its = socket.socketpair()
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
        started = time.monotonic()
        self.socket.settimeout(self.patience)
        try:
            about = receive(self.socket.makefile("rb"))
        except TimeoutError as error:
            what = f"a worker had not loaded the model after {self.patience:.0f} s"
            raise UserError(what) from error
        except OSError:  # the connection was reset
            about = b""
        if not about:
            self.process.join()
            what = f"a worker ended while it loaded the model (exit code {self.process.exitcode})"
            raise UserError(what)
        if problem := json.loads(about).get("error"):
            raise UserError(problem)
        self.socket.setblocking(False)
        self.about, self.idle_memory = json.loads(about), self.memory()
        self.patience = self.patience or max(LOADING, 10 * (time.monotonic() - started))

    def memory(self) -> float:
        """The resident memory of the process in MB; 0 where the system doesn't say."""
        try:
            with open(f"/proc/{self.process.pid}/statm", "rb", buffering=0) as file:
                pages = int(file.read().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def has_ended(self) -> bool:
        """Whether the process, which has nothing to say between two requests, is gone."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            return not isinstance(error, BlockingIOError)
        return True

    async def predict(self, name: str, read: Read, left: asyncio.Event) -> tuple[int, bytes]:
        """The status and the JSON of the response for a file; Refused if it takes too much.

        `read` returns the file's content; `left` is set when the client is gone.
        """
        content = await read()
        try:
            await self.renew()
            answer = asyncio.create_task(self.exchange(name.encode(), content))
            try:
                await self.watch(answer, left)
                return await answer
            finally:
                answer.cancel()
        except (EOFError, OSError, UserError) as error:  # the process ended
            await self.stop()
            if not self.closed:
                LOG.error("a worker ended (exit code %s) %s", self.process.exitcode, error)
            raise Refused(503, "the worker process ended; try again, or another file") from error
        except Refused:
            await self.stop()
            with suppress(UserError):
                await asyncio.to_thread(self.begin)  # it loads the model meanwhile
            raise

    async def watch(self, answer: asyncio.Task[Any], left: asyncio.Event) -> None:
        """Wait for the answer; Refused if it takes too much."""
        most, end = self.limits, time.monotonic() + self.limits.max_seconds
        while not (await asyncio.wait([answer], timeout=STEP))[0]:
            if left.is_set():
                end = min(end, time.monotonic() + GRACE)
            if time.monotonic() > end:
                what = f"the prediction took more than {most.max_seconds:g} s"
                raise Refused(504, f"{what}; send a smaller file, or see --max-seconds")
            if self.memory() - self.idle_memory > most.max_memory:
                what = f"the prediction needs more than {most.max_memory:g} MB of memory"
                raise Refused(413, f"{what}; send a smaller file, or see --max-memory")

    async def exchange(self, name: bytes, content: bytes) -> tuple[int, bytes]:
        """Send a file to the process, and receive the answer; EOFError if the process ends."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, b"".join(framed(name, content)))
        return int(await self.receive()), bytes(await self.receive())

    async def receive(self) -> bytearray:
        """As the function `receive`; in the meantime, other requests go on."""
        return await self.read(int.from_bytes(await self.read(SIZE), "big"))

    async def read(self, size: int) -> bytearray:
        content = bytearray(size)
        left = memoryview(content)
        while left:
            count = await asyncio.get_running_loop().sock_recv_into(self.socket, left)
            if not count:
                raise EOFError
            left = left[count:]
            if left:
                await asyncio.sleep(0)  # data that are there already would not let others go on
        return content

    async def renew(self) -> None:
        """Have a process with the model: a new one if it ended, or kept much of its memory."""
        if self.about:
            most = self.limits.max_memory / 2
            if not self.has_ended() and self.memory() - self.idle_memory <= most:
                return
            await self.stop()
        if not self.process.is_alive():
            await asyncio.to_thread(self.begin)
        await asyncio.to_thread(self.ready)

    async def stop(self) -> None:
        """End the process and the connection to it, which no task may use any more."""
        await asyncio.to_thread(self.end)
        self.socket.close()
        self.about = {}


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

    async def predict(self, name: str, read: Read) -> tuple[int, bytes]:
        """As `Worker.predict`, when a worker has time.

        A request that is cancelled leaves the queue, or ends its prediction.
        """
        try:
            async with asyncio.timeout(self.limits.max_seconds):
                worker = await self.idle.get()
        except TimeoutError as error:
            what = f"no worker had time for {self.limits.max_seconds:g} s"
            raise Refused(503, f"{what}; try again later, or see --max-seconds") from error
        left = asyncio.Event()
        work = asyncio.create_task(worker.predict(name, read, left))
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
