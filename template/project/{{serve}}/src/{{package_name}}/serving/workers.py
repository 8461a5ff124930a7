"""Worker processes, each with the model: a file that exceeds a limit ends only one of them."""

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from .limits import Limits
from .process import SIZE, framed, receive, work

Read = Callable[[], Awaitable[bytes]]
LOG = logging.getLogger(__name__)
STEP = 0.02  # seconds between two checks of a prediction
GRACE = 1.0  # seconds until a prediction whose client left is stopped; a restart takes as long
LOADING = 60.0  # seconds that a restarted worker has at least to load the model


class Refused(Exception):
    """A request that gets no prediction: the status of the response, and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """The server's view of a worker process; one request at a time uses it."""

    def __init__(self, folder: Path, pt2: bool, there: Path, limits: Limits) -> None:
        # A fork server has imported torch. It is called over a socket, whose path has to be short.
        short = sys.platform == "linux" and len(tempfile.gettempdir()) < 70
        self.context: Any = multiprocessing.get_context("forkserver" if short else "spawn")
        if short:
            package = __package__.rpartition(".")[0]
            self.context.set_forkserver_preload([f"{package}.exported", work.__module__])
        self.limits = limits
        self.lock, self.closed = threading.Lock(), False
        self.thread = ThreadPoolExecutor(1)  # for what takes time: the start, the load, the end
        self.process: Any = None
        self.socket: Any = None
        self.busy = False  # with a request, whose answer may still come
        self.patience: float | None = None  # seconds to load the model; no limit the first time
        self.arguments = folder, pt2, there, limits
        self.begin()

    def begin(self) -> None:
        """Start the process, which then loads the model."""
        with self.lock:
            if self.closed:
                raise UserError("the server is stopping")
            there = self.arguments[2]
            shutil.rmtree(there, ignore_errors=True)  # files of an ended process
            (there / "input").mkdir(parents=True)
            ours, its = socket.socketpair()
            process = self.context.Process(target=work, args=(its, *self.arguments))
            mask = getattr(signal, "pthread_sigmask", None)  # inherited, by the fork server too
            before = mask(signal.SIG_BLOCK, [signal.SIGTERM]) if mask else ()
            try:
                process.start()
            finally:
                if mask:
                    mask(signal.SIG_SETMASK, before)
                its.close()
            if self.socket:
                self.socket.close()
            self.process, self.socket, self.busy = process, ours, False
            self.about: dict[str, Any] = {}

    def end(self, closed: bool = False) -> None:
        """End the process; if `closed`, it is never started again."""
        with self.lock:
            self.closed |= closed
            self.process.kill()
            self.process.join()

    def ready(self) -> None:
        """Wait until the model is loaded; UserError if it can't be."""
        started = time.monotonic()
        self.socket.settimeout(self.patience)
        try:
            with self.socket.makefile("rb") as file:
                about = json.loads(receive(file))
        except TimeoutError as error:
            what = f"a worker had not loaded the model after {self.patience:.0f} s"
            raise UserError(what) from error
        except (OSError, ValueError, OverflowError) as error:  # no message, or half of one
            self.end()
            what = f"a worker ended while it loaded the model (exit code {self.process.exitcode})"
            raise UserError(what) from error
        if "error" in about:
            raise UserError(about["error"])
        self.socket.setblocking(False)
        self.about, self.idle_memory = about, self.memory()
        self.patience = self.patience or max(LOADING, 10 * (time.monotonic() - started))

    def memory(self) -> float:
        """The resident memory of the process in MB; 0 where the system doesn't say."""
        try:
            with open(f"/proc/{self.process.pid}/statm", "rb", buffering=0) as file:
                pages = int(file.read().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def predict(self, name: str, read: Read, left: asyncio.Event) -> tuple[int, memoryview]:
        """The status and the JSON of the response for a file; Refused if it exceeds a limit.

        `read` returns the file's content; `left` is set when the client is gone.
        """
        try:
            await self.renew()
            message = framed(name.encode(), await read())
            answer = asyncio.create_task(self.exchange(b"".join(message)))
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
            with suppress(UserError, OSError, EOFError):
                await self.aside(self.begin)  # the new process loads the model
            raise

    async def watch(self, answer: asyncio.Task[Any], left: asyncio.Event) -> None:
        """Wait for the answer; Refused if it exceeds a limit."""
        most, end = self.limits, time.monotonic() + self.limits.max_seconds
        while not (await asyncio.wait([answer], timeout=STEP))[0]:
            if left.is_set():
                end = min(end, time.monotonic() + GRACE)
            if time.monotonic() > end:
                what = f"the prediction took more than {most.max_seconds:g} s"
                raise Refused(504, f"{what}; send a smaller file, or see --max-seconds")
            if self.has_ended():  # a child process of it may hold the connection open
                raise EOFError
            if self.memory() - self.idle_memory > most.max_memory:
                what = f"the prediction needs more than {most.max_memory:g} MB of memory"
                raise Refused(413, f"{what}; send a smaller file, or see --max-memory")

    async def exchange(self, message: bytes) -> tuple[int, memoryview]:
        """Send a file to the process, and receive the answer; EOFError if the process ends."""
        self.busy = True
        await asyncio.get_running_loop().sock_sendall(self.socket, message)
        del message  # after an error, tracebacks would hold it for long
        status, answer = await self.receive(), await self.receive()
        self.busy = False
        return int(bytes(status)), answer

    async def receive(self) -> memoryview:
        """Like the function `receive`, but without blocking other requests."""
        size = int.from_bytes(await self.read(SIZE), "big")
        if size > 10e6 * self.limits.max_megabytes:
            raise EOFError("its answer can't be read")
        return await self.read(size)

    async def read(self, size: int) -> memoryview:
        content = memoryview(bytearray(size))
        left = content
        while left:
            count = await asyncio.get_running_loop().sock_recv_into(self.socket, left)
            if not count:
                raise EOFError
            left = left[count:]
            if left:
                await asyncio.sleep(0)  # without it, a large answer would block other requests
        return content

    async def renew(self) -> None:
        """Ensure that a process has the model; restart one that ended, or that kept much memory."""
        if self.about:
            kept = self.memory() - self.idle_memory
            if not (self.busy or self.has_ended() or kept > self.limits.max_memory / 2):
                return
            await self.stop()
        if not self.process.is_alive():
            await self.aside(self.begin)
        await self.aside(self.ready)

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.memory() == 0 if self.idle_memory else not self.process.is_alive()

    async def stop(self) -> None:
        """End the process, which no request uses any more."""
        await self.aside(self.end)
        self.about = {}

    async def aside(self, function: Callable[[], None]) -> None:
        """Call a function in the worker's thread."""
        await asyncio.get_running_loop().run_in_executor(self.thread, function)


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

    async def predict(self, name: str, read: Read) -> tuple[int, memoryview]:
        """Like `Worker.predict`, by the next idle worker.

        A request that is cancelled leaves the queue, or ends its prediction.
        """
        try:
            async with asyncio.timeout(self.limits.max_seconds):
                worker = await self.idle.get()
        except TimeoutError as error:
            what = f"no worker was idle for {self.limits.max_seconds:g} s"
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
        """Return a worker to the queue, for the next request."""
        if not done.cancelled():
            done.exception()  # asyncio warns of an exception that is never retrieved
        self.idle.put_nowait(worker)

    def close(self) -> None:
        """End all processes."""
        for each in self.all:
            each.end(closed=True)
        atexit.unregister(self.close)
