"""The command `sweep`: search for good hyperparameters."""

import argparse
import csv
import json
import math
import os
import shlex
import shutil
from typing import Any

from ..config import ROOT, load
from ..errors import Stopped, UserError
from ..options import Config
from ._plan import Plan, stored_plan
from ._plan import plan as plan  # `submit` and the project's tests import it from here


class Pruned(Exception):
    """A trial is worse than others at the same epoch."""


def sweep(args: argparse.Namespace) -> None:
    """Search for good hyperparameters: train with many options, and report the best."""
    from ._trials import Grid, Study

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("torchrun: a trial uses one process; start one `sweep` for each device")
    made = (stored_plan(args) if args.show else None) or plan(args)
    trials = (Grid if args.grid else Study)(made)
    if not args.show:
        try:
            work(made, trials)
        finally:
            trials.unlock()
    results(made, trials.all())


def work(plan: Plan, trials: Any) -> None:
    """Train until there are enough trials; UserError once three in a row have failed."""
    failed = 0
    while trial := trials.claim():
        chosen = " ".join(f"{key}={_short(value)}" for key, value in trial.options.items())
        print(f"trial {trial.number}: {chosen}", flush=True)
        try:
            train(plan, trials, trial)
            state = "complete"
        except Pruned:
            state = "pruned"
        except Stopped as stopped:
            saved = str(stopped).partition(";")[0]
            raise Stopped(f"{saved}; resume with the same command", stopped.code) from None
        except (UserError, RuntimeError) as error:  # RuntimeError: torch is out of memory
            state = "fail"
            print(f"trial {trial.number}: {error}", flush=True)
        trials.finish(trial, state)
        print(f"trial {trial.number}: {state}", flush=True)
        failed = failed + 1 if state == "fail" else 0
        if failed == 3:
            raise UserError("three trials in a row failed; fix their errors, which are above")


def train(plan: Plan, trials: Any, trial: Any) -> None:
    """Train with the options of a trial, or resume its run from the last checkpoint."""
    from ..engine import checkpoint, loop
    from ..engine.tracking import read_rows

    run, column = trials.path(trial.number), f"valid_{plan.config.checkpoint.monitor}"
    try:
        contents = checkpoint.newest(run)
    except UserError:  # no checkpoint to resume
        shutil.rmtree(run, ignore_errors=True)
        contents = None
    if contents and contents["epoch"]:
        rows = read_rows(contents.get("rows"), contents["epoch"], run)
        trial.figures = [float(row[column]) for row in rows]

    def on_epoch(epoch: int, figures: dict[str, float]) -> None:
        trial.figures.append(float(f"{figures[column]:.8g}"))  # rounded as in metrics.csv
        if trials.report(trial) and epoch < config.train.epochs:
            raise Pruned

    images = (run / "images").resolve()  # a config's paths are relative to the project
    images = images.relative_to(ROOT) if images.is_relative_to(ROOT) else images
    names = {"name": run.name, "images": images.as_posix()}
    own = [f"run.{key}={json.dumps(value)}" for key, value in names.items()]
    config = load(Config, [], [*plan.settings(trial.options), *own], plan.config.model_dump())
    loop.train(config, run, contents, on_epoch=on_epoch)
    if math.isnan(plan.best(trial.figures)):
        raise UserError(f"{column} was not a finite number after any epoch")


# --- results ---


def results(plan: Plan, trials: list[Any]) -> None:
    """Print the trials and the best one, and save a table and a picture."""
    monitor, names = plan.config.checkpoint.monitor, list(plan.tried)
    head = ["trial", monitor, "epochs", "state", *names]
    best = {t.number: plan.best(t.figures) for t in trials}
    rows = [
        [t.number, best[t.number], len(t.figures), t.state, *(t.options.get(n) for n in names)]
        for t in trials
    ]
    with open(plan.folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    texts = [head, *([_short(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for text in texts:
        print("  ".join(map(str.ljust, text, widths)).rstrip())
    print(plan.folder / "results.csv")
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        print("no trial is complete")
        return
    figure = plan.best(best[trial.number] for trial in complete)
    winner = next(trial for trial in complete if best[trial.number] == figure)
    draw(plan, [trial for trial in trials if trial.figures], best, winner)
    command = ["python", "-m", __package__.partition(".")[0], "train", *plan.command]
    print(plan.folder / "results.png")
    print(f"best: trial {winner.number}, {monitor} {figure:.4f}; train it with:")
    print(f"  {shlex.join([*command, *plan.settings(winner.options)])}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(plan: Plan, trials: list[Any], best: dict[int, float], winner: Any) -> None:
    """Plot the best value of each trial by its number, and by each option."""
    from matplotlib.figure import Figure

    from ..visualization.charts import BLUE, GREY, ORANGE, write

    across = min(3, 1 + len(plan.tried))
    down = math.ceil((1 + len(plan.tried)) / across)
    figure = Figure((5 * across, 3.6 * down), layout="constrained", dpi=110)
    colours = [ORANGE if t is winner else BLUE if t.state == "complete" else GREY for t in trials]
    for index, key in enumerate(["trial", *plan.tried]):
        axes, option = figure.add_subplot(down, across, index + 1), plan.tried.get(key)
        at: list[Any] = [t.options[key] if index else t.number for t in trials]
        if isinstance(option, list):  # an axis of texts
            at = [_short(value) for value in at]
        elif option and option.log:
            axes.set_xscale("log")
        axes.scatter(at, [best[t.number] for t in trials], c=colours, zorder=2)
        axes.set(xlabel=key, ylabel=plan.config.checkpoint.monitor)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_title("orange: the best; grey: not complete")
    write(plan.folder / "results.png", figure.savefig)


def options_of(sub: argparse.ArgumentParser) -> None:
    """Add the options of `sweep`, which `submit` has too."""
    sub.add_argument("--space", metavar="FILE", help="the search space (configs/sweep.*)")
    sub.add_argument("--trials", type=int, metavar="N", help="the total number of trials")
    sub.add_argument("--study", metavar="NAME", help="the name of the sweep")
    sub.add_argument("--storage", metavar="URL", help="a database (a file in the sweep's folder)")
    sub.add_argument("--grid", action="store_true", help="all combinations, without Optuna")


def add_to(add: Any) -> None:
    text = "config files and section.key=value, as for train, for all trials"
    sub = add(sweep, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    options_of(sub)
    sub.add_argument("--show", action="store_true", help="print the results so far")
