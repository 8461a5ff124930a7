"""Signals that stop a run, and its exit status."""

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

RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: the state is saved; start again with --resume
CODES = {"SIGINT": 130, "SIGTERM": RESUME_ME, "SIGUSR1": RESUME_ME}


class Signals:
    """SIGTERM, SIGUSR1 or Ctrl-C stops a run after the current step; a second Ctrl-C at once."""

    received = 0  # the signal's number

    def __enter__(self) -> "Signals":
        known = [getattr(signal, name) for name in CODES if hasattr(signal, name)]
        main = threading.current_thread() is threading.main_thread()  # others can't set handlers
        self.before = {number: signal.signal(number, self._note) for number in known if main}
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        for number, handler in self.before.items():
            # Slurm and torchrun may both signal: the second must not change the exit status.
            late = isinstance(error, Stopped) and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if late else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that start in this block ignore the signals, which a cluster sends to all."""
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
    """Kill workers at exit: they block SIGTERM, so multiprocessing would wait for them forever."""

    def end() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch reports that a worker died
        for child in multiprocessing.active_children():
            child.kill()

    atexit.register(end)
