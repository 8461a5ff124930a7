"""The command `calibrate`: is a confidence of 90 % right nine times of ten?"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cli import files_and_overrides
from ..config import locate, script_command
from ..errors import UserError
from .runs import print_aligned

if TYPE_CHECKING:
    from ._calibration import Confidences

# torch takes seconds to import, so only what tests imports it.

NAMES = {"acc": "accuracy", "by_chance": "ece by chance"}


def calibrate(args: argparse.Namespace) -> None:
    """Measure how right a classifier's confidences are; write a checkpoint that corrects them."""
    names, overrides = files_and_overrides(args.settings)
    if len(names) > 1:
        raise UserError(f"{' '.join(names)}: {len(names)} checkpoints; name one")
    from ..engine import checkpoint, inference
    from ..engine.device import pick_device, to_device
    from ..engine.inference import _images_folder as images_folder
    from ..engine.loop import evaluate
    from ._calibration import Confidences, find_layer, fit

    path = checkpoint.find(names[0] if names else None, args.checkpoints)
    contents = checkpoint.load(path)
    if checkpoint.CALIBRATED in (path.name, contents["best"]["file"]):
        raise UserError(f"{path}: would be overwritten; name the run, or another checkpoint")
    config, task, model = inference.load(path, overrides, contents)
    device = pick_device(config.run.device)

    def measure(split: str) -> Confidences:
        sums: Any = Confidences(split)  # in one process, metrics need no `state` and `merge`
        evaluate(model, task, task.eval_loader(split), device, config.train.precision, sums)
        return sums

    splits = ["valid", *["test"] * args.test]
    found, problem = {split: [measure(split)] for split in splits}, None
    result: dict[str, Any] = {"checkpoint": str(path), "temperature": None, "calibrated": None}
    try:
        found["valid"][0].check()
        batch = to_device(next(iter(task.eval_loader("valid"))), device)
        layer = find_layer(task, model, batch)
        temperature, after = fit(lambda: measure("valid"), layer.scale, found["valid"][0])
        for split in splits:
            found[split].append(after if split == "valid" else measure(split))
        result |= {"temperature": temperature, "layer": layer.name}
        result["calibrated"] = str(save(path, contents, model, result))
    except UserError as error:  # the figures are still worth a look
        problem = error
    report(result, found, args.json)
    picture = images_folder(config, overrides, path) / "result" / "calibration.png"
    draw(found, picture)
    if problem:
        raise problem
    if not args.json:
        print(f"  {result['calibrated']}\n  {picture}")
        print(f"test it: {script_command('test', result['calibrated'])}")


def save(path: Path, contents: dict[str, Any], model: Any, result: dict[str, Any]) -> Path:
    """Write the model beside its checkpoint, without what only training needs.

    The weights of its last layer are divided, so no other command has to know the temperature.
    """
    from ..engine import checkpoint

    run = path.parent.parent if path.parent.name == checkpoint.EARLIER else path.parent
    known = {key: result[key] for key in ("checkpoint", "temperature", "layer")}
    own: dict[str, Any] = {"model": model.state_dict(), "ema": None, "calibration": known}
    own |= {"optimizer": {}, "scheduler": {}, "rng": [], "rows": None}
    own["best"] = contents["best"] | {"file": ""}  # the writer would write it, too
    kept = {key: value for key, value in contents.items() if not key.startswith("shards")}
    with tempfile.TemporaryDirectory(prefix=".calibrate-", dir=run) as work:
        writer = checkpoint.Writer(Path(work), keep=1, background=False)
        writer.save(kept | own, -1, "")
        os.replace(Path(work) / checkpoint.LAST, run / checkpoint.CALIBRATED)
    checkpoint.sync(run)
    return run / checkpoint.CALIBRATED


def report(result: dict[str, Any], found: dict[str, list["Confidences"]], as_json: bool) -> None:
    """Print the figures of each split, before and after."""
    figures = {split: [each.compute() for each in both] for split, both in found.items()}
    when = ["before", "after"]
    if as_json:
        for split, both in found.items():
            named = zip(when, figures[split], both, strict=False)
            sides = {name: figure | {"bins": each.rows()} for name, figure, each in named}
            result[split] = {"predictions": both[0].count, **sides}
        print(json.dumps(result, indent=2))
        return
    print(result["checkpoint"])
    if result["temperature"]:
        print(f"  temperature {result['temperature']:.4f}, in the weights of {result['layer']}")
    for split, columns in figures.items():
        print(f"  {split}: {found[split][0].count:,} predictions")
        rows = [["", *when[: len(columns)]]]
        for name in columns[0]:
            rows.append([NAMES.get(name, name), *(f"{column[name]:.4f}" for column in columns)])
        print_aligned(rows, "    ")


def draw(found: dict[str, list["Confidences"]], path: Path) -> None:
    """Save a reliability diagram of each split, before and after: accuracy by confidence."""
    from matplotlib.figure import Figure

    from ..visualization.charts import BLUE, GREY, ORANGE, write
    from ._calibration import BINS

    sides = max(map(len, found.values()))
    figure = Figure((4.6 * sides, 5.2 * len(found) + 0.4), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2 * len(found), sides, height_ratios=[3, 1] * len(found))
    for number, (split, both) in enumerate(found.items()):
        for side, each in enumerate(both):
            rows = each.rows()
            above, counts, place, right, noise = zip(*(row.values() for row in rows), strict=True)
            axes = figure.add_subplot(grid[2 * number, side], xlim=(0, 1), ylim=(0, 1.02))
            axes.plot([0, 1], [0, 1], ":", color=GREY, label="perfectly calibrated")
            if each.independent:
                low, high = (np.clip(np.add(place, n), 0, 1) for n in (np.negative(noise), noise))
                axes.vlines(
                    place, low, high, GREY, alpha=0.3, lw=6, label="95 % range, if calibrated"
                )
            axes.plot(place, right, color=BLUE, alpha=0.3)
            axes.plot(place, right, "o", color=BLUE, label="accuracy")
            when = ("before", "after")[side]
            axes.set(title=f"{split}, {when}: ECE {each.compute()['ece']:.4f}", ylabel="accuracy")
            below = figure.add_subplot(grid[2 * number + 1, side], sharex=axes)
            shares = [count / each.count for count in counts]
            below.bar(above, shares, 1 / BINS, align="edge", color=ORANGE, edgecolor="white")
            below.set(xlabel="confidence", ylabel="share", ylim=(0, 1))
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    lines, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=2 * sides - 1, frameon=False)
    write(path, figure.savefig)


def add_to(add: Any) -> None:
    text = "a checkpoint or a run (default: the best one of the newest run), and section.key=value"
    sub = add(calibrate, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    folder = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=folder, help="the folder of runs")
    sub.add_argument("--test", action="store_true", help="measure on test, too")
    sub.add_argument("--json", action="store_true", help="print JSON")
