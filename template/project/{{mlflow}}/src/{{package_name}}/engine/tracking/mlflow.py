"""MLflow: a database beside the runs, or the server that `MLFLOW_TRACKING_URI` names."""

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
    """A run of MLflow, whose id is kept in the run's folder; UserError if it can't be opened."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, to count
        self.mlflow: Any = importlib.import_module("mlflow")
        try:
            self.start(run, config)
        except Exception as error:  # of MLflow, of SQLAlchemy, of the network
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"run.tracker: mlflow: {reason}; fix it, or set none") from error

    def start(self, run: Path, config: dict[str, Any]) -> None:
        mlflow, file, files = self.mlflow, run / "mlflow.id", None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder = run.parent.absolute()
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
            files = (folder / "mlflow").as_uri()  # a server knows a place itself
        self.seen, self.status = set[int](), "FINISHED"
        if file.is_file():
            name = file.read_text(encoding="utf-8").strip()
            self.before = mlflow.get_run(name).info.status
            history = mlflow.MlflowClient().get_metric_history(name, "learning_rate")
            self.seen = {point.step for point in history}
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
            return  # the run was killed before it was saved; MLflow can't take figures back
        if not training:
            self.status = self.before  # of a run that is only tested
        self.mlflow.log_metrics(grouped(row), step=step)

    def picture(self, path: Path, step: int) -> None:
        self.mlflow.log_artifact(str(path), f"{path.parent.name}/step-{step:08d}")

    def close(self) -> None:
        if kind := sys.exc_info()[0]:  # what ends the run
            stopped = issubclass(kind, Stopped | KeyboardInterrupt)
            self.status = "KILLED" if stopped else "FAILED"
        self.mlflow.end_run(self.status)


def flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """`{"model": {"args": {"width": 8}}}` as `{"model.args.width": 8}`."""
    found = dict[str, Any]()
    for key, value in config.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found
