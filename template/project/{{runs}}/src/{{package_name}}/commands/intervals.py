"""The command `intervals`: confidence intervals of test metrics, and of two runs' difference."""

import argparse
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import files_and_overrides
from ..config import locate
from ..errors import UserError
from .runs import print_aligned

# torch takes seconds to import, so only functions that test a model import it.

GROUPS = 500  # samples are drawn in up to this many groups of equal size, put together at random
Figure = dict[str, float]  # value, and low and high of its interval


@dataclass
class Target:
    """A sample's target in a form that is the same in all runs, whatever their options."""

    checksum: int  # of the values that must be equal
    numbers: list[float]  # values that may differ a little
    slack: float = 0.0  # how much, in standard deviations over all samples


@dataclass
class Tested:
    """A checkpoint, and the metrics of each sample of a split, which can be added up."""

    path: Path
    make: Callable[[], Any]  # an empty object of the task's metrics
    states: list[dict[str, Any]]
    targets: list[Target] = field(default_factory=list)

    def together(self, which: Iterable[int]) -> Any:
        """The metrics of some samples; a sample may be among them several times."""
        metrics = self.make()
        metrics.merge([self.states[index] for index in which])
        return metrics

    def in_groups(self) -> "Tested":
        """The same metrics for groups of samples, so that there are fewer to add up."""
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
    if len(tests) == 2:
        check_pair(tests[0], tests[1], args.split)
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
    lines = [["", "first", "second", "first - second"]] if len(paths) == 2 else []
    for name in known:
        cells = [column[name] for column in columns]
        texts = ["{value:.4f} ({low:.4f} to {high:.4f})".format(**cell) for cell in cells]
        lines.append([name, *texts])
    print_aligned(lines, "  ")


def check_pair(one: Tested, two: Tested, split: str) -> None:
    """UserError unless two tests have a metric in common, and the same samples in one order."""
    metrics = [list(tested.make().compute()) for tested in (one, two)]
    if not {*metrics[0]} & {*metrics[1]}:
        first, second = (", ".join(names) or "none" for names in metrics)
        found = f"{first} for the first, {second} for the second"
        raise UserError(f"no metric in common: {found}; name two runs of the same task")
    advice = "set data.folder to the same data for both"
    counts = [len(tested.targets) for tested in (one, two)]
    if counts[0] != counts[1]:
        numbers = f"{counts[0]} samples for the first, {counts[1]} for the second"
        raise UserError(f"{split}: {numbers}; {advice}")
    if different := differing(one.targets, two.targets):
        number = f"{len(different)} of {counts[0]} samples, the first is number {different[0] + 1}"
        advice += ", and train both to predict the same target"
        raise UserError(f"{split}: the runs have different targets in {number}; {advice}")


def differing(one: list[Target], two: list[Target]) -> list[int]:
    """The indices of the samples that have different targets in two tests."""
    spread = float(np.std([number for target in one for number in target.numbers] or [0.0]))
    return [
        index
        for index, (a, b) in enumerate(zip(one, two, strict=True))
        if a.checksum != b.checksum
        or len(a.numbers) != len(b.numbers)
        or not np.allclose(a.numbers, b.numbers, rtol=1e-4, atol=a.slack * spread)
    ]


def of_each_sample(path: Path, split: str, overrides: list[str]) -> Tested:
    """The metrics of each sample of a split; UserError if they cannot be added up."""
    from torch import no_grad

    from ..engine import inference
    from ..engine.device import autocast, map_tensors, pick_device, to_device

    config, task, model = inference.load(path, [*overrides, "data.batch_size=1"])
    if not hasattr(task.metrics(), "merge"):
        raise UserError("task.metrics(): has no `state` and `merge`; add them as docs/api.md says")
    device, states = pick_device(config.run.device), list[dict[str, Any]]()
    targets, read_target = list[Target](), TargetReader(task)
    with no_grad():
        for batch in task.eval_loader(split):
            targets.append(read_target(batch))
            moved, one = to_device(batch, device), task.metrics()
            with autocast(device, config.train.precision):
                outputs = task.forward(model, moved)
            one.update(outputs, moved)
            states.append(map_tensors(one.state(), lambda tensor: tensor.cpu()))
    return Tested(path, task.metrics, states, targets)


def target_of(batch: Any) -> Any:
    """The targets of a batch: its last part, before any mask."""
    import torch

    parts = list(batch.values() if hasattr(batch, "values") else batch)
    return ([p for p in parts[1:] if getattr(p, "dtype", None) != torch.bool] or parts)[-1]


class TargetReader:
    """Reads the target of a batch of one sample.

    The inputs are not read: an image size or a normalization may differ between two runs.
    """

    def __init__(self, task: Any) -> None:
        import torch

        self.torch, self.decode = torch, getattr(task.metrics(), "decode", None)
        # Numbers of classes and tokens depend on the training data; their names do not.
        names = task.info.get("classes") or getattr(getattr(task, "vocabulary", None), "signs", ())
        known = names if isinstance(names, list | tuple) else ()
        self.codes = torch.tensor([zlib.crc32(str(name).encode()) for name in known])

    def __call__(self, batch: Any) -> Target:
        target = target_of(batch)
        if isinstance(target, self.torch.Tensor):
            target, floating = target.cpu(), target.is_floating_point()
            if floating and self.decode:  # normalized by the training data
                return Target(0, self.decode(target).double().flatten().tolist(), 1e-4)
            if target.dim() == 3 and not floating:  # of pixels: means of quarters, for any size
                pixels = target.clamp(min=-1).double()
                means = self.torch.nn.functional.adaptive_avg_pool2d(pixels, 2)
                return Target(0, means.flatten().tolist(), 1.0)
            return Target(zlib.crc32(self._values(target)), [])
        return Target(self._nested(target), [])

    def _nested(self, target: Any) -> int:
        """A checksum of integers and of boxes' order, as their pixels depend on an image size."""
        from ..engine.device import map_tensors

        found = list[bytes]()

        def add(tensor: Any) -> None:
            if not tensor.is_floating_point():
                found.append(self._values(tensor.cpu()))
            elif tensor.dim() > 1:
                found.append(self._values(tensor.cpu().flatten().argsort(stable=True), raw=True))

        map_tensors(target, add)
        return zlib.crc32(b"".join(found))

    def _values(self, tensor: Any, raw: bool = False) -> bytes:
        """A CPU tensor as bytes; each class or token as the code of its name, unless `raw`."""
        raw |= tensor.is_floating_point() or not len(self.codes)
        values = tensor.double() if tensor.is_floating_point() else tensor.long()
        if not raw:
            known = (values >= 0) & (values < len(self.codes))
            values = values.where(~known, self.codes[values.where(known, 0)])
        return bytes(values.contiguous().numpy().tobytes())


def bootstrap(tests: list[Tested], resamples: int) -> list[dict[str, Figure]]:
    """The metrics of each test, and the differences if there are two, with 95 % intervals.

    The ends of intervals are percentiles over resamples, drawn with replacement (Efron, 1979), the
    same in both tests. Groups of samples are cheaper, and intervals no narrower on average.
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
