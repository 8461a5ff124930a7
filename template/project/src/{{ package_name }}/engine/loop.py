"""The training loop, top to bottom."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
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
class Best:
    """The best epoch so far."""

    value: float = math.nan
    file: str = ""


@dataclass
class State:
    """All that a run changes as it goes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps done
    best: Best = field(default_factory=Best)


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
    total = config.train.epochs * (len(train_loader) if config.scheduler.every == "step" else 1)
    state = State(model, optimizer, build_scheduler(config.scheduler, optimizer, total))
    if resume:
        restore(state, resume)
    else:
        new_folder(run)
    (run / "config.yaml").write_text(dump(config, "yaml"), encoding="utf-8")
    print(f"{run}: {config.model.name}, {count_parameters(model):,} parameters, on {device}")

    trackers = open_trackers(config.run.tracker, run, config.model_dump(), state.epoch)
    try:
        for epoch in range(state.epoch, config.train.epochs):
            started = time.perf_counter()
            train_loader.sampler.epoch = epoch  # type: ignore[attr-defined]
            trained = train_epoch(state, task, train_loader, device, config)
            seconds = time.perf_counter() - started
            valid = evaluate(model, task, valid_loader, device)

            row = {"epoch": epoch + 1, "step": state.step, "learning_rate": learning_rate(state)}
            for name in trained:
                row |= {f"train_{name}": trained[name], f"valid_{name}": valid[name]}
            for tracker in trackers:  # before the save: a resumed run drops what came after its own
                tracker.log({**row, "seconds": seconds})
            schedule(state, config, "epoch", valid)
            state.epoch += 1
            better = save(state, task, config, run, valid)
            print(
                f"epoch {state.epoch}/{config.train.epochs}  train {figures(trained)}"
                f"  valid {figures(valid)}  lr {row['learning_rate']:.1e}  {seconds:.1f} s"
                f"{'  best' if better else ''}",
                flush=True,
            )
    finally:
        for tracker in trackers:
            tracker.close()
    return state


def train_epoch(
    state: State, task: Task, loader: Iterable[Batch], device: torch.device, config: Config
) -> dict[str, float]:
    """One pass over the training data; returns its loss and metrics."""
    state.model.train()
    epoch_loss, recent_loss, metrics = Average(), Average(), task.metrics()
    for number, batch in enumerate(loader):
        if number == 0:
            task.draw_batch(batch, locate(config.run.images) / "loader")
        batch = to_device(batch, device)
        outputs = task.forward(state.model, batch)
        loss = task.loss(outputs, batch)
        loss.backward()
        if config.train.grad_clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), config.train.grad_clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        schedule(state, config, "step")
        state.step += 1

        metrics.update(outputs, batch)
        epoch_loss.update(loss, len(batch[0]))
        recent_loss.update(loss, len(batch[0]))
        if state.step % config.train.log_every == 0:  # the only place that waits for the device
            value, lr = finite(recent_loss.compute(), state), learning_rate(state)
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


def schedule(
    state: State, config: Config, every: str, valid: dict[str, float] | None = None
) -> None:
    """Move the learning rate on, if it is this scheduler's time."""
    if config.scheduler.every != every:
        return
    if not isinstance(state.scheduler, ReduceLROnPlateau):
        state.scheduler.step()
    elif valid is not None:
        state.scheduler.step(monitored(config, valid))
    else:
        raise UserError("scheduler.every: ReduceLROnPlateau needs it to be 'epoch'")


def save(state: State, task: Task, config: Config, run: Path, valid: dict[str, float]) -> bool:
    """Write `last.pt`, and the best checkpoint if this epoch is the best; true if it is."""
    value, old = monitored(config, valid), state.best
    better = value > old.value if config.checkpoint.mode == "max" else value < old.value
    better = better or math.isnan(old.value)
    if better:
        fields = {"model": config.model.name, "epoch": state.epoch, "step": state.step}
        monitor = config.checkpoint.monitor
        name = config.checkpoint.name.format(**fields, monitor=monitor, value=value)
        state.best = Best(value, f"{name}.pt")
    contents = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "best": asdict(state.best),
        "rng": checkpoint.rng_state(),
        "config": config.model_dump(),
        "info": task.info,
    }
    if better:
        checkpoint.save(contents, run / state.best.file)
    checkpoint.save(contents, run / checkpoint.LAST)
    if better and old.file not in ("", state.best.file):
        (run / old.file).unlink(missing_ok=True)  # only now does last.pt no longer name it
    return better


def restore(state: State, contents: dict[str, Any]) -> None:
    """Put a checkpoint's contents into a run built by the same config."""
    try:
        state.model.load_state_dict(contents["model"])
        state.optimizer.load_state_dict(contents["optimizer"])
        state.scheduler.load_state_dict(contents["scheduler"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the checkpoint is of another model or optimizer: {reason}") from error
    state.epoch, state.step = contents["epoch"], contents["step"]
    state.best = Best(**contents["best"])
    checkpoint.restore_rng(contents["rng"])


def monitored(config: Config, valid: dict[str, float]) -> float:
    """The figure that decides which epoch is best."""
    name = config.checkpoint.monitor
    if name not in valid:
        raise UserError(f"checkpoint.monitor: no metric {name!r}; there are: {', '.join(valid)}")
    return valid[name]


def finite(loss: float, state: State) -> float:
    """The loss, if it is a number; UserError if it is not."""
    if not math.isfinite(loss):
        where = f"at step {state.step}, learning rate {learning_rate(state):.3g}"
        raise UserError(f"the loss is {loss} {where}; lower optimizer.lr or train.grad_clip")
    return loss


def learning_rate(state: State) -> float:
    """Of the first parameter group."""
    return float(state.optimizer.param_groups[0]["lr"])


def figures(metrics: dict[str, float]) -> str:
    """Metrics for a person."""
    return " ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move every tensor of a batch."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in batch)


def new_folder(run: Path) -> None:
    """Make a run's folder; UserError if it is there already."""
    try:
        run.mkdir(parents=True)
    except FileExistsError as error:
        raise UserError(f"{run}: is there already; set another run.name, or --resume it") from error


def pick_device(name: str) -> torch.device:
    """`auto` is the best there is; UserError if this machine has no such device."""
    if name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else name
    device = torch.device(name)
    there = {"cpu": True, "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, (device.index or 0) < torch.cuda.device_count()):
        raise UserError(f"run.device: there is no {name} on this machine; try auto or cpu")
    return device
