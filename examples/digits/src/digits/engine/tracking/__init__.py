"""Where a run's figures go: always `metrics.csv`, and one tracker more if the config names it."""

import csv
import importlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import UserError


class CSV:
    """A row an epoch; a resumed run drops the rows that its checkpoint does not know."""

    def __init__(self, path: Path, epochs_done: int) -> None:
        self.path, self.rows = path, list[list[str]]()
        if epochs_done and path.is_file():
            with open(path, newline="") as file:
                self.rows = list(csv.reader(file))[: epochs_done + 1]

    def log(self, row: dict[str, float]) -> None:
        self.rows += [] if self.rows else [list(row)]
        self.rows.append([str(v) if isinstance(v, int) else f"{v:.8g}" for v in row.values()])
        partial = self.path.with_suffix(".partial")
        with open(partial, "w", newline="") as file:
            csv.writer(file).writerows(self.rows)
        partial.replace(self.path)

    def close(self) -> None:
        """Every row is written already."""


def open_trackers(name: str, run: Path, config: dict[str, Any], epochs_done: int) -> list[Any]:
    """The CSV file, and a `Tracker(run, config)` of a file here called `name`; both log and close.

    Raises UserError if there is no such tracker, or its package is not installed.
    """
    tracker = open_tracker(name, run, config)
    return [CSV(run / "metrics.csv", epochs_done), *([tracker] if tracker else [])]


def open_tracker(name: str, run: Path, config: dict[str, Any]) -> Any:
    """The one called `name`, or None for `none`; UserError as above."""
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
    for tracker in trackers:
        if hasattr(tracker, "picture"):
            for path in pictures:
                if path.suffix in (".png", ".jpg", ".jpeg"):  # some tasks write texts as well
                    tracker.picture(path, step)
