"""Which samples come when: decided by seed, epoch and index alone, whatever dies on the way."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from . import distributed


class EpochSampler(Sampler[tuple[int, int]]):
    """Pairs of epoch and index, in a new order each epoch.

    Several processes share each global batch, one of `batch_size` for each of them: the first
    takes the first `batch_size` samples, and so on. The last one is shared evenly; where it has
    fewer samples than there are processes, these wait for another epoch.
    """

    def __init__(self, size: int, seed: int, batch_size: int) -> None:
        self.size, self.seed, self.batch_size = size, seed, batch_size
        self.epoch = 0  # to be set before iterating
        self.start = 0  # samples of the epoch, over all processes, that were had before
        self.rank, self.world = distributed.rank(), distributed.world()

    def __len__(self) -> int:
        return sum(map(len, self._batches(np.arange(self.size))))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        for batch in self._batches(order, self.start):
            yield from ((self.epoch, int(index)) for index in batch)

    def _batches(self, order: NDArray[np.int64], start: int = 0) -> Iterator[NDArray[np.int64]]:
        step = self.batch_size * self.world
        for first in range(start, self.size, step):
            batch = order[first : first + step]
            if len(batch) >= self.world:
                yield np.array_split(batch, self.world)[self.rank]


class Share(Sampler[int]):
    """The part of a split that one process evaluates: every so many-th sample, in order."""

    def __init__(self, size: int) -> None:
        self.indices = range(distributed.rank(), size, distributed.world())

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
