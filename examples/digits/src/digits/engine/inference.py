"""A trained model from a checkpoint: load it, test it, predict with it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import ROOT, locate
from ..config import load as load_config
from ..options import Config, Run
from . import checkpoint, distributed
from .contract import Batch, Task
from .device import autocast, pick_device, to_device
from .loop import evaluate
from .metrics import by_class
from .state import build_task, load_loss, loss_module
from .tracking import log_pictures, open_tracker


def load(
    path: Path, overrides: Iterable[str] = (), contents: Any = None
) -> tuple[Config, Task, nn.Module]:
    """The config, task and model of a checkpoint, in evaluation mode; or UserError."""
    contents = contents or checkpoint.load(path)
    config = load_config(Config, [], overrides, contents["config"])
    device = pick_device(config.run.device)
    with checkpoint.mismatch_error(f"{path}: does not fit {config.model.name}"):
        task = build_task(config, device, contents)
        model = task.build_model().to(device)
        if sharded := distributed.sharding(model, contents):
            sharded.load_weights(contents, model)
        else:
            model.load_state_dict(contents.get("ema") or contents["model"])
        load_loss(contents, config, loss_module(task))
    return config, task, model.eval()


def measure(
    path: Path,
    split: str,
    settings: list[str],
    on_metrics: Callable[[dict[str, float], dict[str, Any]], None] | None = None,
) -> tuple[dict[str, float], list[Path]]:
    """Test a checkpoint on a split, with overrides; returns the metrics and the saved pictures.

    Before it draws, it calls `on_metrics` with the metrics and those by class or target.
    """
    contents = checkpoint.load(path)
    config, task, model = load(path, settings, contents)
    loader, counted = task.eval_loader(split), task.metrics()
    device = pick_device(config.run.device)
    metrics = evaluate(model, task, loader, device, config.train.precision, counted)
    if on_metrics:
        kinds = {"per_class": "classes", "per_target": "target"}  # methods, and names in `info`
        tables = {kind: by_class(counted, task.info.get(key), kind) for kind, key in kinds.items()}
        on_metrics(metrics, {kind: rows for kind, rows in tables.items() if rows})

    @torch.no_grad()
    def outputs() -> Iterator[tuple[Any, Batch]]:
        for batch in loader:
            with autocast(device, config.train.precision):
                outputs = task.forward(model, to_device(batch, device))
            yield to_device(outputs, torch.device("cpu")), batch

    folder, pictures = _images_folder(config, settings, path) / "result", list[Path]()
    try:
        pictures = task.draw_results(outputs(), folder)
    except OSError as error:
        print(f"warning: {folder}: cannot be written ({error.strerror})", file=sys.stderr)
    run, step = path.parent, contents["step"]
    name = config.run.tracker if (run / "config.yaml").is_file() else "none"
    if tracker := open_tracker(name, run, config.model_dump()):
        figures = {f"{split}_{key}": value for key, value in metrics.items()}
        tracker.log({"epoch": contents["epoch"], "step": step, **figures})
        log_pictures([tracker], pictures, step)
        tracker.close()
    return metrics, pictures


def _images_folder(config: Config, settings: list[str], path: Path) -> Path:
    """The config's folder for pictures, unless a foreign checkpoint's is outside the project."""
    folder, default = (locate(run.images, inside=True) for run in (config.run, Run()))
    trusted = any(setting.startswith("run.images=") for setting in settings)
    runs = locate(config.run.checkpoints, inside=True).resolve()
    trusted |= runs == path.resolve().parent.parent and folder.resolve().parent == runs.parent
    if trusted or folder.resolve().is_relative_to(ROOT.resolve()):
        return folder
    advice = f"{default} is used; to use it, set run.images"
    print(f"warning: {folder}: outside the project; {advice}", file=sys.stderr)
    return default


@torch.no_grad()
def predict(path: Path, inputs: Iterable[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The prediction for each input, as plain values and as a sentence; UserError for bad input."""
    _, task, model = load(path)
    for prediction in task.predict(model, inputs):
        yield prediction, task.sentence(prediction)
