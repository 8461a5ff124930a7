"""From a checkpoint back to a model: measure it, let it predict."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import ROOT, locate
from ..config import load as load_config
from ..options import Config, Run
from . import checkpoint, sharded
from .contract import Batch, Task
from .device import autocast, pick_device, to_device
from .loop import evaluate
from .state import load_loss, loss_module, task_of
from .tracking import open_tracker, show


def load(path: Path, overrides: Iterable[str] = ()) -> tuple[Config, Task, nn.Module]:
    """The config, task and trained model of a checkpoint; UserError if it cannot be used."""
    return _build(path, checkpoint.load(path), overrides)


def _build(path: Path, contents: Any, overrides: Iterable[str]) -> tuple[Config, Task, nn.Module]:
    config = load_config(Config, [], overrides, contents["config"])
    device = pick_device(config.run.device)
    with checkpoint.fits(f"{path}: does not fit {config.model.name}"):
        task = task_of(contents, config, device)
        model = task.build_model().to(device)
        if "shards" in contents:
            sharded.load_weights(contents, model)
        else:
            model.load_state_dict(contents.get("ema") or contents["model"])
        load_loss(contents, config, loss_module(task))
    return config, task, model.eval()


def measure(
    path: Path,
    split: str,
    settings: list[str],
    say: Callable[[dict[str, float]], None] | None = None,
) -> tuple[dict[str, float], list[Path]]:
    """The loss and metrics on a split, which `say` gets before anything is drawn, and pictures."""
    contents = checkpoint.load(path)
    config, task, model = _build(path, contents, settings)
    loader, device = task.eval_loader(split), pick_device(config.run.device)
    metrics = evaluate(model, task, loader, device, config.train.precision)
    if say:
        say(metrics)

    @torch.no_grad()
    def outputs() -> Iterator[tuple[Any, Batch]]:
        for batch in loader:
            with autocast(device, config.train.precision):
                outputs = task.forward(model, to_device(batch, device))
            yield to_device(outputs, torch.device("cpu")), batch

    folder, pictures = _images(config, settings, path) / "result", list[Path]()
    try:
        pictures = task.draw_results(outputs(), folder)
    except OSError as error:
        print(f"warning: {folder}: cannot be written ({error.strerror})", file=sys.stderr)
    run, step = path.parent, contents["step"]
    name = config.run.tracker if (run / "config.yaml").is_file() else "none"
    if tracker := open_tracker(name, run, config.model_dump()):
        figures = {f"{split}_{key}": value for key, value in metrics.items()}
        tracker.log({"epoch": contents["epoch"], "step": step, **figures})
        show([tracker], pictures, step)
        tracker.close()
    return metrics, pictures


def _images(config: Config, settings: list[str], path: Path) -> Path:
    """Where pictures go: in the project, beside the folder of runs, or where the user says."""
    folder, default = (locate(run.images, inside=True) for run in (config.run, Run()))
    asked = any(setting.startswith("run.images=") for setting in settings)
    runs = locate(config.run.checkpoints, inside=True).resolve()
    asked |= runs == path.resolve().parent.parent and folder.resolve().parent == runs.parent
    if asked or folder.resolve().is_relative_to(ROOT.resolve()):
        return folder
    advice = f"{default} is used; to use it, set run.images"
    print(f"warning: {folder}: of the checkpoint, outside the project; {advice}", file=sys.stderr)
    return default


@torch.no_grad()
def predict(path: Path, inputs: Iterable[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """For each input the prediction, as plain values and as a sentence."""
    _, task, model = load(path)
    for prediction in task.predict(model, inputs):
        yield prediction, task.sentence(prediction)
