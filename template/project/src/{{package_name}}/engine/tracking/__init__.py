"""Trackers: `metrics.csv` and `steps.csv` always, and one more if the config names it.

`log` gets a row after each validation; `log_step`, if there is one, a row with each progress line.
"""

import contextlib
import csv
import importlib
import io
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..checkpoint import write_whole


class CSV:
    """A row for each validation. Checkpoints hold the rows too: a resume repairs a damaged file."""

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self.path, self.rows, self.columns = path, rows, dict[str, Any]()
        if rows:
            self.write()

    def log(self, row: dict[str, float]) -> None:
        self.add(row)
        self.write()

    def add(self, row: dict[str, float]) -> None:
        self.rows.append({k: v if isinstance(v, int) else f"{v:.8g}" for k, v in row.items()})

    def write(self) -> None:
        text = io.StringIO(newline="")
        self.columns = dict.fromkeys(column for row in self.rows for column in row)  # may differ
        table = csv.DictWriter(text, list(self.columns), restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(self.path, text.getvalue())

    def close(self) -> None:
        """Every row is written already."""


class StepsCSV(CSV):
    """A row for each progress line; most are appended, since there can be many."""

    def log(self, row: dict[str, float]) -> None:
        """A validation's row is in metrics.csv."""

    def log_step(self, row: dict[str, float]) -> None:
        self.add(row)
        if not row.keys() <= self.columns.keys():  # the first one, or a hook adds a figure
            self.write()
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, list(self.columns), restval="").writerow(self.rows[-1])


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, without those that are incomplete; none if it can't be read."""
    with contextlib.suppress(OSError, ValueError, csv.Error):
        text = io.StringIO(path.read_text(encoding="utf-8"), newline="")
        return [row for row in csv.DictReader(text) if None not in row and None not in row.values()]
    return []


def read_rows(rows: Any, epochs: int, run: Path) -> list[dict[str, Any]]:
    """The rows of a checkpoint; for v0.7 and older, the first `epochs` ones of metrics.csv."""
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return list(rows)
    path = run / "metrics.csv"
    rows = [row for n, row in enumerate(read_csv(path)[:epochs], 1) if row.get("epoch") == str(n)]
    if len(rows) < epochs:
        print(f"warning: {path}: damaged, it has {len(rows)} of {epochs} epochs", file=sys.stderr)
    return rows


def open_trackers(name: str, run: Path, config: dict[str, Any], state: Any) -> list[Any]:
    """The trackers of a run: metrics.csv, steps.csv, and the one called `name`."""
    tracker = open_tracker(name, run, config)
    rows, path = read_rows(state.rows, state.epoch, run), run / "steps.csv"
    due = state.step if state.validated_step < state.step else -1  # an error may leave its row
    state.rows = [row for row in rows if int(row.get("step", 0)) != due]
    steps = [row for row in read_csv(path) if int(row.get("step", "0")) <= state.step]
    own = CSV(run / "metrics.csv", state.rows), StepsCSV(path, steps)
    return [*own, *([tracker] if tracker else [])]


def open_tracker(name: str, run: Path, config: dict[str, Any]) -> Any:
    """The `Tracker` of the file `name` here; None for `none`. UserError if it cannot be used."""
    if name == "none":
        return None
    try:
        here = find_spec(f"{__package__}.{name}")
        place = __package__ if here else __package__.rpartition(".")[0]  # as up to v0.2
        return importlib.import_module(f"{place}.{name}").Tracker(run, config)
    except (ImportError, AttributeError) as error:
        raise UserError(f"run.tracker: {name!r} cannot be used ({error}); try none") from error


def log_pictures(trackers: Iterable[Any], pictures: Iterable[Path], step: int) -> None:
    """Give pictures, but no other files, to the trackers that have a method `picture`."""
    images = [path for path in pictures if path.suffix in (".png", ".jpg", ".jpeg")]
    for tracker in trackers:
        for path in images if hasattr(tracker, "picture") else ():
            tracker.picture(path, step)
