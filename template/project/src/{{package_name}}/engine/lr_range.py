"""The learning-rate range test (Smith, 2017): raise the rate until the loss diverges."""

import math
from itertools import chain, repeat
from pathlib import Path

from ..errors import UserError
from ..options import Config
from ..visualization.charts import write
from .device import pick_device, prepare, to_device
from .loop import train_step
from .metrics import Average
from .session import Session
from .state import build_state, build_task

SMOOTHING = 0.9  # of the loss: the decay of its moving average


def lr_range(config: Config, picture: Path, first: float, last: float, steps: int) -> float:
    """Plot the loss by learning rate, which rises from `first` to `last` in at most `steps` steps.

    Returns the rate at which the loss falls fastest; raises UserError if the range is useless.
    """
    from matplotlib.figure import Figure

    if not (0 < first < last and steps >= 10):
        raise UserError("--first, --last, --steps: set 0 < first < last, and at least 10 steps")
    device = pick_device(config.run.device)
    prepare(config.run)
    task = build_task(config, device, None)
    loader = task.train_loader()
    state = build_state(config, task, device, len(loader))
    session = Session(config, task, picture.parent, state, profile=False)
    state.net.train()
    rates, losses, mean = list[float](), list[float](), 0.0
    for step, batch in zip(range(steps), chain.from_iterable(repeat(loader)), strict=False):
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
        raise UserError(f"--first {first:g}: the loss diverges from there; set a lower --first")
    slopes = [after - before for before, after in zip(losses, losses[2:], strict=False)]
    best = rates[1 + slopes.index(min(slopes))]
    figure = Figure(figsize=(7, 4), layout="constrained", dpi=120)
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(best, linestyle="--", color="grey", label=f"falls fastest: {best:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
    axes.legend()
    write(picture, figure.savefig)
    return best
