"""Read the search space and the settings of a sweep into a plan."""

import argparse
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from ..cli import default_config, files_and_overrides
from ..config import Section, Text, load, locate, parse_text, read
from ..errors import UserError
from ..options import Config, name_template


class Sweep(Section):  # the section sweep of the file
    name: Annotated[str, name_template()] = "first"  # its folder is sweep-<name>, beside the runs
    trials: Annotated[int, Field(ge=1)] = 12  # in total, over all starts and processes
    startup: Annotated[int, Field(ge=1)] = 5  # trials with random options, before any is pruned
    pruner: Literal["median", "none"] = "median"
    storage: str | None = None  # a database's URL, or a file for Optuna's journal


class Whole(Section):
    sweep: Sweep = Sweep()


class Range(Section):  # all numbers from low to high; integers if both are
    low: int | float
    high: int | float
    log: bool = False  # uniform in the logarithm


@dataclass
class Plan:
    """A sweep: its options, its config and its search space.

    Attributes:
        config: the resolved config that all trials share.
        command: the arguments of `train` for this config.
        fixed: values that the search space sets for all trials, by dotted key.
        tried: lists and ranges to choose from, by dotted key.
        started: whether the plan was read from an existing sweep.
        seeds: how many values of `run.seed` each combination gets; 0 without `--seeds`.
        folds: the data folder of each fold; empty without `--folds`.
    """

    sweep: Sweep
    folder: Path
    config: Config
    command: list[str]
    fixed: dict[str, Any]
    tried: dict[str, Any]
    started: bool = False
    seeds: int = 0
    folds: list[str] = field(default_factory=list)

    def best(self, figures: Iterable[float]) -> float:
        """The best value by `checkpoint.mode`; NaN if none is finite."""
        pick = max if self.config.checkpoint.mode == "max" else min
        return pick(filter(math.isfinite, figures), default=math.nan)

    def repeated(self) -> dict[str, str]:
        """The options that only repeat a combination, each with the plural that reports use."""
        kinds = {"run.seed": "seeds"} if self.seeds else {}
        return kinds | ({"fold": "folds"} if "fold" in self.tried else {})

    def settings(self, chosen: dict[str, Any]) -> list[str]:
        """The overrides of a trial; names come first, since they reset `args`."""
        options = self.fixed | chosen
        if "fold" in options:
            options["data.folder"] = self.folds[options.pop("fold")]
        items = sorted(options.items(), key=lambda i: not i[0].endswith(".name"))
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in items]


def plan(args: argparse.Namespace) -> Plan:
    """The plan that the command line describes; UserError, with file and key, if it is invalid."""
    files, given = files_and_overrides(args.settings)
    files = files or default_config()
    kind = kind_of(args)
    sections, source = _space(args, needed=not (args.seeds or args.folds))
    flags = {"name": args.study, "trials": args.trials, "storage": args.storage}
    flags = {key: flag for key, flag in flags.items() if flag is not None}
    own = sections.pop("sweep", {})
    whole = {"sweep": {**own, **flags} if isinstance(own, dict) else own}
    options = {key: (source, value) for key, value in leaves(sections)}
    plain = []
    for text in given:
        key, value = text.partition("=")[0], to_try(text.partition("=")[2])
        options = {k: o for k, o in options.items() if not f"{k}.".startswith(f"{key}.")}
        if isinstance(value, list | dict):
            options[key] = "command line", value
        else:
            plain.append(text)
    base = load(Config, files, plain)
    made = Plan(checked(Whole, [], whole, source).sweep, Path(), base, [*files, *plain], {}, {})
    if args.folds and "data.folder" in options:
        raise UserError(f"{options['data.folder'][0]}: data.folder: --folds sets it")
    if args.seeds:
        if "run.seed" in options:
            raise UserError(f"{options['run.seed'][0]}: run.seed: --seeds sets it")
        made.seeds, first = args.seeds, base.run.seed
        # It varies slowest, so that trials keep their numbers when there are more seeds.
        made.tried["run.seed"] = [first + number for number in range(args.seeds)]
    for key, (where, value) in options.items():
        option = as_option(f"{where}: {key}", value)
        ends = option if isinstance(option, list) else [option]
        for end in [option.low, option.high] if isinstance(option, Range) else ends:
            checked(Config, made.settings({key: end}), base.model_dump(), where)
        several = isinstance(option, Range) or len(ends) > 1
        (made.tried if several else made.fixed)[key] = option if several else ends[0]
        if kind != "sweep" and isinstance(option, Range):
            raise UserError(f"{where}: {key}: a grid takes a list, not a range")
    made.config = load(Config, [], made.settings({}), base.model_dump())
    made.folder = locate(base.run.checkpoints, inside=True) / f"{kind}-{made.sweep.name}"
    if args.folds:
        from ._folds import make

        made.folds = make(made.config, args.folds, vars(args).get("test", False))
        made.tried["fold"] = list(range(args.folds))
    if not made.tried:
        raise UserError(f"{source}: has nothing to try; add a list or a range")
    return made


def _space(args: argparse.Namespace, needed: bool) -> tuple[dict[str, Any], str]:
    """The sections of the search space, and its file; for seeds and folds, only from `--space`."""
    if args.seeds is not None and args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: should be at least 1")
    if args.folds is not None and args.folds < 2:
        raise UserError(f"--folds {args.folds}: should be at least 2")
    found = [args.space] if args.space else []
    if not (found or args.seeds or args.folds):
        found = [*locate("configs", inside=True).glob("sweep.*")]
    if needed and not found:
        raise UserError("configs: has no sweep.*; set a file with --space FILE")
    return (read(locate(found[0])), str(found[0])) if found else ({}, "command line")


def kind_of(args: argparse.Namespace) -> str:
    """The kind of sweep, with which its folder's name begins; all but `sweep` are grids."""
    flags = {"folds": args.folds, "seeds": args.seeds, "grid": args.grid}
    return next((kind for kind, given in flags.items() if given), "sweep")


def stored_plan(args: argparse.Namespace) -> Plan | None:
    """The plan with which a sweep was started; None if it isn't stored.

    Raises UserError if there is no such sweep.
    """
    files, given = files_and_overrides(args.settings)
    places = [text for text in given if text.startswith("run.checkpoints=")]
    base = load(Config, files or default_config(), places)
    sections, source = _space(args, needed=False)
    flags = {"name": args.study, "storage": args.storage}
    flags = {key: flag for key, flag in flags.items() if flag is not None}
    sweep = checked(Whole, [], {"sweep": {**sections.get("sweep", {}), **flags}}, source).sweep
    runs = locate(base.run.checkpoints, inside=True)
    folder = runs / f"{kind_of(args)}-{sweep.name}"
    if not (folder.is_dir() or sweep.storage):
        there = ", ".join(sorted(path.parent.name for path in runs.glob("*/config.json")))
        raise UserError(f"{folder}: no such sweep; there are: {there or 'none'}")
    path = folder / "config.json"
    plan = json.loads(path.read_text("utf-8")).get("plan") if path.is_file() else None
    if not plan:  # started on another machine, or by an older version
        return None
    options = {"checkpoint": {**base.model_dump()["checkpoint"], **plan["checkpoint"]}}
    config = load(Config, [], [], {**base.model_dump(), **options})
    ranges = {key: as_option(key, option) for key, option in plan["tried"].items()}
    fixed, seeds = plan["fixed"], args.seeds or 0
    return Plan(sweep, folder, config, plan["command"], fixed, ranges, True, seeds)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested maps, by dotted key; a range is one value."""
    value = parse_text(value)
    if isinstance(value, dict) and value and not {"low", "high"} & value.keys():
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}" if key else name)
    elif key:
        yield key, value


def to_try(text: str) -> Any:
    """The list or range in a setting of the command line; None if it is another value."""
    try:
        value = parse_text(Text(text))
    except ValueError:
        return None
    is_range = isinstance(value, dict) and {"low", "high"} & value.keys()
    return value if isinstance(value, list) or is_range else None


def as_option(where: str, value: Any) -> Any:
    """A list to try, a Range, or one value for all trials; UserError if it is none of these."""
    if value == []:
        raise UserError(f"{where}: nothing to try; to set it to an empty list, write [[]]")
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
    """Like `load`; errors name the file that the settings come from."""
    try:
        return load(schema, [], settings, base)
    except UserError as error:
        text = re.sub("^(config|command line): ", lambda _: f"{file}: ", str(error), flags=re.M)
        raise UserError(text) from error
