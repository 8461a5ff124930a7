"""The learning-rate range test (Smith, 2017): raise the rate until the loss diverges."""

import argparse
import math
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from ..cli import default_config, files_and_overrides
from ..config import check_model, load, locate
from ..errors import UserError
from ..options import Config

# torch takes seconds to import, so only functions that train import it.
SMOOTHING = 0.9  # of the loss: the decay of its moving average


def lr_range(args: argparse.Namespace) -> None:
    """Plot the loss while the learning rate rises, to find a good one."""
    files, overrides = files_and_overrides(args.settings)
    config = load(Config, files or default_config(), overrides)
    check_model(config.model.name)
    picture = locate(config.run.images, inside=True) / "result" / "lr_range.png"
    suggestion = find(config, picture, args.first, args.last, args.steps)
    print(f"{picture}\nthe loss falls fastest at optimizer.lr={suggestion:.1e}")


def find(config: Config, picture: Path, first: float, last: float, steps: int) -> float:
    """Plot the loss by learning rate, which rises from `first` to `last` in at most `steps` steps.

    Returns the rate at which the loss falls fastest; raises UserError if the range is useless.
    """
    from matplotlib.figure import Figure

    from ..engine.contract import batch_size
    from ..engine.device import pick_device, prepare, to_device
    from ..engine.distributed import shortest_epoch
    from ..engine.loop import train_step
    from ..engine.metrics import Average
    from ..engine.session import Session
    from ..engine.state import build_state, build_task
    from ..visualization.charts import write

    if not (0 < first < last and steps >= 10):
        raise UserError("--first, --last, --steps: set 0 < first < last, and at least 10 steps")
    device = pick_device(config.run.device)
    prepare(config.run)
    task = build_task(config, device, None)
    loader = task.train_loader()
    state = build_state(config, task, device, shortest_epoch(steps, loader)[1])
    session = Session(config, task, picture.parent, state)
    state.net.train()
    rates, losses, mean = list[float](), list[float](), 0.0
    for step, batch in zip(range(steps), chain.from_iterable(repeat(loader)), strict=False):
        rate = first * (last / first) ** (step / (steps - 1))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.recent = Average()
        train_step(state, session, [to_device(batch, device)], batch_size(task, batch))
        mean = SMOOTHING * mean + (1 - SMOOTHING) * state.recent.compute()
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    if len(losses) < 3:
        raise UserError(f"--first {first:g}: the loss diverges in its first steps; lower it")
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


def add_to(add: Any) -> None:
    text = "config files, and section.key=value"
    sub = add(lr_range, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    sub.add_argument("--first", type=float, default=1e-6, help="the lowest rate (1e-6)")
    sub.add_argument("--last", type=float, default=1.0, help="the highest rate (1)")
    sub.add_argument("--steps", type=int, default=100, help="the maximum number of steps (100)")
