"""What asks a run to stop, and what it ends with then."""

import atexit
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

from ..errors import Stopped

RESUME_ME = 75  # the exit status EX_TEMPFAIL of sysexits.h: not done; start it again with --resume
CODES = {"SIGINT": 130, "SIGTERM": RESUME_ME, "SIGUSR1": RESUME_ME}


class Signals:
    """SIGTERM, SIGUSR1 and Ctrl-C stop a run after the step under way; Ctrl-C twice, at once."""

    received = 0  # the signal's number

    def __enter__(self) -> "Signals":
        known = [getattr(signal, name) for name in CODES if hasattr(signal, name)]
        main = threading.current_thread() is threading.main_thread()  # the only one that may
        self.before = {number: signal.signal(number, self._note) for number in known if main}
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        for number, handler in self.before.items():
            # It may come twice, from a cluster and from torchrun: the second is no other end.
            late = isinstance(error, Stopped) and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if late else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def stopped(self, number: int, saved: str) -> Stopped:
        """The exception for a signal, once the state is saved."""
        name = signal.Signals(number).name
        return Stopped(f"stopped by {name}, {saved}", CODES[name])


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that start in here get none of them: a cluster signals every process of a job."""
    if sys.platform == "win32":
        yield
        return
    _end_children_at_exit()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in CODES])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _end_children_at_exit() -> None:
    """Since they wouldn't hear the SIGTERM that multiprocessing sends, and it waits for them."""

    def end() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would call it an error
        for child in multiprocessing.active_children():
            child.kill()

    atexit.register(end)
