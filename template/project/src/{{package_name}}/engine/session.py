"""What keeps a run safe: when to save it, what may stop it, what is left when it fails."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..config import dump, locate, to_resume
from ..errors import Stopped, UserError
from ..options import Config
from . import checkpoint, distributed, provenance
from .contract import Batch, Task
from .device import to_device
from .profiling import Profiler
from .progress import WORKER, log
from .signals import Signals, kept_from_children
from .state import State, contents
from .tracking import show


class Session:
    """A run from its start to its end; a folder without a checkpoint is removed again."""

    def __init__(
        self,
        config: Config,
        task: Task,
        device: torch.device,
        run: Path,
        state: State,
        profile: bool,
    ) -> None:
        self.config, self.task, self.device, self.run = config, task, device, run
        self.state, self.best_file = state, state.best_file
        modules = state.model, state.loss_module
        self.weights: list[torch.Tensor] = [p for module in modules for p in module.parameters()]
        self.signals, self.profiler = Signals(), Profiler(run if profile else None)
        self.writer = checkpoint.Writer(run, config.checkpoint.keep, config.checkpoint.background)
        self.saved_at = time.monotonic()
        self.stop_due = self.save_due = False  # after this step, as all processes agreed
        self.consistent = True  # not in the middle of a step, of an epoch's end, or of a save
        self.drawn = True  # until a picture can't be
        self.trackers: list[Any] = []

    def __enter__(self) -> "Session":
        with ExitStack() as stack:
            if distributed.rank() == 0:
                provenance.own(self.run, new=self.state.saved_step < 0)
                stack.callback(provenance.disown)
                checkpoint.write_whole(self.run / "config.yaml", dump(self.config, "yaml"))
                provenance.record(self.run, self.device)
            stack.callback(self.writer.wait)
            stack.enter_context(self.signals)
            stack.enter_context(self.profiler)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, Stopped):
                self.rescue(error)
        finally:
            self.stack.__exit__(kind, error, traceback)  # signals want to know how it ended
        if isinstance(error, RuntimeError) and WORKER in str(error):  # it may come at any time
            advice = "if memory ran out, lower data.workers or data.batch_size"
            raise UserError(f"data.workers: a process that reads data died; {advice}") from error

    # --- saving ---

    def save(self) -> None:
        """Make the state as it is now the newest checkpoint. All processes must call this."""
        self.consistent = False
        weights = [p.isfinite().all() for p in self.weights]
        if not all(torch.stack([full(w) for w in weights]).tolist()):
            finite(math.nan, self.state)
        saved = contents(self.state, self.task, self.config)
        self.writer.save(saved, self.state.saved_step, self.best_file)
        self.state.saved_step, self.best_file = self.state.step, self.state.best_file
        self.saved_at = time.monotonic()
        self.consistent = True

    def rescue(self, error: Exception) -> None:
        """Save what was trained, if this error came where the state is that of a whole step."""
        anew = self.state.step > max(0, self.state.saved_step)
        if not self.consistent or not (anew or isinstance(error, UserError)):
            return
        try:
            if anew and distributed.world() == 1:
                self.save()
        except Exception as failed:  # the first error is the one to tell of
            print(f"warning: {failed}", file=sys.stderr)
        if self.state.saved_step >= 0:
            saved = f"saved at step {self.state.saved_step}"
            log(f"{saved}; fix the error below, then: {to_resume(self.run)}")

    # --- between steps ---

    def agree(self, samples: int) -> float:
        """How many samples all processes have in their next batches; 0 if one has none left."""
        every, minutes = self.config.checkpoint.every_steps, self.config.checkpoint.every_minutes
        due = bool(every) and (self.state.step + 1) % (every or 1) == 0
        due |= bool(minutes) and time.monotonic() - self.saved_at > 60 * (minutes or 0)
        stop = bool(self.signals.received)
        total, without, stops, saves = distributed.agree(samples, samples == 0, stop, due)
        self.stop_due, self.save_due = stops > 0, saves > 0
        self.consistent = without > 0  # in the middle of a step until `after_step`, if there is one
        return 0 if without else total

    def after_step(self) -> None:
        """Save where it is time to, and raise Stopped where a signal asked for it."""
        self.consistent = True
        self.profiler.step()
        stop = self.stop_due or (distributed.world() == 1 and bool(self.signals.received))
        if stop or self.save_due:
            self.save()
        if stop:
            self.stop()

    def stop(self) -> None:
        """Raise Stopped; the state is saved."""
        self.writer.wait()
        distributed.agree()  # the one that writes is done
        number = max(distributed.gather(int(self.signals.received)))
        saved = f"saved at step {self.state.saved_step}; resume with: {to_resume(self.run)}"
        raise self.signals.stopped(number, saved)

    def until_asked_to_stop(self, loader: Iterable[Batch], limit: int) -> Iterator[Batch]:
        """Batches of an evaluation; a signal stops it as it does training."""
        with kept_from_children():
            batches = islice(loader, limit)
        for batch in batches:
            if self.signals.received and distributed.world() == 1:
                self.save()
                self.stop()
            yield batch

    def draw(self, batch: Batch) -> None:
        """The picture of what the model sees; training continues where it can't be drawn."""
        if distributed.rank() > 0 or not self.drawn:
            return
        folder = locate(self.config.run.images, inside=True) / "loader"
        try:
            picture = self.task.draw_batch(to_device(batch, torch.device("cpu")), folder)
            show(self.trackers, [picture], self.state.step)
        except Exception as error:  # a task or a tracker may raise anything
            self.drawn = False
            kind = "" if isinstance(error, UserError | OSError) else f"{type(error).__name__}: "
            print(f"warning: {folder}: no picture of a batch: {kind}{error}", file=sys.stderr)


def full(value: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be split over several processes, which all call this."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def finite(loss: float, state: State) -> float:
    """The loss, if it is a number; UserError if it is not."""
    if not math.isfinite(loss):
        where = f"at step {state.step}, learning rate {state.scheduler.get_last_lr()[0]:.3g}"
        saved = f"the state of step {state.saved_step} is kept" if state.saved_step >= 0 else ""
        advice = "lower optimizer.lr or train.grad_clip"
        raise UserError(f"the loss is {loss} {where}; {saved or 'nothing was saved'}; {advice}")
    return loss
