"""The model card of an export. Two of its sections are left for the model's owner.

The sections follow Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from .config import dump, locate
from .data.utils import check_folder
from .engine import provenance
from .options import Config

TEXT = """\
# {model}

From epoch {epoch} of the run `{run}`.

## Intended use

To be written by the owner: purpose, intended users, and uses that are out of scope.

## Limits

To be written by the owner: known failures, and data on which the model was not evaluated.

## Data

`check-data` found {problems} problems:

```
{table}
```

## Metrics
{figures}

## Origin

{origin}

```yaml
{config}```
"""


def card(config: Config, run: Path, epoch: int, figures: Sequence[str]) -> str:
    """The card as Markdown. `figures` are lines with metrics and comparisons."""
    takes = "options" in signature(check_folder).parameters
    given: dict[str, Any] = {"options": config.data} if takes else {}
    table, problems = check_folder(locate(config.data.folder, inside=True), **given)
    origin = "not recorded"
    if start := provenance.newest(run):
        code = f"{start['commit'] or 'no commit'}{', changed' if start['diff'] else ''}"
        machine = f"torch {start['packages'].get('torch')}, {start['device']}"
        origin = f"Code: {code}; Python {start['python']}, {machine}; {start['platform']}"
    return TEXT.format(
        model=config.model.name,
        run=run.name,
        epoch=epoch,
        problems=len(problems),
        table=table,
        figures="\n".join(f"- {line}" for line in figures),
        origin=origin,
        config=dump(config, "yaml"),
    )
