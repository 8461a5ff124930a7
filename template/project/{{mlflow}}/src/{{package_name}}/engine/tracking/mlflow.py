"""The MLflow tracker: a database in the folder of runs, or the server in `MLFLOW_TRACKING_URI`."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from ...errors import Stopped, UserError
from .. import provenance
from ..checkpoint import write_whole
from .figures import grouped


class Tracker:
    """One MLflow run, whose id is saved in the run's folder; UserError if it can't be opened."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
        self.mlflow: Any = importlib.import_module("mlflow")
        try:
            self.start(run, config)
        except Exception as error:  # from MLflow, SQLAlchemy or the network
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"run.tracker: mlflow: {reason}; fix it, or set none") from error

    def start(self, run: Path, config: dict[str, Any]) -> None:
        mlflow, file, files = self.mlflow, run / "mlflow.id", None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder = run.parent.absolute()
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
            files = (folder / "mlflow").as_uri()  # a server has its own artifact store
        self.seen, self.lines, self.status = set[int](), set[int](), "FINISHED"
        if file.is_file():
            name = file.read_text(encoding="utf-8").strip()
            self.before = mlflow.get_run(name).info.status
            history = mlflow.MlflowClient().get_metric_history
            self.seen = {point.step for point in history(name, "learning_rate")}
            self.lines = {point.step for point in history(name, "step/learning_rate")}
            mlflow.start_run(name)
        else:
            if not os.environ.get("MLFLOW_EXPERIMENT_ID"):
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or __name__.partition(".")[0]
                if mlflow.get_experiment_by_name(name) is None:
                    mlflow.create_experiment(name, artifact_location=files)
                mlflow.set_experiment(name)
            write_whole(file, mlflow.start_run(run_name=run.name).info.run_id)
            mlflow.log_params(flat(config))
        mlflow.set_tag("mlflow.source.git.commit", provenance.newest(run).get("commit"))
        for path in [run / "config.yaml", run / provenance.FILE, *run.glob("code-*.diff")]:
            mlflow.log_artifact(str(path))

    def log(self, row: dict[str, float]) -> None:
        training, step = "seconds" in row, int(row["step"])
        if training and step in self.seen:
            return  # logged before a kill, and repeated now: MLflow can't replace metrics
        if not training:
            self.status = self.before  # `test` must not change the status of the training
        self.mlflow.log_metrics(grouped(row), step=step)

    def log_step(self, row: dict[str, float]) -> None:
        step, names = int(row["step"]), row.keys() - {"epoch", "step"}
        if step not in self.lines:
            figures = {f"step/{name}": row[name] for name in row if name in names}
            self.mlflow.log_metrics(figures, step=step)

    def picture(self, path: Path, step: int) -> None:
        self.mlflow.log_artifact(str(path), f"{path.parent.name}/step-{step:08d}")

    def close(self) -> None:
        if kind := sys.exc_info()[0]:  # the exception that ends the run
            stopped = issubclass(kind, Stopped | KeyboardInterrupt)
            self.status = "KILLED" if stopped else "FAILED"
        self.mlflow.end_run(self.status)


def flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested keys: `{"model": {"args": {"width": 8}}}` to `{"model.args.width": 8}`."""
    found = dict[str, Any]()
    for key, value in config.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found
