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

from .. import task as yours
from ..model.utils import count_parameters
from ..options import Config
from . import checkpoint, distributed
from .contract import Batch, Task
from .device import autocast, on_device, pick_device, prepare, to_device
from .metrics import Average, merged
from .progress import Progress, fewest_batches, log
from .session import Session, finite
from .state import DIFFERS, State, build, end_epoch, loss_module, optimize, restore, skip, task_of
from .tracking import open_trackers


def train(
    config: Config,
    run: Path,
    resume: dict[str, Any] | None = None,
    profile: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> State:
    """Train as `config` says, in a new folder `run`, or go on there with a checkpoint's contents.

    `on_epoch` gets each epoch's number and its figures, once its state is saved.
    Raises UserError if the run cannot start, or if its loss is no longer a number, and
    `signals.Stopped` once it has saved its state because a signal asked it to end.
    """
    device = pick_device(config.run.device)
    prepare(config.run)
    with distributed.main_first(), checkpoint.fits(DIFFERS if resume else None):
        task = task_of(resume, config, device) if resume else yours.Task(config, device)
        train_loader: Any = task.train_loader()
        valid_loader: Any = task.eval_loader("valid")
    if config.train.overfit_batches:
        train_loader = valid_loader = list(islice(train_loader, config.train.overfit_batches))
    limit, steps = fewest_batches(config.train.limit_batches or sys.maxsize, len(train_loader))
    state = build(config, task, device, steps)
    if resume:
        restore(state, resume, config)
    patience = config.train.patience or math.inf
    with Session(config, task, device, run, state, profile) as session:
        if distributed.rank() == 0:
            session.trackers = open_trackers(config.run.tracker, run, config.model_dump(), state)
        where = f"{distributed.world()} x {device.type}, threads: {torch.get_num_threads()}"
        log(f"{run}: {config.model.name}, {count_parameters(state.model):,} parameters, on {where}")
        try:
            while state.epoch < config.train.epochs and state.stale < patience:
                started = time.perf_counter()
                trained = train_epoch(state, session, train_loader, limit)
                seconds = time.perf_counter() - started
                batches = session.until_asked_to_stop(valid_loader, limit)
                valid = evaluate(state.evaluated, task, batches, device, config.train.precision)

                lr = state.scheduler.get_last_lr()[0]
                when = {"epoch": state.epoch + 1, "step": state.step, "learning_rate": lr}
                figures: dict[str, float] = {}
                for name, value in valid.items():
                    seen = {f"train_{name}": trained[name]} if name in trained else {}
                    figures |= {**seen, f"valid_{name}": value}
                for tracker in session.trackers:  # before the save: a resume drops what is newer
                    tracker.log({**when, **figures, "seconds": seconds})
                session.consistent = False  # until it is saved
                best = "  best" if end_epoch(state, task, config, valid) else ""
                session.save()
                text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
                log(f"epoch {state.epoch}/{config.train.epochs}  {text}  {seconds:.1f} s{best}")
                if on_epoch:
                    on_epoch(state.epoch, figures)
        finally:
            for tracker in session.trackers:
                tracker.close()
    return state


def train_epoch(
    state: State, session: Session, loader: Iterable[Batch], limit: int
) -> dict[str, float]:
    """One pass over the training data, or over what is left of it; returns loss and metrics."""
    rule, device = session.config.train, session.device
    state.net.train()
    state.loss_module.train()
    progress = Progress(device)
    more = max(0, limit - state.batches)
    left = progress.fetch(loader, skip(loader, state), more)
    batches = on_device(left, device, rule.channels_last)
    while True:
        begins, first = state.batches == 0, next(batches, None)
        samples = session.agree(0 if first is None else len(first[0]))
        if first is None or not samples:  # here, or in another process
            break
        group = chain([first], islice(batches, rule.accumulate - 1))  # the last one may be smaller
        progress.samples += train_step(state, session, group, samples)
        if begins:
            session.draw(first)
        if state.step % rule.log_every == 0:  # the only place that waits for the device
            figures = {"loss": finite(merged(Average, state.recent).compute(), state)}
            figures |= merged(session.task.metrics, state.metrics).compute()
            log(progress.line(state.step, figures, float(state.scheduler.get_last_lr()[0])))
            state.loss, state.recent = state.loss.plus(state.recent), Average()
        session.after_step()  # saves where it is time to; Stopped if asked
    loss = finite(merged(Average, state.loss.plus(state.recent)).compute(), state)
    return {"loss": loss, **merged(session.task.metrics, state.metrics).compute()}


def train_step(state: State, session: Session, group: Iterable[Batch], samples: float) -> float:
    """One step of the optimizer on a group of batches, as if they were one; returns its samples.

    `samples` is how many the first batches of all processes have together.
    """
    config, task = session.config, session.task
    expected = samples * config.train.accumulate  # if all batches are as large as the first ones
    batches, done, own = iter(group), 0, 0
    batch = next(batches, None)
    while batch is not None:
        following, count = next(batches, None), len(batch[0])
        with distributed.accumulating(state.net, following is not None):
            with autocast(session.device, config.train.precision):
                outputs = task.forward(state.net, batch)
                loss = task.loss(outputs, batch)
            share = count * distributed.world() / expected  # of the mean over all samples
            state.scaler.scale(loss if share == 1 else loss * share).backward()
        state.metrics.update(outputs, batch)
        state.recent.update(loss, count)
        batch, done, own = following, done + 1, own + count
    distributed.finish_gradients(state.model, state.loss_module)
    samples = expected if config.train.accumulate == 1 else distributed.agree(own)[0]
    optimize(state, config, session.weights, expected / samples)
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
) -> dict[str, float]:
    """One pass without training; returns the loss and metrics, over all processes."""
    model.eval()
    of_loss = loss_module(task).eval()
    distributed.same_tensors(*model.buffers(), *of_loss.buffers())
    loss, metrics = Average(), task.metrics()
    for batch, counts in distributed.in_step(loader):
        batch = to_device(batch, device)
        with autocast(device, precision):
            outputs = task.forward(model, batch)
            mean = task.loss(outputs, batch)
        if counts:
            loss.update(mean, len(batch[0]))
            metrics.update(outputs, batch)
    together = merged(task.metrics, metrics)
    return {"loss": merged(Average, loss).compute(), **together.compute()}
