from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from digits.options import Config
from digits.task import Task

CPU = torch.device("cpu")


def loader(config: Config, epoch: int, workers: int = 0) -> DataLoader[Any]:
    data = config.data.model_copy(update={"workers": workers})
    loader = Task(config.model_copy(update={"data": data}), CPU).train_loader()
    loader.sampler.epoch = epoch
    return loader


def test_every_sample_comes_once_an_epoch_in_another_order(config: Config) -> None:
    orders = [list(loader(config, epoch).sampler) for epoch in (0, 1)]
    for epoch, order in enumerate(orders):
        assert sorted(order) == [(epoch, index) for index in range(22)]
    assert [index for _, index in orders[0]] != [index for _, index in orders[1]]


def test_batches_do_not_depend_on_workers_or_on_the_global_generator(config: Config) -> None:
    before = torch.get_rng_state()
    assert_close(list(loader(config, 3)), list(loader(config, 3, workers=2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_differs_from_epoch_to_epoch(config: Config) -> None:
    first, second = ([loader(config, 0).dataset[(n, i)] for i in range(22)] for n in (0, 1))
    with pytest.raises(AssertionError):
        assert_close(first, second)


def test_evaluation_comes_in_order_and_without_augmentation(config: Config) -> None:
    first, second = (list(Task(config, CPU).eval_loader("valid")) for _ in range(2))
    assert [len(batch[0]) for batch in first] == [8, 2]
    assert_close(first, second)
