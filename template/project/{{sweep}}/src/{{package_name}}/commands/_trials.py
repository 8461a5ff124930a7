"""Where a sweep's trials are kept: by Optuna in a database, or as a grid in files.

Several processes can share them. Each holds a lock on a file of the trial that it works on, which
the system takes away when the process is gone, however that came: then another goes on with it.
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
from .sweep import Plan, Range


@dataclass
class Trial:
    """A run with options of its own; it is running, complete, pruned, or failed (fail)."""

    number: int
    options: dict[str, Any]
    state: str = "running"
    figures: list[float] = field(default_factory=list)  # the monitored one, after each epoch


class Trials:
    """What a grid and a study share: the sweep's folder, and the lock of the trial under way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lock: IO[str] | None = None
        plan.folder.mkdir(parents=True, exist_ok=True)
        shared = plan.config.model_dump(exclude={"run": True, "data": {"workers"}})
        tried = {key: str(option) for key, option in plan.tried.items()}
        shared |= {"seed": plan.config.run.seed, "tried": tried}
        shared, path = json.loads(json.dumps(shared)), plan.folder / "config.json"
        again = {"command": plan.command, "fixed": plan.fixed}  # for `sweep --show`
        again["checkpoint"] = {key: shared["checkpoint"][key] for key in ("monitor", "mode")}
        again["tried"] = {
            key: option.model_dump() if isinstance(option, Range) else option
            for key, option in plan.tried.items()
        }
        with self.alone():
            if not path.is_file():
                whole = shared | {"plan": again}
                write_whole(path, json.dumps(whole, indent=1, ensure_ascii=False))
            elif not plan.started:
                before = json.loads(path.read_text(encoding="utf-8"))
                changed = [key for key in shared if before.get(key) != shared[key]]
                other = ", ".join("space" if key == "tried" else key for key in changed)
                advice = "start this one under another name: --study NAME"
                if other:
                    raise UserError(f"{path.parent}: a sweep with another {other}; {advice}")

    def path(self, number: int, ending: str = "") -> Path:
        """The folder of a trial's run, or the file of that ending beside it."""
        return self.plan.folder / f"trial-{number:03d}{ending}"

    def alone(self) -> IO[str]:
        """Wait for the lock that all processes share; for a `with`."""
        while not (file := locked(self.plan.folder / "sweep.lock")):
            time.sleep(0.05)
        return file

    def take(self, number: int) -> bool:
        """Hold the lock of a trial, unless another process does."""
        self.lock = locked(self.path(number, ".lock"))
        return self.lock is not None

    def leave(self) -> None:
        """Let others go on with the trial under way, if any."""
        if self.lock:
            self.lock.close()


class Grid(Trials):
    """Every combination of the choices, in order; a file for each one that is done."""

    def all(self) -> list[Trial]:
        """Those that are done, by number."""
        files = self.plan.folder.glob("trial-*.json")
        trials = [Trial(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
        return sorted(trials, key=lambda trial: trial.number)

    def claim(self) -> Trial | None:
        """A trial to work on; None if all are done, or others'."""
        for number, row in enumerate(itertools.product(*self.plan.tried.values())):
            with self.alone():
                if not self.path(number, ".json").is_file() and self.take(number):
                    return Trial(number, dict(zip(self.plan.tried, row, strict=True)))
        return None

    def report(self, trial: Trial) -> bool:
        """Whether to prune it: never, since all combinations are asked for."""
        return False

    def finish(self, trial: Trial, state: str) -> None:
        """It is in that state from now on."""
        with self.alone():
            trial.state = state
            text = json.dumps(asdict(trial), ensure_ascii=False)
            write_whole(self.path(trial.number, ".json"), text)
            self.leave()
            self.path(trial.number, ".lock").unlink()


class Study(Trials):
    """Options that Optuna chooses, by what it knows of the trials so far."""

    def __init__(self, plan: Plan) -> None:
        try:
            optuna: Any = importlib.import_module("optuna")
        except ImportError:
            install = "install it with pip install 'optuna>=4.4', or take --grid"
            raise UserError(f"a sweep needs Optuna: {install}") from None
        super().__init__(plan)
        self.optuna, rule, space = optuna, plan.sweep, optuna.distributions
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage: Any = rule.storage or f"sqlite:///{plan.folder / 'study.db'}?timeout=60"
        pruner = optuna.pruners.NopPruner()
        if rule.pruner == "median":  # not after the first epoch, when little is known
            pruner = optuna.pruners.MedianPruner(rule.startup, n_warmup_steps=2)
        with self.alone():  # or two processes make its tables
            try:
                if "://" not in storage:
                    journal, file = optuna.storages.journal, str(locate(storage, inside=True))
                    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(file))
                self.study = optuna.create_study(
                    study_name=rule.name,
                    storage=storage,
                    pruner=pruner,
                    direction="maximize" if plan.config.checkpoint.mode == "max" else "minimize",
                    load_if_exists=True,
                )
            except Exception as error:  # each database has its own
                reason = str(error).splitlines()[0]
                raise UserError(f"sweep.storage: cannot be used: {reason}") from error
        self.space = dict[str, Any]()
        for key, option in plan.tried.items():
            if isinstance(option, Range):
                whole = isinstance(option.low, int) and isinstance(option.high, int)
                kind = space.IntDistribution if whole else space.FloatDistribution
                self.space[key] = kind(option.low, option.high, log=option.log)
            else:  # Optuna takes plain values only, and a choice may be a list or a map
                texts = [json.dumps(choice, ensure_ascii=False) for choice in option]
                self.space[key] = space.CategoricalDistribution(texts)

    def all(self) -> list[Trial]:
        """By number."""
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
        """A trial to work on, one that was left or a new one; None once there are enough."""
        with self.alone():
            trials = self.study.get_trials(deepcopy=False)
            for kept in trials:  # one without a lock file is of a machine with another folder
                left = not kept.state.is_finished() and self.path(kept.number, ".lock").exists()
                if left and self.take(kept.number):
                    self.asked = self.optuna.trial.Trial(self.study, kept._trial_id)
                    self.reported = len(kept.intermediate_values)
                    return Trial(kept.number, options(kept.params))
            if len(trials) >= self.plan.sweep.trials:
                return None
            seed = self.plan.config.run.seed + len(trials)  # so no two processes draw the same
            startup = self.plan.sweep.startup
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=startup, seed=seed
            )
            self.asked, self.reported = self.study.ask(self.space), 0
            self.take(self.asked.number)
            return Trial(self.asked.number, options(self.asked.params))

    def report(self, trial: Trial) -> bool:
        """Keep the figures of its epochs; whether to prune it."""
        for epoch in range(self.reported, len(trial.figures)):
            self.asked.report(trial.figures[epoch], epoch + 1)
        self.reported = len(trial.figures)
        return bool(self.asked.should_prune())

    def finish(self, trial: Trial, state: str) -> None:
        """It is in that state from now on."""
        with self.alone():
            self.report(trial)  # what was saved, but not reported when a process ended
            best = self.plan.best(trial.figures) if state == "complete" else None
            state_of = self.optuna.trial.TrialState
            self.study.tell(self.asked, best, state_of[state.upper()])
            self.leave()
            self.path(trial.number, ".lock").unlink()


def options(params: dict[str, Any]) -> dict[str, Any]:
    """As the config takes them."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in params.items()}


def locked(path: Path) -> IO[str] | None:
    """The file, which no other process can lock until it is closed; None if one has done so."""
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
