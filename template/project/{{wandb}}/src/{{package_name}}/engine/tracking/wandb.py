"""The Weights & Biases tracker: offline unless you are logged in; `WANDB_MODE` overrides this."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import wandb

from ...errors import UserError
from .. import provenance
from ..checkpoint import write_whole
from .figures import grouped


class Tracker:
    """One wandb run, whose id is saved in the run's folder; UserError if it can't be opened."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        env, run = os.environ, run.absolute()
        self.file = run / "wandb.json"
        own = env.get("WANDB_RUN_ID") or os.urandom(8).hex()
        self.state: dict[str, Any] = {"id": own, "rows": 0, "step": -1, "line": -1}
        if self.file.is_file():
            self.state = json.loads(self.file.read_text(encoding="utf-8"))
        self.done, self.done_line = self.state["step"], self.state.get("line", -1)
        try:
            free = wandb.setup().settings.mode == "online" and not env.get("WANDB_MODE")
            away = free and not wandb.login(prompt=False, verify=False)
            self.wandb = wandb.init(
                project=env.get("WANDB_PROJECT") or __name__.partition(".")[0],
                name=env.get("WANDB_NAME") or run.name,
                id=self.state["id"],
                dir=env.get("WANDB_DIR") or run,
                config={**config, "commit": provenance.newest(run).get("commit")},
                allow_val_change=True,
                mode="offline" if away else None,
                resume="allow",
                settings=wandb.Settings(finish_timeout=20),  # seconds; `wandb sync` sends the rest
            )
        except wandb.Error as error:
            reason = str(error).splitlines()[0].rstrip(".")
            advice = "WANDB_MODE=offline needs no account and no network"
            raise UserError(f"run.tracker: wandb: {reason}; {advice}") from error
        self.wandb.define_metric("*", step_metric="step")
        for path in [run / provenance.FILE, *run.glob("code-*.diff")]:
            copy = shutil.copy(path, self.wandb.dir)
            self.wandb.save(copy, base_path=self.wandb.dir, policy="now")

    def log(self, row: dict[str, float]) -> None:
        if "seconds" not in row:  # from `test`, which may evaluate the same step again
            self.done = -1
        self.send(grouped(row), int(row["step"]))

    def log_step(self, row: dict[str, float]) -> None:
        step, names = int(row["step"]), row.keys() - {"epoch", "step"}
        if step > self.done_line:
            self.commit({f"step/{name}": row[name] for name in row if name in names}, step, "line")

    def picture(self, path: Path, step: int) -> None:
        self.send({f"{path.parent.name}/{path.stem}": wandb.Image(str(path))}, step)

    def send(self, figures: dict[str, Any], step: int) -> None:
        """Log metrics, except those logged before a kill: wandb can't replace a row."""
        if step > self.done:
            self.commit(figures, step, "step")

    def commit(self, figures: dict[str, Any], step: int, kind: str) -> None:
        rows = self.state["rows"]  # wandb's own step, which must increase, also offline
        self.state |= {"rows": rows + 1, kind: max(step, self.state.get(kind, -1))}
        write_whole(self.file, json.dumps(self.state))
        self.wandb.log({**figures, "step": step}, step=rows, commit=True)

    def close(self) -> None:
        self.wandb.finish(exit_code=1 if sys.exc_info()[0] else 0)
