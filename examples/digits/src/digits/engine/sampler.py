"""The order of samples: it follows from seed and epoch alone, so a resumed run repeats it."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from . import distributed


class EpochSampler(Sampler[tuple[int, ...]]):
    """Pairs of epoch and index, in a new order each epoch.

    With `classes` (the class of each sample), all classes come equally often: samples of rare ones
    repeat, some of frequent ones are left out. A third number is then the place in the epoch.

    Of each global batch, rank 0 takes the first `batch_size` samples, rank 1 the next, and so on.
    The last batch is divided evenly, or dropped if it has fewer samples than there are ranks.
    """

    def __init__(self, size: int, seed: int, batch_size: int, classes: Sequence[int] = ()) -> None:
        self.size, self.seed, self.batch_size, self.classes = size, seed, batch_size, classes
        self.epoch = 0  # set it before each epoch
        self.start = 0  # samples to skip, counted over all ranks: those before a resume
        self.rank, self.world = distributed.rank(), distributed.world()

    def __len__(self) -> int:
        return sum(map(len, self._batches(np.arange(self.size))))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        rows = self._balanced(rng) if len(self.classes) else rng.permutation(self.size)[:, None]
        for batch in self._batches(rows, self.start):
            yield from ((self.epoch, *row) for row in batch.tolist())

    def _balanced(self, rng: np.random.Generator) -> NDArray[np.int64]:
        classes = np.asarray(self.classes)
        members = [rng.permutation(np.flatnonzero(classes == name)) for name in np.unique(classes)]
        count = math.ceil(self.size / len(members))
        drawn = rng.permutation(np.concatenate([np.resize(each, count) for each in members]))
        return np.stack([drawn[: self.size], np.arange(self.size)], axis=1)

    def _batches(self, order: NDArray[np.int64], start: int = 0) -> Iterator[NDArray[np.int64]]:
        step = self.batch_size * self.world
        for first in range(start, self.size, step):
            batch = order[first : first + step]
            if len(batch) >= self.world:
                yield np.array_split(batch, self.world)[self.rank]


class EvalSampler(Sampler[int]):
    """The indices that this rank evaluates, in order: rank, rank + world size, and so on."""

    def __init__(self, size: int) -> None:
        self.indices = range(distributed.rank(), size, distributed.world())

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


Share = EvalSampler  # the name that `data/dataloader.py` of v0.3 to v0.7 imports
