"""The command `sweep`: train with many options, and see which are best."""

import argparse
import csv
import json
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from ..cli import default_config, files_and_overrides
from ..config import ROOT, Section, Text, load, locate, parsed, read
from ..errors import Stopped, UserError
from ..options import Config, rule

# --- what to try ---


class Sweep(Section):  # the sweep as a whole
    name: Annotated[str, rule()] = "first"  # its folder is sweep-<name>, beside the runs
    trials: Annotated[int, Field(ge=1)] = 12  # in all, however often it is started
    startup: Annotated[int, Field(ge=1)] = 5  # so many at random, and none is pruned before
    pruner: Literal["median", "none"] = "median"
    storage: str | None = None  # the URL of a database, or a file for Optuna's journal


class Whole(Section):
    sweep: Sweep = Sweep()


class Range(Section):  # all numbers from low to high: whole ones, if both are
    low: int | float
    high: int | float
    log: bool = False  # as many between 0.001 and 0.01 as between 0.01 and 0.1


@dataclass
class Plan:
    """What a sweep does.

    Attributes:
        config: what all trials share, resolved.
        command: the arguments of `train` that give it.
        fixed, tried: what is set on top, by dotted key: values, and lists and ranges.
        started: whether it is that of a sweep which was started before.
    """

    sweep: Sweep
    folder: Path
    config: Config
    command: list[str]
    fixed: dict[str, Any]
    tried: dict[str, Any]
    started: bool = False

    def best(self, figures: Iterable[float]) -> float:
        """The best of them; NaN if none is a number."""
        pick = max if self.config.checkpoint.mode == "max" else min
        return pick(filter(math.isfinite, figures), default=math.nan)

    def settings(self, chosen: dict[str, Any]) -> list[str]:
        """The overrides that a trial trains with; names first, since they reset `args`."""
        items = sorted({**self.fixed, **chosen}.items(), key=lambda i: not i[0].endswith(".name"))
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in items]


def plan(args: argparse.Namespace) -> Plan:
    """What the command line asks for; UserError, with file and key, if it can't be done."""
    files, given = files_and_overrides(args.settings)
    files = files or default_config()
    found = [args.space] if args.space else [*locate("configs", inside=True).glob("sweep.*")]
    if not found:
        raise UserError("what to try? There is no configs/sweep.*; name a file, --space FILE")
    sections = read(locate(found[0]))
    flags = {"name": args.study, "trials": args.trials, "storage": args.storage}
    flags = {key: flag for key, flag in flags.items() if flag is not None}
    own = sections.pop("sweep", {})
    whole = {"sweep": {**own, **flags} if isinstance(own, dict) else own}
    options = {key: (str(found[0]), value) for key, value in leaves(sections)}
    plain = []
    for text in given:
        key, value = text.partition("=")[0], asked(text.partition("=")[2])
        options = {k: o for k, o in options.items() if not f"{k}.".startswith(f"{key}.")}
        if isinstance(value, list | dict):
            options[key] = "command line", value
        else:
            plain.append(text)
    base = load(Config, files, plain)
    made = Plan(checked(Whole, [], whole, found[0]).sweep, Path(), base, [*files, *plain], {}, {})
    for key, (source, value) in options.items():
        option = understood(f"{source}: {key}", value)
        ends = option if isinstance(option, list) else [option]
        for end in [option.low, option.high] if isinstance(option, Range) else ends:
            checked(Config, made.settings({key: end}), base.model_dump(), source)
        several = isinstance(option, Range) or len(ends) > 1
        (made.tried if several else made.fixed)[key] = option if several else ends[0]
        if args.grid and isinstance(option, Range):
            raise UserError(f"{source}: {key}: a grid takes a list, not a range")
    if not made.tried:
        raise UserError(f"{found[0]}: no list or range is left, so nothing to try")
    made.config = load(Config, [], made.settings({}), base.model_dump())
    kind = "grid" if args.grid else "sweep"
    made.folder = locate(base.run.checkpoints, inside=True) / f"{kind}-{made.sweep.name}"
    return made


def kept(args: argparse.Namespace) -> Plan | None:
    """The plan that a sweep was started with, which needs no setting again; None if none is kept.

    UserError if there is no such sweep.
    """
    files, given = files_and_overrides(args.settings)
    places = [text for text in given if text.startswith("run.checkpoints=")]
    base = load(Config, files or default_config(), places)
    found = [args.space] if args.space else [*locate("configs", inside=True).glob("sweep.*")]
    own = read(locate(found[0])).get("sweep", {}) if found else {}
    flags = {"name": args.study, "storage": args.storage}
    flags = {key: flag for key, flag in flags.items() if flag is not None}
    sweep = checked(Whole, [], {"sweep": {**own, **flags}}, found[0] if found else "").sweep
    kind = "grid" if args.grid else "sweep"
    runs = locate(base.run.checkpoints, inside=True)
    folder = runs / f"{kind}-{sweep.name}"
    if not (folder.is_dir() or sweep.storage):
        there = ", ".join(sorted(path.parent.name for path in runs.glob("*/config.json")))
        raise UserError(f"{folder}: no such sweep; there are: {there or 'none'}")
    path = folder / "config.json"
    plan = json.loads(path.read_text("utf-8")).get("plan") if path.is_file() else None
    if not plan:  # of a sweep on another machine, or of an older version
        return None
    rule = {"checkpoint": {**base.model_dump()["checkpoint"], **plan["checkpoint"]}}
    config = load(Config, [], [], {**base.model_dump(), **rule})
    ranges = {key: understood(key, option) for key, option in plan["tried"].items()}
    return Plan(sweep, folder, config, plan["command"], plan["fixed"], ranges, True)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested maps, by dotted key; a range is one."""
    value = parsed(value)
    if isinstance(value, dict) and value and not {"low", "high"} & value.keys():
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value


def asked(text: str) -> Any:
    """The list or range that a setting of the command line tries; None if it is a plain value."""
    try:
        value = parsed(Text(text))
    except ValueError:
        return None
    is_range = isinstance(value, dict) and {"low", "high"} & value.keys()
    return value if isinstance(value, list) or is_range else None


def understood(where: str, value: Any) -> Any:
    """A list of what to try, a range, or one value for all trials."""
    if value == []:
        raise UserError(f"{where}: nothing to try; an option that is an empty list is [[]]")
    if not isinstance(value, dict) or not value:
        return value
    try:
        made = Range.model_validate(value)
        if made.low < made.high and (made.low > 0 or not made.log):
            return made
    except ValidationError:
        pass
    form = "{low: 1, high: 4}, low below high; with log: true, low above 0"
    raise UserError(f"{where}: a range is {form}")


Schema = TypeVar("Schema", bound=Section)


def checked(
    schema: type[Schema], settings: list[str], base: dict[str, Any], file: str | Path
) -> Schema:
    """As `load`, with errors that name the file which the settings are of."""
    try:
        return load(schema, [], settings, base)
    except UserError as error:
        text = re.sub("^(config|command line): ", lambda _: f"{file}: ", str(error), flags=re.M)
        raise UserError(text) from error


# --- one trial after another ---


class Pruned(Exception):
    """A trial is worse than others were at its epoch."""


def sweep(args: argparse.Namespace) -> None:
    """Train with many options, and see which are best."""
    from ._trials import Grid, Study

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a trial takes one process: start `sweep` as often as you have devices")
    made = (kept(args) if args.show else None) or plan(args)
    trials = (Grid if args.grid else Study)(made)
    if not args.show:
        try:
            work(made, trials)
        finally:
            trials.leave()
    results(made, trials.all())


def work(made: Plan, trials: Any) -> None:
    """Train until there are enough trials; a failed one counts, but three in a row are enough."""
    failed = 0
    while trial := trials.claim():
        chosen = " ".join(f"{key}={_short(value)}" for key, value in trial.options.items())
        print(f"trial {trial.number}: {chosen}", flush=True)
        try:
            train(made, trials, trial)
            state = "complete"
        except Pruned:
            state = "pruned"
        except Stopped as stopped:
            saved = str(stopped).partition(";")[0]
            raise Stopped(f"{saved}; the same command goes on with it", stopped.code) from None
        except (UserError, RuntimeError) as error:  # the latter is torch's, for want of memory, say
            state = "fail"
            print(f"trial {trial.number}: {error}", flush=True)
        trials.finish(trial, state)
        print(f"trial {trial.number}: {state}", flush=True)
        failed = failed + 1 if state == "fail" else 0
        if failed == 3:
            raise UserError("three trials in a row failed, so others would; their errors are above")


def train(made: Plan, trials: Any, trial: Any) -> None:
    """Train with the options of a trial, or go on where a process that is gone left the run."""
    from ..engine import checkpoint, loop
    from ..engine.tracking import rows_of

    run, column = trials.path(trial.number), f"valid_{made.config.checkpoint.monitor}"
    try:
        contents = checkpoint.newest(run)
    except UserError:  # nothing to go on with
        shutil.rmtree(run, ignore_errors=True)
        contents = None
    if contents and contents["epoch"]:
        rows = rows_of(contents.get("rows"), contents["epoch"], run)
        trial.figures = [float(row[column]) for row in rows]

    def on_epoch(epoch: int, figures: dict[str, float]) -> None:
        trial.figures.append(float(f"{figures[column]:.8g}"))  # as metrics.csv has it
        if trials.report(trial) and epoch < config.train.epochs:
            raise Pruned

    images = (run / "images").resolve()  # as a config has it: from the project
    images = images.relative_to(ROOT) if images.is_relative_to(ROOT) else images
    names = {"name": run.name, "images": images.as_posix()}
    own = [f"run.{key}={json.dumps(value)}" for key, value in names.items()]
    config = load(Config, [], [*made.settings(trial.options), *own], made.config.model_dump())
    loop.train(config, run, contents, on_epoch=on_epoch)
    if math.isnan(made.best(trial.figures)):
        raise UserError(f"{column} was not a finite number after any epoch")


# --- what came of it ---


def results(made: Plan, trials: list[Any]) -> None:
    """Print the trials, and write them as a table and a picture; then the best one."""
    monitor, names = made.config.checkpoint.monitor, list(made.tried)
    head = ["trial", monitor, "epochs", "state", *names]
    best = {t.number: made.best(t.figures) for t in trials}
    rows = [
        [t.number, best[t.number], len(t.figures), t.state, *(t.options.get(n) for n in names)]
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
    figure = made.best(best[trial.number] for trial in complete)
    winner = next(trial for trial in complete if best[trial.number] == figure)
    draw(made, [trial for trial in trials if trial.figures], best, winner)
    command = ["python", "-m", __package__.partition(".")[0], "train", *made.command]
    print(made.folder / "results.png")
    print(f"best: trial {winner.number}, {monitor} {figure:.4f}; to train so:")
    print(f"  {shlex.join([*command, *made.settings(winner.options)])}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(made: Plan, trials: list[Any], best: dict[int, float], winner: Any) -> None:
    """Save the best figure of each trial, by its number and by each option."""
    from matplotlib.figure import Figure

    from ..visualization.charts import BLUE, GREY, ORANGE, write

    across = min(3, 1 + len(made.tried))
    down = math.ceil((1 + len(made.tried)) / across)
    figure = Figure((5 * across, 3.6 * down), layout="constrained", dpi=110)
    colours = [ORANGE if t is winner else BLUE if t.state == "complete" else GREY for t in trials]
    for index, key in enumerate(["trial", *made.tried]):
        axes, option = figure.add_subplot(down, across, index + 1), made.tried.get(key)
        at: list[Any] = [t.options[key] if index else t.number for t in trials]
        if isinstance(option, list):  # an axis of texts
            at = [_short(value) for value in at]
        elif option and option.log:
            axes.set_xscale("log")
        axes.scatter(at, [best[t.number] for t in trials], c=colours, zorder=2)
        axes.set(xlabel=key, ylabel=made.config.checkpoint.monitor)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_title("orange: the best; grey: not complete")
    write(made.folder / "results.png", figure.savefig)


def options_of(sub: argparse.ArgumentParser) -> None:
    """What `sweep` takes, and `submit` too."""
    sub.add_argument("--space", metavar="FILE", help="what to try (configs/sweep.*)")
    sub.add_argument("--trials", type=int, metavar="N", help="how many in all")
    sub.add_argument("--study", metavar="NAME", help="the name of the sweep")
    sub.add_argument("--storage", metavar="URL", help="a database (a file in the sweep's folder)")
    sub.add_argument("--grid", action="store_true", help="every combination, without Optuna")


def add_to(add: Any) -> None:
    text = "config files, and section.key=value, as for train: for all trials"
    sub = add(sweep, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    options_of(sub)
    sub.add_argument("--show", action="store_true", help="print the results so far")
