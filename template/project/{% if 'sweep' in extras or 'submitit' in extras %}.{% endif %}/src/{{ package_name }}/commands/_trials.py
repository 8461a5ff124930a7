"""Where a sweep's trials are kept: by Optuna in a database, or as a grid in a file.

Several processes can share them. Each holds a lock on a file of the trial that it works on, which
the system takes away when the process is gone, however that came: then another goes on with it.
"""

import importlib
import itertools
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..config import locate
from ..errors import UserError
from .sweep import Plan, Range, flat


@dataclass
class Trial:
    """A run with options of its own; it is running, complete, pruned or failed."""

    number: int
    options: dict[str, Any]
    state: str = "running"
    figures: list[float] = field(default_factory=list)  # the monitored one, after each epoch

    def best(self, pick: Any) -> float:
        """The best figure, which `pick` (max or min) says; NaN if there is none."""
        return pick((value for value in self.figures if math.isfinite(value)), default=math.nan)


class Trials(ABC):
    """What a study and a grid have in common: who works on what."""

    def __init__(self, plan: Plan, total: int) -> None:
        self.plan, self.total = plan, total
        self.held: IO[str] | None = None
        plan.folder.mkdir(parents=True, exist_ok=True)

    def path(self, trial: Trial, ending: str = "") -> Path:
        """The folder of its run, or the file of that ending beside it."""
        return self.plan.folder / f"trial-{trial.number:03d}{ending}"

    def alone(self) -> IO[str]:
        """Wait for the lock that all processes share; for a `with`."""
        while not (file := locked(self.plan.folder / "sweep.lock")):
            time.sleep(0.05)
        return file

    def begin(self) -> None:
        """Note what all trials share; UserError if those so far shared something else."""
        config = self.plan.config.model_dump()
        config["run"] = {"seed": config["run"]["seed"]}  # the rest of it changes no figure,
        del config["data"]["workers"]  # nor does this
        tried = {key: str(option) for key, option in self.plan.tried.items()}
        now = {key: str(value) for key, value in flat(config)} | tried
        with self.alone():
            before = self.noted()
            if before and before != now:
                if any(trial.figures or trial.state == "running" for trial in self.all()):
                    other = [k for k in now | before if now.get(k) != before.get(k)]
                    was = "; ".join(f"{k} was {before.get(k)}, is {now.get(k)}" for k in other)
                    advice = "give this sweep a name of its own, --study NAME"
                    raise UserError(f"{self.plan.folder}: {was}; {advice}")
                self.clear()  # nothing has come of it
            self.note(now)

    def claim(self) -> Trial | None:
        """A trial to work on, one that was left or a new one; None once there are enough."""
        with self.alone():
            trials = self.all()
            for trial in trials:  # one without a lock file is of a machine with another folder
                left = trial.state == "running" and self.path(trial, ".lock").exists()
                if left and self.take(trial):
                    self.go_on(trial)
                    return trial
            if len(trials) >= self.total:
                return None
            trial = Trial(len(trials), {})
            self.take(trial)  # before it begins, or nobody could go on with it
            self.start(trial)
            return trial

    def take(self, trial: Trial) -> bool:
        """Hold its lock, unless another process does."""
        file = locked(self.path(trial, ".lock"))
        self.held = file or self.held
        return file is not None

    def leave(self) -> None:
        """Let others go on with what this process works on, if anything."""
        if self.held:
            self.held.close()
            self.held = None

    def finish(self, trial: Trial, state: str) -> None:
        """It is complete, pruned or failed from now on."""
        with self.alone():
            trial.state = state
            self.end(trial)
            self.leave()
            self.path(trial, ".lock").unlink(missing_ok=True)

    def report(self, trial: Trial, epoch: int, figure: float) -> bool:
        """Keep the figure of an epoch; whether to prune the trial."""
        if epoch > len(trial.figures):  # one that is done again comes to the same
            trial.figures.append(figure)
            self.keep(trial)
        return self.is_bad(trial)

    @abstractmethod
    def all(self) -> list[Trial]:
        """By number."""

    @abstractmethod
    def noted(self) -> dict[str, str]:
        """What `note` was given; empty if nothing."""

    @abstractmethod
    def note(self, shared: dict[str, str]) -> None: ...
    @abstractmethod
    def clear(self) -> None: ...
    @abstractmethod
    def start(self, trial: Trial) -> None:
        """Choose its options."""

    @abstractmethod
    def go_on(self, trial: Trial) -> None: ...
    @abstractmethod
    def keep(self, trial: Trial) -> None:
        """Its last figure is new."""

    @abstractmethod
    def is_bad(self, trial: Trial) -> bool: ...
    @abstractmethod
    def end(self, trial: Trial) -> None: ...


class Study(Trials):
    """Options that Optuna chooses, by what it knows of the trials so far."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, plan.sweep.trials)
        try:
            self.optuna: Any = importlib.import_module("optuna")
        except ImportError:
            install = "install it with pip install 'optuna>=4.4', or take --grid"
            raise UserError(f"a sweep needs Optuna: {install}") from None
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        rule, checkpoint = plan.sweep, plan.config.checkpoint
        url = rule.storage or f"sqlite:///{plan.folder / 'study.db'}?timeout=60"
        pruner = self.optuna.pruners.NopPruner()
        if rule.pruner == "median":  # not after the first epoch, when little is known
            pruner = self.optuna.pruners.MedianPruner(rule.startup, n_warmup_steps=2)
        with self.alone():  # or two processes make its tables
            try:
                journal = self.optuna.storages.journal
                if "://" not in url:
                    file = journal.JournalFileBackend(str(locate(url, inside=True)))
                    url = self.optuna.storages.JournalStorage(file)
                self.how = {"storage": url, "study_name": rule.name, "pruner": pruner}
                self.how["direction"] = {"min": "minimize", "max": "maximize"}[checkpoint.mode]
                self.study = self.optuna.create_study(**self.how, load_if_exists=True)
            except Exception as error:  # each database has its own
                reason = str(error).splitlines()[0]
                raise UserError(f"sweep.storage: cannot be used: {reason}") from error

    def all(self) -> list[Trial]:
        states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        return [
            Trial(
                trial.number,
                trial.user_attrs.get("options", {}),
                states.get(trial.state.name, "running"),
                [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)],
            )
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def noted(self) -> dict[str, str]:
        return dict(self.study.user_attrs.get("shared", {}))

    def note(self, shared: dict[str, str]) -> None:
        self.study.set_user_attr("shared", shared)

    def clear(self) -> None:
        self.optuna.delete_study(study_name=self.how["study_name"], storage=self.how["storage"])
        self.study = self.optuna.create_study(**self.how)

    def start(self, trial: Trial) -> None:
        asked = self.study.ask()
        if asked.number != trial.number:  # another machine was faster
            self.leave()
            self.path(trial, ".lock").unlink()
            trial.number = asked.number
            self.take(trial)
        self.choose(trial, asked)

    def go_on(self, trial: Trial) -> None:
        kept = self.study.get_trials(deepcopy=False)[trial.number]
        self.choose(trial, self.optuna.trial.Trial(self.study, kept._trial_id))

    def choose(self, trial: Trial, asked: Any) -> None:
        """Options by Optuna; those of a trial that it knows stay."""
        seed = self.plan.config.run.seed + trial.number  # so no two processes draw the same
        startup = self.plan.sweep.startup
        self.study.sampler = self.optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)
        for key, option in self.plan.tried.items():
            if isinstance(option, Range):
                whole = isinstance(option.low, int) and isinstance(option.high, int)
                suggest = asked.suggest_int if whole else asked.suggest_float
                trial.options[key] = suggest(key, option.low, option.high, log=option.log)
            else:  # its names in the database are texts, since a choice may be a list or a map
                names = [json.dumps(choice, ensure_ascii=False) for choice in option]
                trial.options[key] = option[names.index(asked.suggest_categorical(key, names))]
        asked.set_user_attr("options", trial.options)
        self.asked = asked

    def keep(self, trial: Trial) -> None:
        self.asked.report(trial.figures[-1], len(trial.figures))

    def is_bad(self, trial: Trial) -> bool:
        return bool(self.asked.should_prune())

    def end(self, trial: Trial) -> None:
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        state = getattr(self.optuna.trial.TrialState, names[trial.state])
        best = trial.best(self.plan.pick) if trial.state == "complete" else None
        self.study.tell(self.asked, best, state)


class Grid(Trials):
    """Every combination of the choices, in order; kept in `grid.json`."""

    def __init__(self, plan: Plan) -> None:
        rows = itertools.product(*plan.tried.values())
        self.combinations = [dict(zip(plan.tried, row, strict=True)) for row in rows]
        super().__init__(plan, len(self.combinations))
        self.file = plan.folder / "grid.json"

    def read(self) -> dict[str, Any]:
        known = self.file.is_file()
        return json.loads(self.file.read_text("utf-8")) if known else {"shared": {}, "trials": []}

    def write(self, content: dict[str, Any]) -> None:
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
        partial.replace(self.file)

    def all(self) -> list[Trial]:
        return [Trial(**trial) for trial in self.read()["trials"]]

    def noted(self) -> dict[str, str]:
        return dict(self.read()["shared"])

    def note(self, shared: dict[str, str]) -> None:
        self.write({"shared": shared, "trials": self.read()["trials"]})

    def clear(self) -> None:
        self.file.unlink()

    def start(self, trial: Trial) -> None:
        trial.options = self.combinations[trial.number]
        self.end(trial)

    def go_on(self, trial: Trial) -> None:
        """Its options are as they were."""

    def keep(self, trial: Trial) -> None:
        with self.alone():
            self.end(trial)

    def is_bad(self, trial: Trial) -> bool:
        return False

    def end(self, trial: Trial) -> None:
        content = self.read()
        content["trials"][trial.number : trial.number + 1] = [asdict(trial)]
        self.write(content)


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
