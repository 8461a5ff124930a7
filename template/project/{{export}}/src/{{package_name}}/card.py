"""The model card of an export: what is known of the model, and headings for what its owner knows.

Its sections are some of those of Mitchell et al. (2019), "Model Cards for Model Reporting".
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

Of the run `{run}`, epoch {epoch}.

## Intended use

For its owner to fill in: what it is for, who is to use it, and what must not be decided by it.

## Limits

For its owner to fill in: where it is known to fail, and on what it was never tried.

## Data

`check-data` finds {problems} problems in them:

```
{table}
```

## Figures

{figures}

## Origin

{origin}

```yaml
{config}```
"""


def card(config: Config, run: Path, epoch: int, figures: Sequence[str]) -> str:
    """The text, in Markdown; `figures` are lines."""
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
