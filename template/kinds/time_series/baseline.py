"""Print the MAE to beat on data/test, as JSON: that of a forecast that repeats the weeks of a year before."""

import json
from pathlib import Path

import torch
from my_project.config import load
from my_project.forecast import seasonal_naive
from my_project.options import Config
from my_project.task import Task

config = load(Config, Path("configs").glob("train.*"))
task = Task(config, torch.device("cpu"))
metrics = task.metrics()
for past, future in task.eval_loader("test"):
    metrics.update(seasonal_naive(past, config.data.horizon, config.data.season), (past, future))
print(json.dumps({"name": "seasonal naive", "metric": "mae", "less": True, "value": metrics.compute()["mae"]}))
