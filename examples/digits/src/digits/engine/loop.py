"""The training loop, top to bottom."""

import math
import sys
import time
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.utils import count_parameters
from ..options import Config
from . import checkpoint, distributed
from . import state as states
from .contract import Batch, Metrics, Task
from .device import autocast, pick_device, prefetch, prepare, to_device
from .distributed import log, shortest_epoch
from .metrics import Average, merged
from .session import Progress, Session, check_finite
from .state import State
from .tracking import open_trackers


def train(
    config: Config,
    run: Path,
    resume: dict[str, Any] | None = None,
    profile: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> State:
    """Train in the new folder `run`, or `resume` there from what `checkpoint.load` returned.

    `profile` records some steps with torch.profiler; `on_epoch` gets the number and figures of each
    epoch once its state is saved. Raises UserError if the run cannot start or the loss is not
    finite, and `errors.Stopped` once the state is saved after a signal.
    """
    device = pick_device(config.run.device)
    prepare(config.run)
    with distributed.main_first(), checkpoint.mismatch_error(states.DIFFERS if resume else ""):
        task = states.build_task(config, device, resume)
        train_loader: Any = task.train_loader()
        valid_loader: Any = task.eval_loader("valid")
    if config.train.overfit_batches:
        train_loader = valid_loader = list(islice(train_loader, config.train.overfit_batches))
    limit, steps = shortest_epoch(config.train.limit_batches or sys.maxsize, len(train_loader))
    state = states.build_state(config, task, device, steps)
    if resume:
        states.restore(state, resume, config)
    else:
        states.warn_if_short(config, train_loader, steps)
    patience = config.train.patience or math.inf
    with Session(config, task, run, state, profile) as session:
        if distributed.rank() == 0:
            session.trackers = open_trackers(config.run.tracker, run, config.model_dump(), state)
        where = f"{distributed.world()} x {device.type}, threads: {torch.get_num_threads()}"
        log(f"{run}: {config.model.name}, {count_parameters(state.model):,} parameters, on {where}")
        while state.epoch < config.train.epochs and state.stale < patience:
            started = time.perf_counter()
            trained = train_epoch(state, session, train_loader, limit)
            seconds = time.perf_counter() - started
            batches = session.interruptible(valid_loader, limit)
            valid = evaluate(state.evaluated, task, batches, device, config.train.precision)

            lr = state.scheduler.get_last_lr()[0]
            when = {"epoch": state.epoch + 1, "step": state.step, "learning_rate": lr}
            splits = {"train": trained, "valid": valid}.items()
            figures = {f"{s}_{name}": of[name] for name in valid for s, of in splits if name in of}
            for tracker in session.trackers:  # before the save: a resume drops what is newer
                tracker.log({**when, **figures, "seconds": seconds})
            session.consistent = False  # until it is saved
            best = "  best" if states.end_epoch(state, task, config, valid) else ""
            session.save()
            text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            log(f"epoch {state.epoch}/{config.train.epochs}  {text}  {seconds:.1f} s{best}")
            if on_epoch:
                on_epoch(state.epoch, figures)
    return state


def train_epoch(
    state: State, session: Session, loader: Iterable[Batch], limit: int
) -> dict[str, float]:
    """Train until the epoch ends, some of which may be done already; returns loss and metrics."""
    options, device = session.config.train, session.device
    state.net.train()
    state.loss_module.train()
    progress = Progress(device)
    more = max(0, limit - state.batches)
    remaining = progress.fetch(loader, states.fast_forward(loader, state), more)
    batches = prefetch(remaining, device, options.channels_last)
    while True:
        begins, first = state.batches == 0, next(batches, None)
        samples = session.before_step(0 if first is None else len(first[0]))
        if first is None or not samples:  # the end of the data, here or in another process
            break
        group = chain([first], distributed.take(batches, options.accumulate - 1))  # or fewer
        progress.samples += train_step(state, session, group, samples)
        if begins:
            session.draw(first)
        if state.step % options.log_every == 0:  # the only place that waits for the device
            figures = {"loss": check_finite(merged(Average, state.recent).compute(), state)}
            figures |= merged(session.task.metrics, state.metrics).compute()
            log(progress.line(state.step, figures, float(state.scheduler.get_last_lr()[0])))
            state.loss, state.recent = state.loss.plus(state.recent), Average()
        session.after_step()  # may save, or raise Stopped
    loss = check_finite(merged(Average, state.loss.plus(state.recent)).compute(), state)
    return {"loss": loss, **merged(session.task.metrics, state.metrics).compute()}


def train_step(state: State, session: Session, group: Iterable[Batch], samples: float) -> float:
    """One optimizer step on a group of batches, as if they were one; returns its samples.

    `samples` are those of the first batches of all processes together.
    """
    config, task = session.config, session.task
    expected = samples * config.train.accumulate  # if no later batch is smaller
    batches, done, own = iter(group), 0, 0
    batch = next(batches, None)
    while batch is not None:
        following, count = next(batches, None), len(batch[0])
        with distributed.accumulating(state.net, following is not None):
            with autocast(session.device, config.train.precision):
                outputs = task.forward(state.net, batch)
                loss = task.loss(outputs, batch)
            weight = count * distributed.world() / expected  # in the mean over all samples
            state.scaler.scale(loss if weight == 1 else loss * weight).backward()
        state.metrics.update(outputs, batch)
        state.recent.update(loss, count)
        batch, done, own = following, done + 1, own + count
    distributed.finish_gradients(state.model, state.loss_module)
    samples = expected if config.train.accumulate == 1 else distributed.all_sum(own)[0]
    states.optimizer_step(state, config, session.weights, expected / samples)
    state.step, state.batches = state.step + 1, state.batches + done
    state.samples += int(samples)
    return samples


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    loader: Iterable[Batch],
    device: torch.device,
    precision: str = "fp32",
    metrics: Metrics | None = None,
) -> dict[str, float]:
    """The loss and metrics of a model on a split, over all processes; fills `metrics`, if given."""
    model.eval()
    criterion = states.loss_module(task).eval()
    distributed.broadcast(*model.buffers(), *criterion.buffers())
    loss, metrics = Average(), task.metrics() if metrics is None else metrics
    for batch, counts in distributed.even_batches(loader):
        batch = to_device(batch, device)
        with autocast(device, precision):
            outputs = task.forward(model, batch)
            mean = task.loss(outputs, batch)
        if counts:
            loss.update(mean, len(batch[0]))
            metrics.update(outputs, batch)
    return {"loss": merged(Average, loss).compute(), **merged(task.metrics, metrics).compute()}
