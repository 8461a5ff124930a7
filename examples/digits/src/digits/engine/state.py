"""The state of training: built from a config, changed by steps and epochs, saved, restored."""

import copy
import importlib
import math
import random
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..components import build_optimizer, build_scheduler, extra, without_pretrained
from ..errors import UserError
from ..options import Config, file_name
from . import checkpoint, distributed
from .contract import Batch, Metrics, Task
from .device import derived_seed, seed_all
from .distributed import log
from .metrics import Average, merged

DIFFERS = "the run to resume does not fit"


@dataclass
class State:
    """Everything that training changes."""

    model: nn.Module  # its weights are saved
    net: nn.Module  # the same model as the loop calls it: compiled, or in DDP
    ema: nn.Module | None  # the exponential moving average of the weights, which is evaluated
    loss_module: nn.Module  # of the task; empty if its loss is a function
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    scaler: GradScaler  # disabled unless the precision is fp16
    metrics: Metrics  # of this epoch
    loss: Average = field(default_factory=Average)  # of this epoch, up to the last progress line
    recent: Average = field(default_factory=Average)  # since then
    epoch: int = 0  # complete epochs
    batches: int = 0  # of this epoch, in this process
    samples: int = 0  # of this epoch, over all processes
    step: int = 0  # optimizer steps
    best: float = math.nan  # the monitored figure of the best epoch
    best_loss: float = math.nan  # its validation loss, which breaks ties
    best_file: str = ""
    best_step: int = -1  # when it was found
    stale: int = 0  # validations since the best one
    validated_step: int = 0  # of the newest validation
    saved_step: int = -1  # of last.pt
    total_steps: int = 0  # of the whole run, if it isn't stopped early
    grad_norm: Any = math.nan  # of the newest step where it was measured, before clipping
    rows: Any = None  # of metrics.csv, one a validation
    data: list[int] | None = None  # the `fingerprint` of the training data

    @property
    def evaluated(self) -> nn.Module:
        return self.model if self.ema is None else self.ema


def build_state(config: Config, task: Task, device: torch.device, batches: int) -> State:
    """A new state; `batches` is the length of an epoch. UserError for an unknown metric or name."""
    options = config.train
    monitored(config, {"loss": math.nan, **task.metrics().compute()})  # fails before training
    sharded = distributed.fsdp() if config.distributed.fsdp.get("meta_device") else None
    model = sharded.build_model(task, config, device) if sharded else task.build_model().to(device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.distributed.sync_batchnorm and distributed.world() > 1:
        if device.type != "cuda":
            raise UserError("distributed.sync_batchnorm: needs GPUs; set it to false")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    loss = loss_module(task).to(device)
    distributed.broadcast(*loss.parameters(), *loss.buffers())
    # `to` makes the copied weights of an RNN contiguous: cuDNN would do it at each call.
    ema = copy.deepcopy(model).to(device).requires_grad_(False) if options.ema else None
    own = hasattr(task, "train_step") and extra("optimizers", "task: train_step needs")
    net = (own or distributed).wrap(model, config, device, ema)
    if options.compile:
        net = torch.compile(net)
    if hasattr(task, "build_optimizers"):
        optimizer = extra("optimizers", "task: build_optimizers needs").of_task(task, model)
    else:
        optimizer = build_optimizer(config.optimizer, model, *([] if is_frozen(loss) else [loss]))
    if batches == sys.maxsize and not options.max_steps:
        raise UserError("train.max_steps: set it, since the training data has no length")
    steps = math.ceil(batches / options.accumulate)
    total = options.max_steps or options.epochs * steps
    calls = total if config.scheduler.every == "step" else math.ceil(total / steps)
    scheduler = build_scheduler(config.scheduler, optimizer, calls, config.checkpoint.mode)
    scaler = GradScaler(device.type, enabled=options.precision == "fp16")
    if rank := distributed.rank():  # after the weights: dropout should differ between ranks
        seed_all(derived_seed(config.run.seed, rank))
    parts = model, net, ema, loss, optimizer, scheduler, scaler, task.metrics()
    return State(*parts, total_steps=total)


def warn_if_short(config: Config, loader: Iterable[Batch], steps: int) -> None:
    """Warn if a run has few steps in all, for example from a large batch; not in trial runs."""
    options = config.train
    trial = options.limit_batches or options.overfit_batches or options.max_steps
    if steps < 100 and options.epochs >= 5 and not trial and (samples := fingerprint(loader)):
        size = config.data.batch_size * options.accumulate * distributed.world()
        why = f"{samples[0]} samples, batch size {size}, {options.epochs} epochs"
        log(f"warning: {steps} steps in all ({why}): lower data.batch_size or raise train.epochs")


def loss_module(task: Task) -> nn.Module:
    """The loss of a task as a module; an empty one if it is a function."""
    loss = getattr(task, "loss_function", None)
    return loss if isinstance(loss, nn.Module) else nn.Module()


def build_task(
    config: Config, device: torch.device, contents: dict[str, Any] | None, kind: Any = None
) -> Task:
    """A task of the class `kind`, or of yours; with a checkpoint's contents, it needs no data."""
    kind = kind or importlib.import_module(f"...{config.run.task}", __name__).Task
    if contents is None:
        return kind(config, device)
    task: Task = kind(without_pretrained(config), device, contents["info"])
    if contents.get("loss") is None:  # v0.7 and older did not train the loss
        loss_module(task).requires_grad_(False)
    return task


def is_frozen(loss: nn.Module) -> bool:
    """Whether a loss has parameters, none of which is trained."""
    return bool([*loss.parameters()]) and not any(p.requires_grad for p in loss.parameters())


# --- steps and epochs ---
def fast_forward(loader: Iterable[Batch], state: State) -> int:
    """Move the loader to the state's position in the epoch; returns the batches still to skip."""
    if state.data is None or state.batches:
        known, state.data = state.data, fingerprint(loader)
        if state.batches and known not in (None, state.data):
            changed = "the training data has changed since the run was saved"
            log(f"warning: {changed}, so the rest of this epoch has another order")
    sampler: Any = getattr(loader, "sampler", None)
    if sampler is not None:
        sampler.epoch = state.epoch
    if not hasattr(sampler, "start"):
        return state.batches
    sampler.start = state.samples
    return 0


def fingerprint(loader: Any) -> list[int] | None:
    """The number of samples of a split and a CRC-32 of their files' names; None if unknown."""
    dataset: Any = getattr(loader, "dataset", None)
    dataset = getattr(dataset, "dataset", dataset)
    if not hasattr(dataset, "__len__"):
        return None
    samples = getattr(dataset, "samples", ())  # your dataset's may be slow to read
    pairs = samples if isinstance(samples, list | tuple) else ()
    files = (each[0] for each in pairs if isinstance(each, tuple))
    names = "\n".join(path.name for path in files if isinstance(path, Path))
    return [len(dataset), zlib.crc32(names.encode("utf-8", "surrogateescape"))]


def step_scheduler(state: State, config: Config, every: str) -> None:
    """Step the scheduler after a "step" or an "epoch", if it is due."""
    try:
        if config.scheduler.every == every and not isinstance(state.scheduler, ReduceLROnPlateau):
            state.scheduler.step()
    except ValueError as error:  # OneCycleLR, for example, has no steps beyond its total
        raise UserError(f"scheduler: {error}; start a new run for more epochs") from error


def end_epoch(state: State, config: Config) -> None:
    """Step the scheduler and begin the next epoch."""
    step_scheduler(state, config, "epoch")
    state.epoch += 1
    state.batches = state.samples = 0


def end_validation(state: State, task: Task, config: Config, valid: dict[str, float]) -> bool:
    """Record the figures of a validation; returns whether it is the best so far."""
    options, value = config.checkpoint, monitored(config, valid)
    if isinstance(state.scheduler, ReduceLROnPlateau):
        state.scheduler.step(value)
    better = value > state.best if options.mode == "max" else value < state.best
    better |= math.isnan(state.best) or (value == state.best and valid["loss"] < state.best_loss)
    state.stale = 0 if better else state.stale + 1
    if better:
        fields: dict[str, Any] = {"model": config.model.name, "epoch": epoch_number(state)}
        fields |= {"step": state.step, "monitor": options.monitor, "value": value}
        state.best, state.best_loss, state.best_step = value, valid["loss"], state.step
        state.best_file = f"{file_name(options.name, **fields)}.pt"
    state.validated_step = state.step
    state.loss, state.recent, state.metrics = Average(), Average(), task.metrics()
    return better


def epoch_number(state: State) -> int:
    """The number, from 1, of the epoch under way, or of the one that has just ended."""
    return state.epoch + (state.batches > 0)


def monitored(config: Config, valid: dict[str, float]) -> float:
    """The figure named by `checkpoint.monitor`; UserError if there is none of that name."""
    name = config.checkpoint.monitor
    if name not in valid:
        raise UserError(f"checkpoint.monitor: no metric {name!r}; there are: {', '.join(valid)}")
    return valid[name]


def optimizer_step(
    state: State, config: Config, weights: Any, scale: float, optimizer: Any, hear: Any
) -> None:
    """Multiply the gradients by `scale`, tell the hooks (`hear`), clip, and step an optimizer."""
    logged = (state.step + 1) % config.train.log_every == 0
    largest = config.train.grad_clip or (math.inf if logged else None)
    with distributed.mixed_tensors():
        if scale != 1:
            torch._foreach_mul_([p.grad for p in weights if p.grad is not None], scale)
        if largest or hear:
            state.scaler.unscale_(optimizer)
        if hear:
            hear()
        if largest:
            state.grad_norm = nn.utils.clip_grad_norm_(weights, largest)
        state.scaler.step(optimizer)
    state.scaler.update()
    optimizer.zero_grad(set_to_none=True)


def end_step(state: State, config: Config, batches: int, samples: int) -> None:
    """Step the scheduler and the EMA, and count the step, its batches and samples."""
    step_scheduler(state, config, "step")
    if state.ema and config.train.ema:
        warmup = (1 + state.step) / (10 + state.step)  # else the initial weights count for long
        update_ema(state.ema, state.model, min(config.train.ema, warmup))
    state.step, state.batches = state.step + 1, state.batches + batches
    state.samples += samples


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * model (Polyak and Juditsky, 1992); buffers are copied."""
    means, weights = list[Tensor](ema.parameters()), list[Tensor](model.parameters())
    torch._foreach_lerp_(means, weights, 1 - decay)
    for mean, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        mean.copy_(buffer)


# --- to a checkpoint and back ---
def to_checkpoint(state: State, task: Task, config: Config) -> dict[str, Any]:
    """The contents of a checkpoint: tensors and plain values. All processes must call this."""
    distributed.broadcast(*state.model.buffers(), *state.loss_module.buffers())
    metrics = merged(task.metrics, state.metrics) if hasattr(state.metrics, "state") else None
    loss, best = state.loss_module, {"value": state.best, "loss": state.best_loss}
    if sharded := distributed.sharding(state.model):
        trained = sharded.state_dicts(state.model, state.ema, state.optimizer, loss)
    else:
        trained = {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}
        trained["ema"] = state.ema.state_dict() if state.ema else None
    return {
        **trained,
        "loss": None if is_frozen(loss) else loss.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "best": {**best, "file": state.best_file, "step": state.best_step, "stale": state.stale},
        "under_way": {
            "batches": state.batches,
            "samples": state.samples,
            "validated": state.validated_step,
            "loss": merged(Average, state.loss).state(),
            "recent": merged(Average, state.recent).state(),
            "metrics": metrics.state() if metrics else None,
        },
        "rng": rng_state(),
        "ranks": distributed.gather(rng_state()),
        "config": config.model_dump(),
        "info": task.info,
        "rows": state.rows,
        "data": state.data,
    }


def restore(state: State, saved: dict[str, Any], config: Config) -> None:
    """Load the contents of a checkpoint into a new state; UserError if the config does not fit."""
    before = Config.model_validate(saved["config"])  # newer options get their defaults
    trained = list(state.loss_module.parameters())
    for part in ("model", "optimizer", "scheduler", *(["loss"] if trained else [])):
        old, now = getattr(before, part), getattr(config, part)
        if old.name != now.name or (part != "model" and old != now):
            was = old.model_dump()
            raise UserError(f"{part}: the run to resume has {was}; start a new run to change it")
    with checkpoint.mismatch_error(DIFFERS):
        if sharded := distributed.sharding(state.model, saved):
            sharded.restore(saved, state.model, state.ema, state.optimizer, state.loss_module)
        else:
            state.model.load_state_dict(saved["model"])
            state.optimizer.load_state_dict(saved["optimizer"])
            if state.ema:
                state.ema.load_state_dict(saved.get("ema") or saved["model"])
        load_loss(saved, config, state.loss_module)
        state.scheduler.load_state_dict(saved["scheduler"])
        if state.scaler.is_enabled() and saved.get("scaler"):
            state.scaler.load_state_dict(saved["scaler"])
        state.epoch, state.step, state.saved_step = saved["epoch"], saved["step"], saved["step"]
        state.rows, state.data = saved.get("rows"), saved.get("data")  # v0.7 and older lack them
        state.best, state.best_file = saved["best"]["value"], Path(saved["best"]["file"]).name
        state.stale = saved["best"].get("stale", 0)
        state.best_loss = saved["best"].get("loss", math.nan)  # v0.6 and older don't save it
        state.best_step = saved["best"].get("step", -1)  # v0.9 and older don't
        state.validated_step = state.step
        if under_way := saved.get("under_way"):
            before_v10 = -1 if under_way["batches"] else state.step
            state.validated_step = under_way.get("validated", before_v10)
            state.batches, state.samples = under_way["batches"], under_way["samples"]
            if distributed.rank() == 0:
                state.loss.merge([under_way["loss"]])
                state.recent.merge([under_way["recent"]])
                if under_way["metrics"] and hasattr(state.metrics, "merge"):
                    state.metrics.merge([under_way["metrics"]])
        ranks = saved.get("ranks", [saved["rng"]])
        if distributed.rank() < len(ranks):
            set_rng_state(ranks[distributed.rank()])
    for key in ("epochs", "max_steps"):
        old, now = getattr(before.train, key), getattr(config.train, key)
        if old != now and isinstance(scheduler := state.scheduler, LambdaLR):
            rate = scheduler.base_lrs[0] * scheduler.lr_lambdas[0](scheduler.last_epoch)
            jump = f"the learning rate jumps from {scheduler.get_last_lr()[0]:.1e} to {rate:.1e}"
            log(f"train.{key} is {now}, and was {old}: {jump}")


def load_loss(saved: dict[str, Any], config: Config, loss: nn.Module) -> None:
    """Load the tensors of a loss, unless the config has another loss than the checkpoint."""
    if saved.get("loss") and saved["config"]["loss"] == config.loss.model_dump():
        loss.load_state_dict(saved["loss"])


def rng_state() -> list[Any]:
    """The generators of torch (the CPU, then each GPU), Python's `random`, and NumPy."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    numpy_state = (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest)
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all(), random.getstate(), numpy_state]


def set_rng_state(saved: list[Any]) -> None:
    """Restore what `rng_state` returned; v0.3 saved only torch's part, v0.6 all but NumPy's."""
    cpu, *cuda = (part for part in saved if isinstance(part, Tensor))
    torch.set_rng_state(cpu)
    for index, generator_state in enumerate(cuda[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator_state, index)
    for part in saved[1 + len(cuda) :]:
        if isinstance(part[0], str):
            keys = part[1].numpy().astype(np.uint32)
            np.random.set_state((part[0], keys, *part[2:]))  # noqa: NPY002
        else:
            random.setstate(part)
