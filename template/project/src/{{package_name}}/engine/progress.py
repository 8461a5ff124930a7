"""How fast it goes, and how long it waits for data: one line every so many steps."""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from . import distributed
from .contract import Batch
from .signals import kept_from_children

WORKER = "DataLoader worker"  # what torch calls the process that died


class Progress:
    """Counts samples and waiting since the last line."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._again()

    def _again(self) -> None:
        self.started, self.waited, self.samples = time.perf_counter(), 0.0, 0.0

    def fetch(self, loader: Iterable[Batch], skip: int, limit: int) -> Iterator[Batch]:
        """At most `limit` batches, after those to skip."""
        with kept_from_children():
            iterator = islice(loader, skip, min(skip + limit, sys.maxsize))
        asked = time.perf_counter()
        for batch in iterator:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def line(self, step: int, figures: dict[str, float], learning_rate: float) -> str:
        """Figures, samples a second (of all processes), waiting, learning rate and memory."""
        seconds = time.perf_counter() - self.started
        parts = [f"step {step}", *(f"{name} {value:.4f}" for name, value in figures.items())]
        parts += [f"{self.samples / seconds:.0f}/s", f"wait {self.waited / seconds:.0%}"]
        parts += [f"lr {learning_rate:.1e}", f"{memory(self.device) / 2**30:.1f} GiB"]
        self._again()
        return "  " + "  ".join(parts)


def fewest_batches(limit: int, own: int) -> tuple[int, int]:
    """How many batches of an epoch to take at most, and how many there are."""
    counts = distributed.gather(min(limit, own))
    if min(counts) < max(counts):  # an own loader: a process without a batch would be waited for
        limit = min(counts)
        log(f"processes have {counts} batches; each takes {limit} an epoch")
    return limit, min(counts)


def memory(device: torch.device) -> int:
    """Bytes: the most that was used of a GPU, or of this process's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def log(text: str) -> None:
    """Print it, from one process."""
    if distributed.rank() == 0:
        print(text, flush=True)
