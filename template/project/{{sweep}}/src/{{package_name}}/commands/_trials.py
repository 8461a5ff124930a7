"""The trials of a sweep: Optuna stores its trials in a database, a grid in files.

Several processes can work on a sweep. Each locks a file of its trial. The system releases the
lock when the process ends for any reason, and another process then resumes the trial.
"""

import importlib
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..config import locate
from ..engine.checkpoint import write_whole
from ..errors import UserError
from ._plan import Plan, Range


@dataclass
class Trial:
    """A run with its options. The state is running, complete, pruned or fail."""

    number: int
    options: dict[str, Any]
    state: str = "running"
    figures: list[float] = field(default_factory=list)  # the monitored metric of each epoch


class Trials:
    """The base of Grid and Study: the sweep's folder, and the lock of the current trial."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lock: IO[str] | None = None
        plan.folder.mkdir(parents=True, exist_ok=True)
        shared = plan.config.model_dump(exclude={"run": True, "data": {"workers"}})
        tried = {key: str(option) for key, option in plan.tried.items()}
        if plan.seeds:
            del tried["run.seed"]  # more seeds are further trials
        shared |= {"seed": plan.config.run.seed, "tried": tried}
        shared |= {"content of data.folder": plan.folds} if plan.folds else {}
        shared, path = json.loads(json.dumps(shared)), plan.folder / "config.json"
        stored = {"command": plan.command, "fixed": plan.fixed}  # for `sweep --show`
        stored["checkpoint"] = {key: shared["checkpoint"][key] for key in ("monitor", "mode")}
        stored["tried"] = {
            key: option.model_dump() if isinstance(option, Range) else option
            for key, option in plan.tried.items()
        }
        with self.exclusive():
            if not path.is_file():
                whole = shared | {"plan": stored}
                write_whole(path, json.dumps(whole, indent=1, ensure_ascii=False))
            elif not plan.started:
                before = json.loads(path.read_text(encoding="utf-8"))
                changed = [key for key in shared if before.get(key) != shared[key]]
                other = ", ".join("space" if key == "tried" else key for key in changed)
                advice = "set another name: --study NAME"
                if other:
                    raise UserError(f"{path.parent}: a sweep with another {other}; {advice}")

    def path(self, number: int, ending: str = "") -> Path:
        """The folder of a trial's run, or the file beside it with that ending."""
        return self.plan.folder / f"trial-{number:03d}{ending}"

    def exclusive(self) -> IO[str]:
        """Wait for the sweep's lock; the context manager releases it."""
        while not (file := locked(self.plan.folder / "sweep.lock")):
            time.sleep(0.05)
        return file

    def lock_trial(self, number: int) -> bool:
        """Lock a trial; False if another process has locked it."""
        self.lock = locked(self.path(number, ".lock"))
        return self.lock is not None

    def unlock(self) -> None:
        """Release the lock of the current trial, if any, so that others can resume it."""
        if self.lock:
            self.lock.close()


class Grid(Trials):
    """Every combination of the lists, in order, with each seed. Each complete trial has a file."""

    def all(self) -> list[Trial]:
        """The trials with a file, by number."""
        files = self.plan.folder.glob("trial-*.json")
        trials = [Trial(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
        return sorted(trials, key=lambda trial: trial.number)

    def claim(self) -> Trial | None:
        """A trial to work on; None if all are complete or locked."""
        for number, row in enumerate(itertools.product(*self.plan.tried.values())):
            with self.exclusive():
                if not self.path(number, ".json").is_file() and self.lock_trial(number):
                    return Trial(number, dict(zip(self.plan.tried, row, strict=True)))
        return None

    def report(self, trial: Trial) -> bool:
        """Whether to prune the trial: never, in a grid."""
        return False

    def finish(self, trial: Trial, state: str) -> None:
        """Store the state of the trial, and unlock it."""
        with self.exclusive():
            trial.state = state
            text = json.dumps(asdict(trial), ensure_ascii=False)
            write_whole(self.path(trial.number, ".json"), text)
            self.unlock()
            self.path(trial.number, ".lock").unlink()


class Study(Trials):
    """Options that Optuna chooses from the results so far."""

    def __init__(self, plan: Plan) -> None:
        try:
            optuna: Any = importlib.import_module("optuna")
        except ImportError:
            advice = "run pip install 'optuna>=4.4', or use --grid"
            raise UserError(f"a sweep needs Optuna: {advice}") from None
        super().__init__(plan)
        self.optuna, options, space = optuna, plan.sweep, optuna.distributions
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage: Any = options.storage or f"sqlite:///{plan.folder / 'study.db'}?timeout=60"
        pruner = optuna.pruners.NopPruner()
        if options.pruner == "median":  # not after the first epochs, which say little
            pruner = optuna.pruners.MedianPruner(options.startup, n_warmup_steps=2)
        with self.exclusive():  # otherwise two processes may create the tables
            try:
                if "://" not in storage:
                    journal, file = optuna.storages.journal, str(locate(storage, inside=True))
                    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(file))
                self.study = optuna.create_study(
                    study_name=options.name,
                    storage=storage,
                    pruner=pruner,
                    direction="maximize" if plan.config.checkpoint.mode == "max" else "minimize",
                    load_if_exists=True,
                )
            except Exception as error:  # each database has its own types
                reason = str(error).splitlines()[0]
                raise UserError(f"sweep.storage: cannot be used: {reason}") from error
        self.space = dict[str, Any]()
        for key, option in plan.tried.items():
            if isinstance(option, Range):
                whole = isinstance(option.low, int) and isinstance(option.high, int)
                kind = space.IntDistribution if whole else space.FloatDistribution
                self.space[key] = kind(option.low, option.high, log=option.log)
            else:  # Optuna takes only plain values; a choice may be a list or a map
                texts = [json.dumps(choice, ensure_ascii=False) for choice in option]
                self.space[key] = space.CategoricalDistribution(texts)

    def all(self) -> list[Trial]:
        """The trials by number."""
        return [
            Trial(
                kept.number,
                options(kept.params),
                kept.state.name.lower(),
                [figure for _, figure in sorted(kept.intermediate_values.items())],
            )
            for kept in self.study.get_trials(deepcopy=False)
        ]

    def claim(self) -> Trial | None:
        """A trial to work on, interrupted or new; None once there are enough."""
        with self.exclusive():
            trials = self.study.get_trials(deepcopy=False)
            for kept in trials:  # without a lock file, it runs on a machine with another disk
                left = not kept.state.is_finished() and self.path(kept.number, ".lock").exists()
                if left and self.lock_trial(kept.number):
                    self.current = self.optuna.trial.Trial(self.study, kept._trial_id)
                    self.reported = len(kept.intermediate_values)
                    return Trial(kept.number, options(kept.params))
            if len(trials) >= self.plan.sweep.trials:
                return None
            seed = self.plan.config.run.seed + len(trials)  # else processes draw equal options
            startup = self.plan.sweep.startup
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=startup, seed=seed
            )
            self.current, self.reported = self.study.ask(self.space), 0
            self.lock_trial(self.current.number)
            return Trial(self.current.number, options(self.current.params))

    def report(self, trial: Trial) -> bool:
        """Store the metric of each new epoch; returns whether to prune the trial."""
        for epoch in range(self.reported, len(trial.figures)):
            self.current.report(trial.figures[epoch], epoch + 1)
        self.reported = len(trial.figures)
        return bool(self.current.should_prune())

    def finish(self, trial: Trial, state: str) -> None:
        """Store the state of the trial, and unlock it."""
        with self.exclusive():
            self.report(trial)  # epochs whose process was killed before it reported them
            best = self.plan.best(trial.figures) if state == "complete" else None
            state_of = self.optuna.trial.TrialState
            self.study.tell(self.current, best, state_of[state.upper()])
            self.unlock()
            self.path(trial.number, ".lock").unlink()


def options(params: dict[str, Any]) -> dict[str, Any]:
    """Optuna's parameters as config values."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in params.items()}


def locked(path: Path) -> IO[str] | None:
    """The file, locked until it is closed; None if another process has locked it."""
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        return None
    return file
