"""The command `sweep`: search for good hyperparameters, or train with several seeds or folds."""

import argparse
import csv
import json
import math
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from ..config import ROOT, load
from ..errors import Stopped, UserError
from ..options import Config
from ._plan import Plan, kind_of, stored_plan
from ._plan import plan as plan  # `submit` and the project's tests import it from here


class Pruned(Exception):
    """A trial is worse than others at the same epoch."""


def sweep(args: argparse.Namespace) -> None:
    """Search for good hyperparameters: train with many options, and report the best."""
    from ._trials import Grid, Study

    kind = kind_of(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("torchrun: a trial uses one process; start one `sweep` for each device")
    if args.test and kind not in ("seeds", "folds"):
        needs = "it needs --seeds or --folds"
        raise UserError(f"--test: what is chosen by `test` looks too good on it; {needs}")
    made = (stored_plan(args) if args.show else None) or plan(args)
    trials = (Study if kind == "sweep" else Grid)(made)
    if not args.show:
        try:
            work(made, trials)
        finally:
            trials.unlock()
    done = trials.all()
    complete = [t.number for t in done if args.test and t.state == "complete"]
    tested = {number: test(trials.path(number)) for number in complete}
    results(made, done, tested)


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
    if contents:
        rows = read_rows(contents.get("rows"), contents["epoch"], run)
        trial.figures = [float(row[column]) for row in rows]

    class Report:
        """Reports each validation once it is saved."""

        def on_save(self, session: Any) -> None:
            rows = [float(row[column]) for row in session.state.rows]
            if len(rows) > len(trial.figures):
                trial.figures = rows
                if trials.report(trial) and not session.ended():
                    raise Pruned

    images = (run / "images").resolve()  # a config's paths are relative to the project
    images = images.relative_to(ROOT) if images.is_relative_to(ROOT) else images
    names = {"name": run.name, "images": images.as_posix()}
    own = [f"run.{key}={json.dumps(value)}" for key, value in names.items()]
    config = load(Config, [], [*plan.settings(trial.options), *own], plan.config.model_dump())
    loop.train(config, run, contents, hooks=[Report()])
    if math.isnan(plan.best(trial.figures)):
        raise UserError(f"{column} was not a finite number after any epoch")


def test(run: Path) -> dict[str, float]:
    """The metrics of a run's best checkpoint on `test`, measured once."""
    from ..engine import checkpoint, inference

    stored = run / "test.json"
    if not stored.is_file():
        settings = [f"run.images={json.dumps((run / 'images').as_posix())}"]
        metrics, _ = inference.measure(checkpoint.find(str(run), run), "test", settings)
        checkpoint.write_whole(stored, json.dumps(metrics))
    found: dict[str, float] = json.loads(stored.read_text(encoding="utf-8"))
    return found


# --- results ---


def results(plan: Plan, trials: list[Any], tested: dict[int, dict[str, float]]) -> None:
    """Print the trials and the best one, and save a table and a picture.

    Args:
        tested: metrics on `test`, by the number of the trial.
    """
    monitor, names = plan.config.checkpoint.monitor, list(plan.tried)
    best = {t.number: plan.best(t.figures) for t in trials}
    measured = list(dict.fromkeys(key for metrics in tested.values() for key in metrics))
    head = ["trial", monitor, "epochs", "state", *names, *(f"test {key}" for key in measured)]
    rows = [
        [t.number, best[t.number], len(t.figures), t.state, *(t.options.get(n) for n in names)]
        + [tested.get(t.number, {}).get(key) for key in measured]
        for t in trials
    ]
    write_table(plan.folder / "results.csv", head, rows)
    print_table(head, rows)
    print(plan.folder / "results.csv")
    groups = combinations(plan, [trial for trial in trials if trial.state == "complete"])
    if not groups:
        print("no trial is complete")
        return
    means = [mean_and_deviation([best[t.number] for t in group])[0] for group in groups]
    figure = plan.best(means)
    winner = groups[means.index(figure)]
    draw(plan, [trial for trial in trials if trial.figures], best, winner)
    print(plan.folder / "results.png")
    what = f"trial {winner[0].number}"
    if repeated := [*plan.repeated()]:
        averages(plan, groups, best, tested)
        if len(names) == len(repeated):
            return
        what = f"mean of {len(winner)} {'runs' if repeated[1:] else plan.repeated()[repeated[0]]}"
    command = ["python", "-m", __package__.partition(".")[0], "train", *plan.command]
    print(f"best: {what}, {monitor} {figure:.4f}; train it with:")
    print(f"  {shlex.join([*command, *plan.settings(combination(plan, winner[0]))])}")


def combination(plan: Plan, trial: Any) -> dict[str, Any]:
    """The options of a trial, except its seed and its fold."""
    return {key: value for key, value in trial.options.items() if key not in plan.repeated()}


def combinations(plan: Plan, trials: list[Any]) -> list[list[Any]]:
    """Group the trials that differ only in seed or fold; without --seeds and --folds, none do."""
    groups: dict[str, list[Any]] = {}
    for trial in trials:
        same = json.dumps(combination(plan, trial))
        key = same if plan.repeated() else str(trial.number)
        groups.setdefault(key, []).append(trial)
    return list(groups.values())


def averages(
    plan: Plan, groups: list[list[Any]], best: dict[int, float], tested: dict[int, Any]
) -> None:
    """Print mean and deviation over the seeds or folds of each combination, and save them."""
    kinds = list(plan.repeated().values())
    measured = list(next(iter(tested.values()), {}))
    titles = [f"valid {plan.config.checkpoint.monitor}", *(f"test {key}" for key in measured)]
    rows, texts = list[list[Any]](), list[list[Any]]()
    for group in groups:
        first = [*combination(plan, group[0]).values(), len(group)]
        columns = [[best[t.number] for t in group]]
        columns += [[tested[t.number][key] for t in group] for key in measured]
        pairs = [mean_and_deviation(values) for values in columns]
        rows.append([*first, *(value for pair in pairs for value in pair)])
        texts.append([*first, *(_spread(*pair) for pair in pairs)])
    head = [*combination(plan, groups[0][0]), "runs" if kinds[1:] else kinds[0]]
    wide = [f"{title} {what}" for title in titles for what in ("mean", "deviation")]
    table = plan.folder / f"{kinds[-1]}.csv"
    write_table(table, [*head, *wide], rows)
    print(f"\nmean ± standard deviation over the {' and '.join(kinds)}")
    print_table([*head, *titles], texts)
    print(table)


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """The mean and the standard deviation of a sample (n - 1): NaN for one value."""
    import numpy as np

    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _spread(mean: float, deviation: float) -> str:
    """Format both with the decimals that show four digits of the mean; skip a NaN deviation."""
    size = math.log10(abs(mean)) if mean and math.isfinite(mean) else 0
    digits = min(8, max(0, 3 - math.floor(size)))
    return f"{mean:.{digits}f}" + f" ± {deviation:.{digits}f}" * (not math.isnan(deviation))


def write_table(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def print_table(head: list[str], rows: list[list[Any]]) -> None:
    texts = [head, *([_short(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for text in texts:
        print("  ".join(map(str.ljust, text, widths)).rstrip())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(plan: Plan, trials: list[Any], best: dict[int, float], winner: list[Any]) -> None:
    """Plot the best value of each trial by its number, and by each option."""
    from matplotlib.figure import Figure

    from ..visualization.charts import BLUE, GREY, ORANGE, write

    across = min(3, 1 + len(plan.tried))
    down = math.ceil((1 + len(plan.tried)) / across)
    figure = Figure((5 * across, 3.6 * down), layout="constrained", dpi=110)
    colours = [ORANGE if t in winner else BLUE if t.state == "complete" else GREY for t in trials]
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
    text = "a grid with N seeds for each combination: mean and deviation"
    sub.add_argument("--seeds", type=int, metavar="N", help=text)
    text = "a grid with K folds of the data for each combination: mean and deviation"
    sub.add_argument("--folds", type=int, metavar="K", help=text)


def add_to(add: Any) -> None:
    text = "config files and section.key=value, as for train, for all trials"
    sub = add(sweep, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    options_of(sub)
    sub.add_argument("--show", action="store_true", help="print the results so far")
    text = "with --seeds or --folds: also measure the best checkpoint of each run on test"
    sub.add_argument("--test", action="store_true", help=text)
