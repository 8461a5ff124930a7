"""Print the R² to beat on data/test/, as JSON: the best of the mean price and of two linear regressions.

PYTHONPATH=src python baseline.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from my_project.config import load
from my_project.metrics import Errors
from my_project.options import Config
from my_project.task import Task

config = load(Config, Path("configs").glob("train.*"), ["run.device=cpu"])
task = Task(config, torch.device("cpu"))


def split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of 1, the numbers, 1 where one is missing, and one-hot categories; and the normalized targets."""
    parts = zip(*task.eval_loader(name), strict=True)
    numbers, categories, targets = (torch.cat(part).numpy() for part in parts)
    one_hot = [np.eye(size)[codes] for size, codes in zip(task.columns.sizes, categories.T, strict=True)]
    return np.hstack([np.ones((len(targets), 1)), numbers.reshape(len(targets), -1), *one_hot]), targets


def price(targets: np.ndarray) -> np.ndarray:
    return task.columns.decode(torch.from_numpy(targets)).numpy()


def r2(predicted: np.ndarray) -> float:
    errors = Errors(lambda prices: prices, "cpu")
    errors.update(torch.from_numpy(predicted), (torch.from_numpy(price(test[1])),))
    return errors.compute()["r2"]


train, test = split("train"), split("test")
of_price, of_log = (np.linalg.lstsq(train[0], y, rcond=None)[0] for y in (price(train[1]), train[1]))
found = {
    "mean price": r2(np.full(len(test[1]), price(train[1]).mean())),
    "linear regression": r2(test[0] @ of_price),
    "linear regression of the logarithm": r2(price(test[0] @ of_log)),
}
name = max(found, key=found.__getitem__)
print(json.dumps({"name": name, "metric": "r2", "value": round(found[name], 4)}))
