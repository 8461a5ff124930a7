"""The Trackio tracker: a database in the folder of runs, `TRACKIO_DIR` or `TRACKIO_SPACE_ID`."""

import importlib
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from .. import provenance
from ..checkpoint import write_whole
from .figures import grouped


class Tracker:
    """One Trackio run, with the name of the run's folder."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(run.parent.absolute() / "trackio"))
        self.trackio: Any = importlib.import_module("trackio")  # reads TRACKIO_DIR at import
        self.file = run / "trackio.json"
        self.state: dict[str, Any] = {"name": run.name, "step": -1, "line": -1}
        known = self.file.is_file()
        if known:
            self.state = json.loads(self.file.read_text(encoding="utf-8"))
        self.done, self.done_line = self.state["step"], self.state.get("line", -1)
        start, code = provenance.newest(run), provenance.changes(run)
        with redirect_stdout(io.StringIO()):  # it prints a command that lacks TRACKIO_DIR
            self.trackio.init(
                project=__name__.partition(".")[0],
                name=self.state["name"],
                config={**config, "commit": start.get("commit"), "diff": code, "start": start},
                resume="allow" if known else "never",
            )
        self.save()

    def log(self, row: dict[str, float]) -> None:
        if "seconds" not in row:  # from `test`, which may evaluate the same step again
            self.done = -1
        self.send(grouped(row), int(row["step"]))

    def log_step(self, row: dict[str, float]) -> None:
        step, names = int(row["step"]), row.keys() - {"epoch", "step"}
        if step > self.done_line:
            self.state["line"] = step
            self.save()
            figures = {f"step/{name}": row[name] for name in row if name in names}
            self.trackio.log(figures, step=step)

    def picture(self, path: Path, step: int) -> None:
        self.send({f"{path.parent.name}/{path.stem}": self.trackio.Image(str(path))}, step)

    def send(self, figures: dict[str, Any], step: int) -> None:
        """Log metrics, except those logged before a kill: Trackio can't replace a row."""
        if step > self.done:
            self.state["step"] = max(step, self.state["step"])
            self.save()
            self.trackio.log(figures, step=step)

    def save(self) -> None:
        write_whole(self.file, json.dumps(self.state))

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self.trackio.finish()
