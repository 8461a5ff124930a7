"""The command `intervals`: how sure the metrics of a test are, and if one run beats another."""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import files_and_overrides
from ..config import locate
from ..errors import UserError

# torch takes seconds to import, so only what tests imports it.

GROUPS = 500  # samples are drawn in up to this many groups of equal size, put together at random
Figure = dict[str, float]  # value, and low and high of its interval


@dataclass
class Tested:
    """A checkpoint, and the metrics of each sample of a split, which can be added up."""

    path: Path
    make: Callable[[], Any]  # an empty object of the task's metrics
    states: list[dict[str, Any]]

    def together(self, which: Iterable[int]) -> Any:
        """The metrics of some samples; a sample may be among them several times."""
        metrics = self.make()
        metrics.merge([self.states[index] for index in which])
        return metrics

    def in_groups(self) -> "Tested":
        """The same metrics, of groups of samples: fewer to add up."""
        order = np.random.default_rng(0).permutation(len(self.states))
        parts = np.array_split(order, min(len(order), GROUPS))
        return Tested(self.path, self.make, [self.together(part).state() for part in parts])


def intervals(args: argparse.Namespace) -> None:
    """Test one checkpoint, or compare two, with a 95 % confidence interval for each metric."""
    names, overrides = files_and_overrides(args.settings)
    if len(names) > 2:
        raise UserError(f"{' '.join(names)}: name one checkpoint, or two to compare")
    if args.resamples < 100:
        raise UserError(f"--resamples {args.resamples}: should be at least 100")
    from ..engine import checkpoint

    paths = [checkpoint.find(name, args.checkpoints) for name in names or [""]]
    tests = [of_each_sample(path, args.split, overrides) for path in paths]
    counts = [len(tested.states) for tested in tests]
    if min(counts) < 2:
        raise UserError(f"{args.split}: has fewer than 2 samples; add some, or set another --split")
    if len({*counts}) > 1:
        numbers = f"{counts[0]} samples for the first, {counts[1]} for the second"
        raise UserError(f"{args.split}: {numbers}; set data.folder to the same data for both")
    columns = bootstrap(tests, args.resamples)
    known = [name for name in columns[0] if all(name in column for column in columns)]
    if args.json:
        found = {"checkpoints": [str(path) for path in paths], "split": args.split}
        found |= {"samples": counts[0], "resamples": args.resamples}
        rows = {name: [_without_nan(column[name]) for column in columns] for name in known}
        print(json.dumps(found | {"metrics": rows}, indent=2))
        return
    words = ["first: ", "second: "] if len(paths) == 2 else [""]
    print("\n".join(f"{word}{path}" for word, path in zip(words, paths, strict=True)))
    print(f"{args.split}: {counts[0]} samples, 95 % intervals by {args.resamples} resamples")
    if len(paths) == 2:
        print(f"  {'':<12}{'first':<30}{'second':<30}first - second")
    for name in known:
        cells = [column[name] for column in columns]
        texts = ["{value:.4f} ({low:.4f} to {high:.4f})".format(**cell) for cell in cells]
        print(f"  {name:<12}" + "".join(f"{text:<30}" for text in texts).rstrip())


def of_each_sample(path: Path, split: str, overrides: list[str]) -> Tested:
    """The metrics of each sample of a split; UserError if they cannot be added up."""
    from torch import no_grad

    from ..engine import inference
    from ..engine.device import autocast, map_tensors, pick_device, to_device

    config, task, model = inference.load(path, [*overrides, "data.batch_size=1"])
    if not hasattr(task.metrics(), "merge"):
        raise UserError("task.metrics(): has no `state` and `merge`; add them as docs/api.md says")
    device, states = pick_device(config.run.device), list[dict[str, Any]]()
    with no_grad():
        for batch in task.eval_loader(split):
            moved, one = to_device(batch, device), task.metrics()
            with autocast(device, config.train.precision):
                outputs = task.forward(model, moved)
            one.update(outputs, moved)
            states.append(map_tensors(one.state(), lambda tensor: tensor.cpu()))
    return Tested(path, task.metrics, states)


def bootstrap(tests: list[Tested], resamples: int) -> list[dict[str, Figure]]:
    """The metrics of each test, and of two also the differences, with 95 % intervals.

    Percentiles of the metrics of samples drawn with replacement (Efron, 1979), the same ones in
    both tests. Groups of samples make a resample cheaper, and an interval no narrower on average.
    """
    whole = [test.together(range(len(test.states))).compute() for test in tests]
    groups = [test.in_groups() for test in tests]
    count, rng = len(groups[0].states), np.random.default_rng(1)
    drawn = [
        [group.together(which).compute() for group in groups]
        for which in rng.integers(count, size=(resamples, count))
    ]
    columns = [
        {name: _figure(value, [row[number][name] for row in drawn]) for name, value in of.items()}
        for number, of in enumerate(whole)
    ]
    if len(tests) == 2:
        names = [name for name in whole[0] if name in whole[1]]
        differences = {name: [one[name] - two[name] for one, two in drawn] for name in names}
        values = {name: whole[0][name] - whole[1][name] for name in names}
        columns.append({name: _figure(values[name], differences[name]) for name in names})
    return columns


def _figure(value: float, drawn: list[float]) -> Figure:
    known = [each for each in drawn if each == each]  # a resample may lack a class
    low, high = np.quantile(known, (0.025, 0.975)).tolist() if known else (math.nan, math.nan)
    return {"value": value, "low": low, "high": high}


def _without_nan(figure: Figure) -> dict[str, float | None]:
    return {key: value if value == value else None for key, value in figure.items()}


def add_to(add: Any) -> None:
    text = "one checkpoint or run, or two to compare (default: the newest), and section.key=value"
    sub = add(intervals, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    folder = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=folder, help="the folder of runs")
    sub.add_argument("--split", default="test", choices=["train", "valid", "test"])
    sub.add_argument("--resamples", type=int, default=1000, help="more take longer (1000)")
    sub.add_argument("--json", action="store_true", help="print JSON")
