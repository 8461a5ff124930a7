"""The learning-rate range test (Smith, 2017): raise it step by step until the loss explodes."""

import math
from itertools import chain, repeat
from pathlib import Path

from .. import task as yours
from ..errors import UserError
from ..options import Config
from .contract import Task
from .device import pick_device, prepare, to_device
from .loop import train_step
from .metrics import Average
from .session import Session
from .state import build

SMOOTHING = 0.9


def lr_range(config: Config, picture: Path, first: float, last: float, steps: int) -> float:
    """Draw the loss by learning rate; returns the rate at which it falls fastest."""
    if not (0 < first < last and steps >= 10):
        raise UserError(f"--first {first} --last {last} --steps {steps}: not a rising range")
    device = pick_device(config.run.device)
    prepare(config.run)
    task: Task = yours.Task(config, device)
    loader = task.train_loader()
    state = build(config, task, device, len(loader))
    session = Session(config, task, device, picture.parent, state, profile=False)
    state.net.train()
    rates, losses, mean = list[float](), list[float](), 0.0
    endless = chain.from_iterable(repeat(loader))
    for step, batch in zip(range(steps), endless, strict=False):
        rate = first * (last / first) ** (step / (steps - 1))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.recent = Average()
        train_step(state, session, [to_device(batch, device)], len(batch[0]))
        mean = SMOOTHING * mean + (1 - SMOOTHING) * state.recent.compute()
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    if len(losses) < 3:
        raise UserError(f"--first {first:g}: the loss explodes already, or is no number")
    slopes = [after - before for before, after in zip(losses, losses[2:], strict=False)]
    best = rates[1 + slopes.index(min(slopes))]
    _draw(rates, losses, best, picture)
    return best


def _draw(rates: list[float], losses: list[float], best: float, picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(best, linestyle="--", color="grey", label=f"falls fastest: {best:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
    axes.grid(alpha=0.3)
    axes.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
