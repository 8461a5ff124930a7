"""All that a run changes as it goes: how it is built, saved, and restored."""

import copy
import math
import random
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

from .. import task as yours
from ..components import build_optimizer, build_scheduler, without_pretrained
from ..errors import UserError
from ..options import Config, named
from . import checkpoint, distributed, sharded
from .contract import Batch, Metrics, Task
from .device import derived_seed, seed_all
from .metrics import Average, merged
from .progress import log

DIFFERS = "the run to resume does not fit"


@dataclass
class State:
    """All that a run changes as it goes."""

    model: nn.Module  # whose weights are saved
    net: nn.Module  # the same as the loop calls it: compiled, one of several processes
    ema: nn.Module | None  # the mean of the weights, which is then evaluated and used
    loss_module: nn.Module  # of the task; empty if its loss is a function
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    scaler: GradScaler  # of fp16's gradients; does nothing for the others
    metrics: Metrics  # of the epoch under way
    loss: Average = field(default_factory=Average)  # of the epoch under way, up to the last line
    recent: Average = field(default_factory=Average)  # since then
    epoch: int = 0  # epochs done
    batches: int = 0  # done of the epoch under way
    samples: int = 0  # the same, by all processes together
    step: int = 0  # optimizer steps done
    best: float = math.nan  # the monitored figure of the best epoch
    best_loss: float = math.nan  # its validation loss, which decides between equals
    best_file: str = ""
    stale: int = 0  # epochs since then
    saved_step: int = -1  # of last.pt
    rows: Any = None  # of metrics.csv, an epoch each
    data: list[int] | None = None  # what `samples_of` gives

    @property
    def evaluated(self) -> nn.Module:
        return self.model if self.ema is None else self.ema


def build(config: Config, task: Task, device: torch.device, batches: int) -> State:
    """A new state; `batches` is how many an epoch has."""
    rule = config.train
    monitored(config, {"loss": math.nan, **task.metrics().compute()})  # refuses a wrong name now
    model = task.build_model().to(device)
    if rule.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.distributed.sync_batchnorm and distributed.world() > 1:
        if device.type != "cuda":
            raise UserError("distributed.sync_batchnorm: needs GPUs; set it to false")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    loss = loss_module(task).to(device)
    distributed.same_tensors(*loss.parameters(), *loss.buffers())
    ema = copy.deepcopy(model).requires_grad_(False) if rule.ema else None
    net = distributed.wrap(model, config.distributed, device)
    if ema and net is model and distributed.world() > 1:
        distributed.shard(ema, device)
    if rule.compile:
        net = torch.compile(net)  # type: ignore[assignment]
    optimizer = build_optimizer(config.optimizer, model, *([] if is_frozen(loss) else [loss]))
    steps = math.ceil(batches / rule.accumulate) if config.scheduler.every == "step" else 1
    mode = config.checkpoint.mode
    scheduler = build_scheduler(config.scheduler, optimizer, rule.epochs * steps, mode)
    scaler = GradScaler(device.type, enabled=rule.precision == "fp16")
    if rank := distributed.rank():  # the weights are the same everywhere, dropout is not
        seed_all(derived_seed(config.run.seed, rank))
    return State(model, net, ema, loss, optimizer, scheduler, scaler, task.metrics())


def loss_module(task: Task) -> nn.Module:
    """The loss of a task, whose parameters are trained too; an empty module if it is a function."""
    loss = getattr(task, "loss_function", None)
    return loss if isinstance(loss, nn.Module) else nn.Module()


def task_of(contents: dict[str, Any], config: Config, device: torch.device) -> Task:
    """The task of a checkpoint."""
    task: Task = yours.Task(without_pretrained(config), device, contents["info"])
    if contents.get("loss") is None:  # v0.7 and older don't train it
        loss_module(task).requires_grad_(False)
    return task


def is_frozen(loss: nn.Module) -> bool:
    """Whether it has parameters, and none of them is trained."""
    trained = [parameter.requires_grad for parameter in loss.parameters()]
    return bool(trained) and not any(trained)


# --- from step to step, from epoch to epoch ---


def skip(loader: Iterable[Batch], state: State) -> int:
    """Put the loader to where the epoch stands; how many batches are still to be passed over."""
    if state.data is None or state.batches:
        known, state.data = state.data, samples_of(loader)
        if state.batches and known not in (None, state.data):
            changed = "the training data has changed since the run was saved"
            log(f"warning: {changed}, so the rest of this epoch has another order")
    sampler: Any = getattr(loader, "sampler", None)
    if sampler is not None:
        sampler.epoch = state.epoch
    if not hasattr(sampler, "start"):
        return state.batches  # to be read again
    sampler.start = state.samples
    return 0


def samples_of(loader: Any) -> list[int] | None:
    """How many samples a split has, and a checksum of their files' names; None if unknown."""
    dataset: Any = getattr(loader, "dataset", None)
    dataset = getattr(dataset, "dataset", dataset)
    if not hasattr(dataset, "__len__"):
        return None
    files = (each[0] for each in getattr(dataset, "samples", []) if isinstance(each, tuple))
    names = "\n".join(path.name for path in files if isinstance(path, Path))
    return [len(dataset), zlib.crc32(names.encode("utf-8", "surrogateescape"))]


def schedule_step(state: State, config: Config, every: str = "step") -> None:
    """Move the learning rate on after a step (or an epoch), if it moves with these."""
    if config.scheduler.every != every or isinstance(state.scheduler, ReduceLROnPlateau):
        return
    try:
        state.scheduler.step()
    except ValueError as error:  # OneCycleLR, say, ends where the run was first meant to
        raise UserError(f"scheduler: {error}; start a new run for more epochs") from error


def schedule_epoch(state: State, config: Config, valid: dict[str, float]) -> None:
    """Move the learning rate on after an epoch with these figures, if it moves with epochs."""
    if isinstance(state.scheduler, ReduceLROnPlateau):
        state.scheduler.step(monitored(config, valid))
    else:
        schedule_step(state, config, every="epoch")


def end_epoch(state: State, task: Task, config: Config, valid: dict[str, float]) -> bool:
    """Whether the epoch was the best so far; the learning rate moves, the next epoch begins."""
    schedule_epoch(state, config, valid)
    rule, value = config.checkpoint, monitored(config, valid)
    state.epoch += 1
    better = value > state.best if rule.mode == "max" else value < state.best
    wins_tie = value == state.best and valid["loss"] < state.best_loss
    better = better or wins_tie or math.isnan(state.best)
    state.stale = 0 if better else state.stale + 1
    if better:
        fields = {"model": config.model.name, "epoch": state.epoch, "step": state.step}
        state.best, state.best_loss = value, valid["loss"]
        state.best_file = f"{named(rule.name, **fields, monitor=rule.monitor, value=value)}.pt"
    state.batches = state.samples = 0
    state.loss, state.recent, state.metrics = Average(), Average(), task.metrics()
    return better


def monitored(config: Config, valid: dict[str, float]) -> float:
    """The figure that decides which epoch is best."""
    name = config.checkpoint.monitor
    if name not in valid:
        raise UserError(f"checkpoint.monitor: no metric {name!r}; there are: {', '.join(valid)}")
    return valid[name]


def optimize(state: State, config: Config, weights: list[Tensor], scale: float) -> None:
    """One step of the optimizer, the scheduler and the EMA; gradients are multiplied by `scale`."""
    with distributed.mixed_tensors():
        if scale != 1:
            torch._foreach_mul_([p.grad for p in weights if p.grad is not None], scale)
        if config.train.grad_clip:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(weights, config.train.grad_clip)
        state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    schedule_step(state, config)
    if state.ema and config.train.ema:
        warm = (1 + state.step) / (10 + state.step)  # or the initial weights stay long
        update_ema(state.ema, state.model, min(config.train.ema, warm))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the mean of the weights on (Polyak and Juditsky, 1992); buffers are copied."""
    means, weights = list[Tensor](ema.parameters()), list[Tensor](model.parameters())
    torch._foreach_lerp_(means, weights, 1 - decay)
    for mean, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        mean.copy_(buffer)


# --- into a checkpoint, and out of it ---


def contents(state: State, task: Task, config: Config) -> dict[str, Any]:
    """What a checkpoint holds: tensors and plain values. All processes must call this."""
    distributed.same_tensors(*state.model.buffers(), *state.loss_module.buffers())
    metrics = merged(task.metrics, state.metrics) if hasattr(state.metrics, "state") else None
    loss, best = state.loss_module, {"value": state.best, "loss": state.best_loss}
    if sharded.is_sharded(state.model):
        trained = sharded.describe(state.model, state.ema, state.optimizer, loss)
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
        "best": {**best, "file": state.best_file, "stale": state.stale},
        "under_way": {
            "batches": state.batches,
            "samples": state.samples,
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
    """Put a checkpoint's contents into a state built by the same config, or raise UserError."""
    before = Config.model_validate(saved["config"])  # options that are newer get their defaults
    trained = list(state.loss_module.parameters())
    for part in ("model", "optimizer", "scheduler", *(["loss"] if trained else [])):
        old, now = getattr(before, part), getattr(config, part)
        if old.name != now.name or (part != "model" and old != now):  # whose states these are
            was = old.model_dump()
            raise UserError(f"{part}: the run to resume has {was}; start a new run to change it")
    with checkpoint.fits(DIFFERS):
        if "shards" in saved or sharded.is_sharded(state.model):
            sharded.load(saved, state.model, state.ema, state.optimizer, state.loss_module)
        else:
            state.model.load_state_dict(saved["model"])
            state.optimizer.load_state_dict(saved["optimizer"])
            if state.ema:
                state.ema.load_state_dict(saved.get("ema") or saved["model"])
        load_loss(saved, config, state.loss_module)
        state.scheduler.load_state_dict(saved["scheduler"])
        if state.scaler.is_enabled() and saved.get("scaler"):
            state.scaler.load_state_dict(saved["scaler"])
        _restore_progress(state, saved)
    if before.train.epochs != config.train.epochs and isinstance(state.scheduler, LambdaLR):
        scheduler, [was, *_] = state.scheduler, state.scheduler.get_last_lr()
        now = scheduler.base_lrs[0] * scheduler.lr_lambdas[0](scheduler.last_epoch)
        epochs = f"train.epochs is {config.train.epochs}, and was {before.train.epochs}"
        log(f"{epochs}: the learning rate jumps from {was:.1e} to {now:.1e}")


def _restore_progress(state: State, saved: dict[str, Any]) -> None:
    state.epoch, state.step = saved["epoch"], saved["step"]
    state.saved_step = state.step
    state.rows, state.data = saved.get("rows"), saved.get("data")  # v0.7 and older lack them
    state.best, state.best_file = saved["best"]["value"], Path(saved["best"]["file"]).name
    state.stale = saved["best"].get("stale", 0)
    state.best_loss = saved["best"].get("loss", math.nan)  # v0.6 and older don't save it
    if under_way := saved.get("under_way"):
        state.batches, state.samples = under_way["batches"], under_way["samples"]
        if distributed.rank() == 0:
            state.loss.merge([under_way["loss"]])
            state.recent.merge([under_way["recent"]])
            if under_way["metrics"] and hasattr(state.metrics, "merge"):
                state.metrics.merge([under_way["metrics"]])
    ranks = saved.get("ranks", [saved["rng"]])
    if distributed.rank() < len(ranks):
        set_rng_state(ranks[distributed.rank()])


def load_loss(saved: dict[str, Any], config: Config, loss: nn.Module) -> None:
    """Restore the loss's tensors, unless the config has another loss than the checkpoint."""
    if saved.get("loss") and saved["config"]["loss"] == config.loss.model_dump():
        loss.load_state_dict(saved["loss"])


def rng_state() -> list[Any]:
    """Of torch on the CPU and each GPU, then of Python's `random` and of NumPy."""
    now: Any = np.random.get_state()  # noqa: NPY002
    of_numpy = (now[0], torch.from_numpy(now[1].astype(np.int64)), *now[2:])
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all(), random.getstate(), of_numpy]


def set_rng_state(saved: list[Any]) -> None:
    """Restore what `rng_state` gave; v0.3 saved torch's part alone, v0.6 not NumPy's."""
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
