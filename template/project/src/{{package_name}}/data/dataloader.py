"""Data loaders. Augmentation depends on seed, epoch and index only, not on the workers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..components import build_transforms
from ..engine import distributed
from ..engine.device import derived_seed, seed_all
from ..engine.sampler import EpochSampler, EvalSampler
from ..options import Config

Batch = tuple[Any, ...]  # the parts of a sample, each stacked over the batch
Collate = Callable[[list[Any]], Batch]  # makes a batch, in place of torch's default_collate


class Augmented(Dataset[Any]):
    """A dataset with transforms; its keys are the tuples of `EpochSampler`: epoch, index, ..."""

    def __init__(self, dataset: Any, transforms: Sequence[Callable[..., Any]], seed: int) -> None:
        self.dataset, self.transforms, self.seed = dataset, transforms, seed

    def __getitem__(self, key: tuple[int, ...]) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, ...]]) -> list[Any]:
        """The samples of a batch, for DataLoader; a transform's `batch` gets them in one call."""
        if get_worker_info():  # checkpoints do not hold the workers' global generators
            seed_all(derived_seed(self.seed, *keys[0]))
        samples = [self.dataset[index] for _, index, *_ in keys]
        rngs = [np.random.default_rng((self.seed, *key)) for key in keys]
        for transform in self.transforms:
            if batch := getattr(getattr(transform, "func", None), "batch", None):
                samples = batch(samples, rngs, **getattr(transform, "keywords", {}))
            else:
                pairs = zip(samples, rngs, strict=True)
                samples = [transform(*sample, rng) for sample, rng in pairs]
        return samples


def train_loader(
    dataset: Any, config: Config, collate: Collate | None = None, classes: Sequence[int] = ()
) -> DataLoader[Batch]:
    """Batches of transformed samples, in a new order each epoch; balanced, if given `classes`."""
    seed = config.run.seed
    augmented = Augmented(dataset, build_transforms(config.data.transforms), seed)
    sampler = EpochSampler(len(dataset), seed, config.data.batch_size, classes)
    return make_loader(augmented, config, sampler, collate)


def eval_loader(dataset: Any, config: Config, collate: Collate | None = None) -> DataLoader[Batch]:
    """Batches of the samples without transforms, in their order."""
    return make_loader(dataset, config, EvalSampler(len(dataset)), collate)


def make_loader(
    dataset: Dataset[Any], config: Config, sampler: Sampler[Any], collate: Collate | None
) -> DataLoader[Batch]:
    """A DataLoader; `run.seed` seeds the global generators of its workers, for datasets."""
    return DataLoader(
        dataset,
        config.data.batch_size,
        sampler=sampler,
        num_workers=config.data.workers,
        collate_fn=collate,
        persistent_workers=config.data.workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Without a generator, each pass draws a seed from the global one.
        generator=torch.Generator().manual_seed(derived_seed(config.run.seed, distributed.rank())),
    )
