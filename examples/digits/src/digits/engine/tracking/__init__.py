"""Trackers: `metrics.csv` always, and one more if the config names it."""

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
    """A row for each epoch. Checkpoints hold the rows too, so a resume repairs a damaged file."""

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self.path, self.rows = path, rows
        if rows:
            self.write()

    def log(self, row: dict[str, float]) -> None:
        self.rows.append({k: v if isinstance(v, int) else f"{v:.8g}" for k, v in row.items()})
        self.write()

    def write(self) -> None:
        text = io.StringIO(newline="")
        columns = dict.fromkeys(column for row in self.rows for column in row)  # rows may differ
        table = csv.DictWriter(text, list(columns), restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(self.path, text.getvalue())

    def close(self) -> None:
        """Every row is written already."""


def read_rows(rows: Any, epochs: int, run: Path) -> list[dict[str, Any]]:
    """The first `epochs` rows: from a checkpoint, or from metrics.csv for v0.7 and older."""
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows[:epochs]
    path, rows = run / "metrics.csv", []
    with contextlib.suppress(OSError, ValueError, csv.Error):
        text = io.StringIO(path.read_text(encoding="utf-8"), newline="")
        found = enumerate(list(csv.DictReader(text))[:epochs], 1)
        rows = [row for n, row in found if row.get("epoch") == str(n) and None not in row.values()]
    if len(rows) < epochs:
        print(f"warning: {path}: damaged, it has {len(rows)} of {epochs} epochs", file=sys.stderr)
    return rows


def open_trackers(name: str, run: Path, config: dict[str, Any], state: Any) -> list[Any]:
    """The trackers of a run: metrics.csv, and the one called `name`."""
    tracker = open_tracker(name, run, config)
    state.rows = read_rows(state.rows, state.epoch, run)
    return [CSV(run / "metrics.csv", state.rows), *([tracker] if tracker else [])]


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
