"""The training loop, top to bottom."""

import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from .. import task as yours
from ..components import build_optimizer, build_scheduler
from ..config import dump, locate
from ..errors import UserError
from ..model.utils import count_parameters
from ..options import Config
from . import checkpoint
from .contract import Batch, Task
from .metrics import Average
from .tracking import open_trackers


@dataclass
class State:
    """All that a run changes as it goes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps done
    best: float = math.nan  # the monitored figure of the best epoch
    best_file: str = ""


def train(config: Config, run: Path, resume: dict[str, Any] | None = None) -> State:
    """Train as `config` says, in a new folder `run`, or go on there with a checkpoint's contents.

    Raises UserError if the run cannot start, or if its loss is no longer a number.
    """
    device = pick_device(config.run.device)
    torch.manual_seed(config.run.seed)
    task: Task = yours.Task(config, device, resume["info"] if resume else None)
    train_loader, valid_loader = task.train_loader(), task.eval_loader("valid")
    model = task.build_model().to(device)
    optimizer = build_optimizer(config.optimizer, model)
    epochs = config.train.epochs
    total = epochs * (len(train_loader) if config.scheduler.every == "step" else 1)
    state = State(model, optimizer, build_scheduler(config.scheduler, optimizer, total))
    if resume:
        restore(state, resume, config)
    elif run.exists():
        raise UserError(f"{run}: is there already; set another run.name, or --resume it")
    monitored(config, {"loss": math.nan, **task.metrics().compute()})  # refuses a wrong name now
    trackers = open_trackers(config.run.tracker, run, config.model_dump(), state.epoch)
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(dump(config, "yaml"), encoding="utf-8")
    print(f"{run}: {config.model.name}, {count_parameters(model):,} parameters, on {device}")
    try:
        for epoch in range(state.epoch, epochs):
            started = time.perf_counter()
            train_loader.sampler.epoch = epoch  # type: ignore[attr-defined]
            trained = train_epoch(state, task, train_loader, device, config)
            seconds = time.perf_counter() - started
            valid = evaluate(model, task, valid_loader, device)

            lr = state.scheduler.get_last_lr()[0]
            when = {"epoch": epoch + 1, "step": state.step, "learning_rate": lr}
            figures: dict[str, float] = {}
            for name in trained:
                figures |= {f"train_{name}": trained[name], f"valid_{name}": valid[name]}
            for tracker in trackers:  # before the save: a resumed run drops what came after its own
                tracker.log({**when, **figures, "seconds": seconds})
            schedule(state, config, valid)
            state.epoch += 1
            best = "  best" if save(state, task, config, run, valid) else ""
            text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            print(f"epoch {state.epoch}/{epochs}  {text}  {seconds:.1f} s{best}", flush=True)
    finally:
        for tracker in trackers:
            tracker.close()
        if not (run / checkpoint.LAST).exists():  # nothing to go on with
            shutil.rmtree(run)
    return state


def train_epoch(
    state: State, task: Task, loader: Iterable[Batch], device: torch.device, config: Config
) -> dict[str, float]:
    """One pass over the training data; returns its loss and metrics."""
    state.model.train()
    epoch_loss, recent_loss, metrics = Average(), Average(), task.metrics()
    for number, batch in enumerate(loader):
        if number == 0:
            task.draw_batch(batch, locate(config.run.images, inside=True) / "loader")
        batch = to_device(batch, device)
        outputs = task.forward(state.model, batch)
        loss = task.loss(outputs, batch)
        loss.backward()
        if config.train.grad_clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), config.train.grad_clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        schedule(state, config)
        state.step += 1

        metrics.update(outputs, batch)
        epoch_loss.update(loss, len(batch[0]))
        recent_loss.update(loss, len(batch[0]))
        if state.step % config.train.log_every == 0:  # the only place that waits for the device
            value, lr = finite(recent_loss.compute(), state), state.scheduler.get_last_lr()[0]
            print(f"  step {state.step}  loss {value:.4f}  lr {lr:.1e}", flush=True)
            recent_loss = Average()
    return {"loss": finite(epoch_loss.compute(), state), **metrics.compute()}


@torch.no_grad()
def evaluate(
    model: nn.Module, task: Task, loader: Iterable[Batch], device: torch.device
) -> dict[str, float]:
    """One pass without training; returns the loss and metrics."""
    model.eval()
    loss, metrics = Average(), task.metrics()
    for batch in loader:
        batch = to_device(batch, device)
        outputs = task.forward(model, batch)
        loss.update(task.loss(outputs, batch), len(batch[0]))
        metrics.update(outputs, batch)
    return {"loss": loss.compute(), **metrics.compute()}


def schedule(state: State, config: Config, valid: dict[str, float] | None = None) -> None:
    """Move the learning rate on, after a step or (with the figures of `valid`) an epoch."""
    if isinstance(state.scheduler, ReduceLROnPlateau):
        if valid:
            state.scheduler.step(monitored(config, valid))
    elif config.scheduler.every == ("epoch" if valid else "step"):
        state.scheduler.step()


def save(state: State, task: Task, config: Config, run: Path, valid: dict[str, float]) -> bool:
    """Write `last.pt`, and the best checkpoint if this epoch is the best; true if it is."""
    rule, value, old_file = config.checkpoint, monitored(config, valid), state.best_file
    better = value > state.best if rule.mode == "max" else value < state.best
    better = better or math.isnan(state.best)
    if better:
        fields = {"model": config.model.name, "epoch": state.epoch, "step": state.step}
        state.best = value
        state.best_file = f"{rule.name.format(**fields, monitor=rule.monitor, value=value)}.pt"
    contents = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "best": {"value": state.best, "file": state.best_file},
        "rng": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        "config": config.model_dump(),
        "info": task.info,
    }
    if better:
        checkpoint.save(contents, run / state.best_file)
    checkpoint.save(contents, run / checkpoint.LAST)
    if old_file not in ("", state.best_file):
        (run / old_file).unlink(missing_ok=True)  # only now does last.pt no longer name it
    return better


def restore(state: State, contents: dict[str, Any], config: Config) -> None:
    """Put a checkpoint's contents into a run built by the same config."""
    for part, now in config.model_dump(include={"model", "optimizer", "scheduler"}).items():
        old = contents["config"][part]  # what the states below belong to
        if old["name"] != now["name"] or (part != "model" and old != now):
            raise UserError(f"{part}: the run to resume has {old}; start a new run to change it")
    try:
        state.model.load_state_dict(contents["model"])
        state.optimizer.load_state_dict(contents["optimizer"])
        state.scheduler.load_state_dict(contents["scheduler"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"the run to resume does not fit: {reason}") from error
    state.epoch, state.step = contents["epoch"], contents["step"]
    state.best, state.best_file = contents["best"]["value"], Path(contents["best"]["file"]).name
    cpu, *cuda = contents["rng"]
    torch.set_rng_state(cpu)
    for index, generator_state in enumerate(cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator_state, index)


def monitored(config: Config, valid: dict[str, float]) -> float:
    """The figure that decides which epoch is best."""
    name = config.checkpoint.monitor
    if name not in valid:
        raise UserError(f"checkpoint.monitor: no metric {name!r}; there are: {', '.join(valid)}")
    return valid[name]


def finite(loss: float, state: State) -> float:
    """The loss, if it is a number; UserError if it is not."""
    if not math.isfinite(loss):
        where = f"at step {state.step}, learning rate {state.scheduler.get_last_lr()[0]:.3g}"
        raise UserError(f"the loss is {loss} {where}; lower optimizer.lr or train.grad_clip")
    return loss


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move every tensor of a batch."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in batch)


def pick_device(name: str) -> torch.device:
    """`auto` is the best there is; UserError if this machine has no such device."""
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next((kind for kind, count in there.items() if count), "cpu")
    device = torch.device(name)
    if (device.index or 0) >= there.get(device.type, 1):
        raise UserError(f"run.device: there is no {name} on this machine; try auto or cpu")
    return device
