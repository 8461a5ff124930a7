"""From a checkpoint back to a model: measure it, let it predict."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import task as yours
from ..config import load as load_config
from ..config import locate
from ..errors import UserError
from ..options import Config
from . import checkpoint, sharded
from .contract import Batch, Task
from .device import autocast, pick_device, to_device
from .loop import evaluate


def load(path: Path, overrides: Iterable[str] = ()) -> tuple[Config, Task, nn.Module]:
    """The config, task and trained model of a checkpoint; UserError if it cannot be used."""
    contents = checkpoint.load(path)
    config = load_config(Config, [], overrides, contents["config"])
    device = pick_device(config.run.device)
    task: Task = yours.Task(config, device, contents["info"])
    model = task.build_model().to(device)
    try:
        if "shards" in contents:
            sharded.load_weights(contents, model)
        else:
            model.load_state_dict(contents.get("ema") or contents["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: does not fit {config.model.name}: {reason}") from error
    return config, task, model.eval()


def measure(path: Path, split: str, settings: list[str]) -> tuple[dict[str, float], list[Path]]:
    """The loss and metrics of a checkpoint on a split, and the pictures drawn of it."""
    config, task, model = load(path, settings)
    loader, device = task.eval_loader(split), pick_device(config.run.device)
    metrics = evaluate(model, task, loader, device, config.train.precision)

    @torch.no_grad()
    def outputs() -> Iterator[tuple[Any, Batch]]:
        for batch in loader:
            with autocast(device, config.train.precision):
                outputs = task.forward(model, to_device(batch, device))
            yield to_device(outputs, torch.device("cpu")), batch

    return metrics, task.draw_results(outputs(), locate(config.run.images, inside=True) / "result")


@torch.no_grad()
def predict(path: Path, inputs: Iterable[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """For each input the prediction, as plain values and as a sentence."""
    _, task, model = load(path)
    for prediction in task.predict(model, inputs):
        yield prediction, task.sentence(prediction)
