"""The training loop, top to bottom."""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..components import build_hooks, extra
from ..model.utils import count_parameters
from ..options import Config
from . import checkpoint, distributed
from . import state as states
from .contract import Batch, Metrics, Task, batch_size
from .device import autocast, derived_seed, pick_device, prefetch, prepare, seeded, to_device
from .distributed import log, shortest_epoch
from .metrics import Average, merged
from .session import Session, check_finite
from .state import State
from .tracking import open_trackers


def train(
    config: Config,
    run: Path,
    resume: dict[str, Any] | None = None,
    profile: bool = False,
    task: Any = None,
    hooks: Iterable[Any] = (),
) -> State:
    """Train in the new folder `run`, or `resume` there from what `checkpoint.load` returned.

    `profile` adds the hook Profiler; `task` is a class in place of yours; `hooks` are added to
    those of the config. The state's `rows` are those of `metrics.csv`. Raises UserError if the run
    cannot start or the loss is not finite, and `errors.Stopped` once it is saved after a signal.
    """
    device = pick_device(config.run.device)
    prepare(config.run)
    with distributed.main_first(), checkpoint.mismatch_error(states.DIFFERS if resume else ""):
        built = states.build_task(config, device, resume, task)
        train_loader: Any = built.train_loader()
        valid_loader: Any = built.eval_loader("valid")
    if config.train.overfit_batches:
        train_loader = valid_loader = list(islice(train_loader, config.train.overfit_batches))
    limit, batches = shortest_epoch(config.train.limit_batches or sys.maxsize, train_loader)
    state = states.build_state(config, built, device, batches)
    if resume:
        states.restore(state, resume, config)
    else:
        states.warn_if_short(config, train_loader, state.total_steps)
        if weights := config.model.weights:
            extra("pretrained", "model: weights need").warn_of_others(built.info, weights)
    named = {**config.train.hooks, **({"Profiler": {}} if profile else {})}
    with Session(config, built, run, state, [*build_hooks(named), *hooks]) as session:
        session.restore_hooks(resume)
        if distributed.rank() == 0:
            session.trackers = open_trackers(config.run.tracker, run, config.model_dump(), state)
        where = f"{distributed.world()} x {device.type}, threads: {torch.get_num_threads()}"
        log(f"{run}: {config.model.name}, {count_parameters(state.model):,} parameters, on {where}")
        session.tell("start")
        while not session.ended():
            for end_of_epoch in train_epoch(state, session, train_loader, limit):
                if session.validation_due(end_of_epoch):
                    validate(state, session, valid_loader, limit, end_of_epoch)
                elif end_of_epoch:
                    states.end_epoch(state, config)
                    session.tell("epoch")
    return state


def train_epoch(
    state: State, session: Session, loader: Iterable[Batch], limit: int
) -> Iterator[bool]:
    """Train until the epoch or the run ends; a resumed epoch continues where it was saved.

    Yields False for each validation that is due before the epoch's end, and True at its end.
    """
    options, task = session.config.train, session.task
    more = max(0, limit - state.batches)
    seed = derived_seed(session.config.run.seed, distributed.rank(), state.epoch)
    remaining = islice(seeded(loader, seed, skip=states.fast_forward(loader, state)), more)
    batches = prefetch(session.progress.timed(remaining), session.device, options.channels_last)
    session.start_training()
    while True:
        if session.validation_due(end_of_epoch=False):
            yield False
            session.start_training()
        if session.ended():
            return
        begins, first = state.batches == 0, next(batches, None)
        samples = session.before_step(0 if first is None else batch_size(task, first))
        if first is None or not samples:  # the end of the data, here or in another process
            break
        group = chain([first], distributed.take(batches, options.accumulate - 1))  # or fewer
        session.progress.samples += train_step(state, session, group, samples)
        if begins:
            session.draw(first)
        if state.step % options.log_every == 0:  # the only place that waits for the device
            figures = {"loss": check_finite(merged(Average, state.recent).compute(), state)}
            session.log_step(figures | merged(task.metrics, state.metrics).compute())
            state.loss, state.recent = state.loss.plus(state.recent), Average()
        session.after_step()  # may save, or raise Stopped
    yield True


def train_step(state: State, session: Session, group: Iterable[Batch], samples: float) -> float:
    """One optimizer step on a group of batches, as if they were one; returns its samples.

    `samples` is the number of samples in the first batches of all processes together.
    """
    config, task = session.config, session.task
    if hasattr(task, "train_step"):
        own = extra("optimizers", "task: train_step needs").own_step
        return float(own(session, next(iter(group)), samples))
    expected = samples * config.train.accumulate  # if no later batch is smaller
    batches, done, own = iter(group), 0, 0
    batch = next(batches, None)
    while batch is not None:
        following, count = next(batches, None), batch_size(task, batch)
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
    scale, weights = expected / samples, session.weights
    states.optimizer_step(state, config, weights, scale, state.optimizer, session.hear)
    states.end_step(state, config, done, int(samples))
    return samples


def validate(
    state: State, session: Session, loader: Iterable[Batch], limit: int, end_of_epoch: bool
) -> None:
    """Evaluate, record the figures, and save the state."""
    config, task = session.config, session.task
    seconds = time.perf_counter() - session.training_since
    loss = check_finite(merged(Average, state.loss.plus(state.recent)).compute(), state)
    trained = {"loss": loss, **merged(task.metrics, state.metrics).compute()}
    batches = session.interruptible(loader, limit)
    valid = evaluate(state.evaluated, task, batches, session.device, config.train.precision)
    splits = {"train": trained, "valid": valid}.items()
    figures = {f"{s}_{name}": of[name] for name in valid for s, of in splits if name in of}
    session.tell("validation", figures)
    row: dict[str, Any] = {"epoch": states.epoch_number(state), "step": state.step}
    row |= {"learning_rate": state.scheduler.get_last_lr()[0], **figures, "seconds": seconds}
    for tracker in session.trackers:  # before the save: a resume drops what is newer
        tracker.log(row)
    session.consistent = False  # until it is saved
    best = "  best" if states.end_validation(state, task, config, valid) else ""
    if end_of_epoch:
        states.end_epoch(state, config)
        session.tell("epoch")
    session.save()
    at = f"epoch {row['epoch']}/{config.train.epochs}"
    if config.train.max_steps or config.valid.every_steps:
        at = f"step {state.step}/{state.total_steps}  epoch {row['epoch']}"
    text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
    log(f"{at}  {text}  {seconds:.1f} s{best}")


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
    distributed.broadcast(*model.buffers(), *states.loss_module(task).eval().buffers())
    loss, metrics = Average(), task.metrics() if metrics is None else metrics
    for batch, counts in distributed.even_batches(loader):
        batch = to_device(batch, device)
        with autocast(device, precision):
            outputs = task.forward(model, batch)
            mean = task.loss(outputs, batch)
        if counts:
            loss.update(mean, batch_size(task, batch))
            metrics.update(outputs, batch)
    return {"loss": merged(Average, loss).compute(), **merged(task.metrics, metrics).compute()}
