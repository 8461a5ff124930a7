"""The model card. Two of its sections are left for the model's owner.

The sections follow Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from .cli import of_data
from .config import dump, locate
from .engine import loop, provenance
from .engine.contract import Task
from .engine.device import pick_device
from .options import Config

TEXT = """\
# {model}

From epoch {epoch} of the run `{run}`.

{notes}

## Data

{data}

## Metrics
{figures}

## Origin

{origin}

```yaml
{config}```
"""
NOTES = """\
## Intended use

To be written by the owner: purpose, intended users, and uses that are out of scope.

## Limits

To be written by the owner: known failures, and data on which the model was not evaluated."""


def measured(config: Config, task: Task, model: nn.Module) -> dict[str, dict[str, float]]:
    """The metrics of the splits `valid` and `test`, if they exist, as `test` measures them."""
    device, data = pick_device(config.run.device), locate(config.data.folder, inside=True)
    return {
        split: loop.evaluate(model, task, task.eval_loader(split), device, config.train.precision)
        for split in ("valid", "test")
        if (data / split).is_dir()
    }


def line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def card(
    config: Config,
    run: Path,
    epoch: int,
    figures: Sequence[str],
    shown: Config | None = None,
    notes: str = "",
) -> str:
    """The card as Markdown. `figures` are lines with metrics and comparisons.

    `shown` is the config to print, if it differs; `notes` replaces the owner's sections.
    """
    folder, data = locate(config.data.folder, inside=True), "Not available for this card."
    if folder.is_dir():
        check_folder = of_data("check_folder", config.run.task)
        takes = "options" in signature(check_folder).parameters
        given: dict[str, Any] = {"options": config.data} if takes else {}
        table, problems = check_folder(folder, **given)
        data = f"`check-data` found {len(problems)} problems:\n\n```\n{table}\n```"
    origin = "not recorded"
    if start := provenance.newest(run):
        code = f"{start['commit'] or 'no commit'}{', changed' if start['diff'] else ''}"
        machine = f"torch {start['packages'].get('torch')}, {start['device']}"
        origin = f"Code: {code}; Python {start['python']}, {machine}; {start['platform']}"
    return TEXT.format(
        model=config.model.name,
        run=run.name,
        epoch=epoch,
        notes=notes.strip() or NOTES,
        data=data,
        figures="\n".join(f"- {each}" for each in figures) or "Not measured.",
        origin=origin,
        config=dump(shown or config, "yaml"),
    )
