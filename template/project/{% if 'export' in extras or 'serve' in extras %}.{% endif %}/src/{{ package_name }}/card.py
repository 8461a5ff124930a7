"""The model card of an export: what is known of the model, and headings for what its owner knows.

Its sections are some of those of Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

import zipfile
from collections import Counter
from itertools import islice
from pathlib import Path

from .config import dump, locate
from .data.utils import check_folder
from .engine import provenance
from .errors import UserError
from .exported import TOLERANCE, About
from .options import Config

Figures = dict[str, dict[str, float] | str]
"""The metrics of each split, or why there are none."""

TEXT = """\
# {about.model}

The model `{about.model}` of the run `{run.name}`: epoch {about.epoch}, step {about.step},
file `{about.checkpoint}`.

## Intended use

For its owner to fill in: what it is for, who is to use it, and what must not be decided by it.

## Limits

For its owner to fill in: where it is known to fail, and on what it was never tried.

## Data

{data}

## Figures

Measured when it was exported, on the data as they were then:

{figures}

The run kept the checkpoint with the {extreme} `{rule.monitor}` on `valid` as its best one.

## Files

The model is called with {inputs}; the first dimension of each counts the samples. What the files
gave for such inputs was compared with what the model itself gave:

| file | sizes of the inputs | largest difference |
|---|---|---|
{trials}

More than {tolerance:g} of the largest output would have stopped the export.

## Origin

{origin}

The config of the run:

```yaml
{config}```
"""


def card(about: About, config: Config, run: Path, figures: Figures) -> str:
    """The text, in Markdown."""
    return TEXT.format(
        about=about,
        run=run,
        data=_data(locate(config.data.folder, inside=True)),
        figures=_table(figures),
        rule=config.checkpoint,
        extreme="lowest" if config.checkpoint.mode == "min" else "highest",
        inputs=", ".join(f"`{name}` ({dtype})" for name, dtype in about.inputs.items()),
        trials="\n".join(f"| {' | '.join(row)} |" for row in trials(about)),
        tolerance=TOLERANCE,
        origin=_origin(about, run),
        config=dump(config, "yaml"),
    )


def trials(about: About) -> list[tuple[str, str, str]]:
    """For each trial of a file: its name, the sizes of the inputs, and what came of it."""
    return [
        (file, each.sizes, each.refused or f"{each.difference:.1e}")
        for file, every in about.trials.items()
        for each in every
    ]


def usual_suffix(folder: Path) -> str:
    """The ending that most files below a folder have, or "" if it holds none."""
    files = islice((path for path in folder.rglob("*") if path.is_file()), 1000)
    most = Counter(path.suffix.lower() for path in files).most_common(1)
    return most[0][0] if most else ""


def _data(folder: Path) -> str:
    try:
        table, problems = check_folder(folder)
    except UserError as error:
        return f"Not there when it was exported: {error}"
    found = f"\n\nThe command `check-data` finds {len(problems)} problems." if problems else ""
    text = f"When it was exported, the data were:\n\n```\n{table}\n```{found}"
    if notice := _notice(folder):
        text += f"\n\nThat is the sample which came with the project:\n\n```\n{notice}\n```"
    return text


def _notice(folder: Path) -> str:
    """What sample.zip says of itself, if train/ holds just its files, by name and size."""
    if not zipfile.is_zipfile(folder / "sample.zip"):
        return ""
    with zipfile.ZipFile(folder / "sample.zip") as archive:
        files = {each.filename: each.file_size for each in archive.infolist() if not each.is_dir()}
        notice = archive.read("NOTICE.txt").decode().strip() if "NOTICE.txt" in files else ""
    sample = {name: size for name, size in files.items() if name.startswith("train/")}
    there = (path for path in (folder / "train").rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in there}
    return notice if sizes == sample else ""


def _table(figures: Figures) -> str:
    measured = {split: each for split, each in figures.items() if isinstance(each, dict)}
    names = dict.fromkeys(name for each in measured.values() for name in each)
    lines = [f"| | {' | '.join(measured)} |", f"|---{'|---' * len(measured)}|"] if names else []
    for name in names:
        row = [f"{each[name]:.4f}" for each in measured.values()]
        lines.append(f"| {name} | {' | '.join(row)} |")
    missing = {split: why for split, why in figures.items() if isinstance(why, str)}
    lines += [f"\n`{split}`: not measured; {why}" for split, why in missing.items()]
    return "\n".join(lines).strip()


def _origin(about: About, run: Path) -> str:
    lines = []
    for entry in provenance.read(run):
        changed = f", changed by `{entry['diff']}` in the run's folder" if entry["diff"] else ""
        lines += [
            f"- Started {entry['started']} with `{' '.join(entry['command'][1:])}`",
            f"  - code: {entry['commit'] or 'no commit'}{changed}",
            f"  - Python {entry['python']}, torch {entry['packages'].get('torch')}",
            f"  - {entry['device']}, {entry['platform']}",
        ]
    versions = ", ".join(f"{name} {number}" for name, number in about.versions.items())
    return "\n".join([*lines, f"- Exported with {versions}"])
