"""Where a run's figures go: always `metrics.csv`, and one tracker more if the config names it."""

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
    """A row an epoch; the checkpoint holds the rows, too, so a damaged file is written anew."""

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self.path, self.rows = path, rows
        if rows:
            self.write()

    def log(self, row: dict[str, float]) -> None:
        self.rows.append({k: v if isinstance(v, int) else f"{v:.8g}" for k, v in row.items()})
        self.write()

    def write(self) -> None:
        text = io.StringIO(newline="")
        columns = dict.fromkeys(column for row in self.rows for column in row)  # may differ
        table = csv.DictWriter(text, list(columns), restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(self.path, text.getvalue())

    def close(self) -> None:
        """Every row is written already."""


def rows_of(rows: Any, epochs: int, run: Path) -> list[dict[str, Any]]:
    """The rows of a run's epochs: as a checkpoint has them, or, of v0.7 and older, the file."""
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
    """The CSV file, and the tracker called `name`; both log and close."""
    tracker = open_tracker(name, run, config)
    state.rows = rows_of(state.rows, state.epoch, run)
    return [CSV(run / "metrics.csv", state.rows), *([tracker] if tracker else [])]


def open_tracker(name: str, run: Path, config: dict[str, Any]) -> Any:
    """The `Tracker` of a file here, None for `none`; UserError if it can't be used."""
    if name == "none":
        return None
    try:
        here = find_spec(f"{__package__}.{name}")
        place = __package__ if here else __package__.rpartition(".")[0]  # it was there before v0.3
        return importlib.import_module(f"{place}.{name}").Tracker(run, config)
    except (ImportError, AttributeError) as error:
        raise UserError(f"run.tracker: {name!r} cannot be used ({error}); try none") from error


def show(trackers: Iterable[Any], pictures: Iterable[Path], step: int) -> None:
    """Give pictures to those trackers that take them."""
    images = [path for path in pictures if path.suffix in (".png", ".jpg", ".jpeg")]  # not texts
    for tracker in trackers:
        for path in images if hasattr(tracker, "picture") else ():
            tracker.picture(path, step)
