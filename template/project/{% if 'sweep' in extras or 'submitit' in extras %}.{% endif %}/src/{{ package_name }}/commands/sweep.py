"""The command `sweep`: train with many options, and see which are best."""

import argparse
import csv
import itertools
import json
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, create_model, model_validator

from ..cli import default_config, files_and_overrides
from ..config import Section, load, locate
from ..errors import Stopped, UserError
from ..options import Config, rule

# --- what to try ---

OURS = ("run.name", "run.images")  # each trial has its own


class Sweep(Section):  # the sweep as a whole
    name: Annotated[str, rule()] = "first"  # its folder is sweep-<name>, beside the runs
    trials: Annotated[int, Field(ge=1)] = 12  # in all, however often it is started
    startup: Annotated[int, Field(ge=1)] = 5  # so many at random, and none is pruned before
    pruner: Literal["median", "none"] = "median"
    storage: str | None = None  # the URL of a database, or a file for Optuna's journal


class Range(Section):  # all numbers from low to high: whole ones, if both are
    low: int | float
    high: int | float
    log: bool = False  # as many between 0.001 and 0.01 as between 0.01 and 0.1

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.low >= self.high:
            raise ValueError("low should be below high")
        if self.log and self.low <= 0:
            raise ValueError("with log, low should be above 0")
        return self


def _option(value: Any, path: str = "") -> Any:
    """A value for all trials, a list of those to try, a range, or a map of such."""
    if value == []:
        advice = "an option that is an empty list is written [[]]"
        raise ValueError(f"{path}an empty list, so nothing to try; {advice}")
    if not isinstance(value, dict):
        return value
    if not {"low", "high"} & value.keys():
        return {key: _option(item, f"{path}{key}: ") for key, item in value.items()}
    try:
        return Range.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{key}: " for key in problem["loc"][:1])
        words = {"missing": "missing", "extra_forbidden": "unknown key"}
        what = words.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        form = "a range is {low: 1, high: 4}, or has log: true too"
        raise ValueError(f"{path}{where}{what}; {form}") from None


def space() -> Any:
    """The schema of a sweep's config: a run's sections, whose values are what to try."""
    anything: Any = (Annotated[Any, AfterValidator(_option)], None)
    sections: dict[str, Any] = {"sweep": (Sweep, Sweep())}
    for name, known in Config.model_fields.items():
        section: Any = known.annotation
        keys = [key for key in section.model_fields if f"{name}.{key}" not in OURS]
        section = create_model(name, __base__=Section, **dict.fromkeys(keys, anything))
        sections[name] = (section, section())
    return create_model("Space", __base__=Section, **sections)


@dataclass
class Plan:
    """What a sweep does.

    Attributes:
        config: what all trials share, resolved.
        files: the config files that it was made of.
        fixed, tried: what is set on top of them, by dotted key: values for all trials, and lists
            and ranges.
    """

    sweep: Sweep
    folder: Path
    config: Config
    files: list[str]
    fixed: dict[str, Any]
    tried: dict[str, Any]

    @property
    def pick(self) -> Any:
        """Which of several figures is the best."""
        return max if self.config.checkpoint.mode == "max" else min

    def settings(self, chosen: Mapping[str, Any]) -> list[str]:
        """The overrides that a trial trains with; names first, since they reset `args`."""
        items = sorted({**self.fixed, **chosen}.items(), key=lambda i: not i[0].endswith(".name"))
        return [setting(key, value) for key, value in items]


def setting(key: str, value: Any) -> str:
    """`key=value`, as the command line takes it."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def plan(args: argparse.Namespace) -> Plan:
    """What the command line asks for; UserError, with file and key, if it can't be done."""
    files, given = files_and_overrides(args.settings)
    files = files or default_config()
    spaces = [args.space] if args.space else locate("configs", inside=True).glob("sweep.*")
    flags = {"name": args.study, "trials": args.trials, "storage": args.storage}
    given += [setting(f"sweep.{key}", flag) for key, flag in flags.items() if flag is not None]
    sources = [str(path) for path in spaces]
    wanted = load(space(), sources, given)
    options = dict(_leaves(wanted))
    lists = {k for k, o in options.items() if isinstance(o, list) and len(o) > 1}
    tried = {k: o for k, o in options.items() if k in lists or isinstance(o, Range)}
    fixed = {k: o[0] if isinstance(o, list) else o for k, o in options.items() if k not in tried}
    named = [text.partition("=")[0] for text in given]

    def checked(files: list[str], settings: list[str], base: dict[str, Any] | None) -> Config:
        try:
            return load(Config, files, settings, base)
        except UserError as error:  # what it takes for the command line may be the space's file
            lines = []
            for line in str(error).splitlines():
                place, _, rest = line.partition(": ")
                key = rest.partition(": ")[0]
                if place == "command line" and not any(n.startswith(key) for n in named):
                    line = f"{', '.join(sources)}: {rest}"
                lines.append(line)
            raise UserError("\n".join(lines)) from error

    config = checked(files, [setting(key, value) for key, value in fixed.items()], None)
    kind = "grid" if args.grid else "sweep"
    folder = locate(config.run.checkpoints, inside=True) / f"{kind}-{wanted.sweep.name}"
    for key, option in tried.items():
        for value in option if isinstance(option, list) else (option.low, option.high):
            checked([], [setting(key, value)], config.model_dump())
        if args.grid and isinstance(option, Range):
            raise UserError(f"{key}: a grid takes lists, not ranges: {key}=[{option.low}, ...]")
    if not tried:
        raise UserError(f"{', '.join(sources)}: no option has a list or a range: nothing to try")
    return Plan(wanted.sweep, folder, config, files, fixed, tried)


def _leaves(wanted: Any) -> Iterator[tuple[str, Any]]:
    for name in Config.model_fields:
        section = getattr(wanted, name)
        for key in type(section).model_fields:
            if key in section.model_fields_set:
                yield from flat(getattr(section, key), f"{name}.{key}")


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The items of nested maps, by dotted key."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from flat(item, f"{key}.{name}" if key else name)
    else:
        yield key, value


# --- one trial after another ---


class Pruned(Exception):
    """A run is worse than others were at its epoch."""


class Watcher:
    """Stands among a run's trackers, and gives each epoch's figure to the sweep."""

    def __init__(self, made: Plan, trials: Any, trial: Any) -> None:
        self.trials, self.trial, self.epochs = trials, trial, made.config.train.epochs
        self.figure = f"valid_{made.config.checkpoint.monitor}"
        self.trained = False

    def picture(self, path: Path, step: int) -> None:
        self.trained = True  # the first one is drawn after the first step

    def log(self, row: dict[str, float]) -> None:
        bad = self.trials.report(self.trial, int(row["epoch"]), row[self.figure])
        if bad and row["epoch"] < self.epochs:
            raise Pruned

    def close(self) -> None:
        """Nothing is left open."""


def sweep(args: argparse.Namespace) -> None:
    """Train with many options, and see which are best."""
    from . import _trials

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a trial takes one process: start `sweep` as often as you have devices")
    made = plan(args)
    if args.show and not (made.folder.is_dir() or made.sweep.storage):
        raise UserError(f"{made.folder}: there is no such sweep yet")
    trials = _trials.Grid(made) if args.grid else _trials.Study(made)
    if not args.show:
        trials.begin()
        try:
            work(made, trials)
        finally:
            trials.leave()
    results(made, trials.all())


def work(made: Plan, trials: Any) -> None:
    """Train until there are enough trials.

    A trial that fails counts as one, and others follow. But if none has trained yet, not even a
    step, all would fail alike: UserError.
    """
    while trial := trials.claim():
        chosen = " ".join(f"{key}={_short(value)}" for key, value in trial.options.items())
        print(f"trial {trial.number}, {trials.total} in all: {chosen}", flush=True)
        watcher = Watcher(made, trials, trial)
        try:
            train(made, trial.options, trials.path(trial), watcher)
            state = "complete" if math.isfinite(trial.best(made.pick)) else "failed"
        except Pruned:
            state = "pruned"
        except Stopped as stopped:
            saved = str(stopped).partition(";")[0]
            raise Stopped(f"{saved}; the same command goes on with it", stopped.code) from None
        except (UserError, RuntimeError) as error:  # the latter is torch's, for want of memory, say
            trials.finish(trial, "failed")
            if not watcher.trained and not any(other.figures for other in trials.all()):
                raise
            print(f"trial {trial.number}: failed: {error}", flush=True)
            continue
        trials.finish(trial, state)
        print(f"trial {trial.number}: {state}", flush=True)


def train(made: Plan, chosen: dict[str, Any], run: Path, watcher: Watcher) -> None:
    """Train with the chosen options, or go on where a process that is gone left the run."""
    from ..engine import checkpoint
    from ..engine.loop import train

    try:
        contents = checkpoint.newest(run)
    except UserError:  # nothing to go on with
        shutil.rmtree(run, ignore_errors=True)
        contents = None
    images = str((run / "images").resolve())
    own = [setting("run.name", run.name), setting("run.images", images)]
    own.append(setting("run.checkpoints", str(run.parent.resolve())))
    config = load(Config, [], [*made.settings(chosen), *own], made.config.model_dump())
    train(config, run, contents, more_trackers=[watcher])


# --- what came of it ---


def results(made: Plan, trials: list[Any]) -> None:
    """Print the trials, and write them as a table and a picture; then the best one."""
    monitor, names = made.config.checkpoint.monitor, list(made.tried)
    head = ["trial", monitor, "epochs", "state", *names]
    rows = [
        [t.number, t.best(made.pick), len(t.figures), t.state, *(t.options.get(n) for n in names)]
        for t in trials
    ]
    with open(made.folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    texts = [head, *([_short(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for text in texts:
        print("  ".join(map(str.ljust, text, widths)).rstrip())
    print(made.folder / "results.csv")
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        print("no trial is complete")
        return
    best = made.pick(complete, key=lambda trial: trial.best(made.pick))
    draw(made, [trial for trial in trials if trial.figures], best)
    print(made.folder / "results.png")
    command = ["python", "-m", __package__.partition(".")[0], "train", *made.files]
    print(f"best: trial {best.number}, {monitor} {best.best(made.pick):.4f}; to train so:")
    print(f"  {shlex.join([*command, *made.settings(best.options)])}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(made: Plan, trials: list[Any], best: Any) -> None:
    """Save the figure of each trial by its number, with the best so far, and by each option."""
    from matplotlib.figure import Figure

    from ..visualization.charts import BLUE, GREY, ORANGE, write

    across = min(3, 1 + len(made.tried))
    down = math.ceil((1 + len(made.tried)) / across)
    figure = Figure((5 * across, 3.6 * down), layout="constrained", dpi=110)
    colours = [ORANGE if t is best else BLUE if t.state == "complete" else GREY for t in trials]
    values = [trial.best(made.pick) for trial in trials]
    for index, (key, option) in enumerate({"trial": None, **made.tried}.items()):
        axes = figure.add_subplot(down, across, index + 1, xlabel=key)
        at: list[Any] = [t.number if index == 0 else t.options.get(key) for t in trials]
        if isinstance(option, list):  # an axis of texts
            at = [_short(value) for value in at]
        elif option and option.log:
            axes.set_xscale("log")
        axes.scatter(at, values, c=colours, zorder=2)
        axes.set_ylabel(made.config.checkpoint.monitor)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    done = [trial for trial in trials if trial.state == "complete"]
    so_far = itertools.accumulate((trial.best(made.pick) for trial in done), made.pick)
    figure.axes[0].step([t.number for t in done], list(so_far), where="post", color=ORANGE)
    figure.axes[0].set_title("orange: the best; grey: not complete")
    write(made.folder / "results.png", figure.savefig)


def options_of(sub: argparse.ArgumentParser) -> None:
    """What `sweep` takes, and `submit` too."""
    space = "its config (configs/sweep.*)"
    sub.add_argument("--space", metavar="FILE", help=space)
    sub.add_argument("--trials", type=int, metavar="N", help="how many in all")
    sub.add_argument("--study", metavar="NAME", help="the name of the sweep")
    sub.add_argument("--storage", metavar="URL", help="a database (a file in the sweep's folder)")
    sub.add_argument("--grid", action="store_true", help="every combination, without Optuna")


def add_to(add: Any) -> None:
    settings = {"nargs": "*", "metavar": "SETTING"}
    text = "config files as for train; section.key=value, or a list or range to try"
    sub = add(sweep, settings=settings | {"help": text})
    options_of(sub)
    sub.add_argument("--show", action="store_true", help="print the results so far")
