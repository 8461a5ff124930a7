"""Where a run's figures go: always `metrics.csv`, and one tracker more if the config names it."""

import csv
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ..errors import UserError


class CSV:
    """A row an epoch; a resumed run drops the rows that its checkpoint does not know."""

    def __init__(self, path: Path, epochs_done: int) -> None:
        self.path, self.rows = path, list[list[str]]()
        if epochs_done and path.is_file():
            with open(path, newline="") as file:
                self.rows = list(csv.reader(file))[: epochs_done + 1]

    def log(self, row: dict[str, float]) -> None:
        """Take in one epoch's figures."""
        self.rows += [] if self.rows else [list(row)]
        self.rows.append([str(v) if isinstance(v, int) else f"{v:.8g}" for v in row.values()])
        partial = self.path.with_suffix(".partial")
        with open(partial, "w", newline="") as file:
            csv.writer(file).writerows(self.rows)
        partial.replace(self.path)

    def close(self) -> None:
        """Nothing is left to do."""


def open_trackers(name: str, run: Path, config: dict[str, Any], epochs_done: int) -> list[Any]:
    """The CSV file, and the `Tracker` in `engine/<name>.py` unless `name` is "none".

    A tracker is built with the run's folder and the config; it has `log(row)` and `close()`.
    Raises UserError if there is no such tracker, or its package is not installed.
    """
    trackers: list[Any] = [CSV(run / "metrics.csv", epochs_done)]
    if name != "none":
        if not name.isidentifier() or not importlib.util.find_spec(f"{__package__}.{name}"):
            raise UserError(f"run.tracker: there is no engine/{name}.py; 'none' always works")
        try:
            module = importlib.import_module(f"{__package__}.{name}")
            trackers.append(module.Tracker(run, config))
        except (ImportError, AttributeError) as error:
            raise UserError(f"run.tracker: {name} cannot be used: {error}") from error
    return trackers
