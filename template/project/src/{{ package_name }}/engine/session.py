"""What keeps a run safe: when to save it, what may stop it, what is left when it fails."""

import math
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ..config import dump, locate, to_resume
from ..errors import UserError
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
    """A run from its start to its end, whatever that may be.

    Within it the run's folder exists; one that holds nothing to go on with is removed again.
    """

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
        self.weights = list(state.model.parameters())
        self.signals, self.profiler = Signals(), Profiler(run if profile else None)
        rule = config.checkpoint
        self.writer = checkpoint.Writer(run, rule.keep, rule.background)
        self.saved_at = time.monotonic()
        self.asked = self.due = False
        self.trackers: list[Any] = []

    def __enter__(self) -> "Session":
        if distributed.rank() == 0:
            self.run.mkdir(parents=True, exist_ok=True)
            checkpoint.write_whole(self.run / "config.yaml", dump(self.config, "yaml"))
            provenance.record(self.run, self.device)
        self.stack = ExitStack()
        self.stack.enter_context(self.signals)
        self.stack.enter_context(self.profiler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stack.close()
        try:
            self.writer.wait()
            if isinstance(error, RuntimeError) and WORKER in str(error):  # it may come at any time
                advice = "if memory ran out, lower data.workers or data.batch_size"
                died = "data.workers: a process that reads data died"
                raise UserError(f"{died}; {advice}") from error
        finally:
            if distributed.rank() == 0 and not (self.run / checkpoint.LAST).exists():
                shutil.rmtree(self.run)

    # --- saving ---

    def save(self) -> None:
        """Make the state as it is now the newest checkpoint. All processes must call this."""
        weights = [p.isfinite().all() for p in self.weights]
        if not all(torch.stack([local(w) for w in weights]).tolist()):
            finite(math.nan, self.state)
        saved = contents(self.state, self.task, self.config)
        self.writer.save(saved, self.state.saved_step, self.best_file)
        self.state.saved_step, self.best_file = self.state.step, self.state.best_file
        self.saved_at = time.monotonic()

    def rescue(self) -> None:
        """Save what was trained, since the next batch can't be had."""
        if distributed.world() == 1 and self.state.step > max(0, self.state.saved_step):
            self.save()
        if self.state.saved_step >= 0:
            saved = f"saved at step {self.state.saved_step}"
            log(f"{saved}; fix the error below, then: {to_resume(self.run)}")

    # --- between steps ---

    def agree(self, samples: float) -> float:
        """The samples of this step in all processes; they also agree on what comes after it."""
        every, minutes = self.config.checkpoint.every_steps, self.config.checkpoint.every_minutes
        due = bool(every) and (self.state.step + 1) % (every or 1) == 0
        due |= bool(minutes) and time.monotonic() - self.saved_at > 60 * (minutes or 0)
        samples, asked, ripe = distributed.agree(samples, bool(self.signals.received), due)
        self.asked, self.due = asked > 0, ripe > 0
        return samples

    def after_step(self) -> None:
        """Save where it is time to, and raise Stopped where a signal asked for it."""
        self.profiler.step()
        if self.asked or self.due:
            self.save()
        if self.asked:
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
        try:
            for batch in batches:
                if self.signals.received and distributed.world() == 1:
                    self.save()
                    self.stop()
                yield batch
        except UserError:
            self.rescue()
            raise

    def draw(self, batch: Batch) -> None:
        """The picture of what the model sees."""
        if distributed.rank() == 0:
            folder = locate(self.config.run.images, inside=True) / "loader"
            picture = self.task.draw_batch(to_device(batch, torch.device("cpu")), folder)
            show(self.trackers, [picture], self.state.step)


def local(value: torch.Tensor) -> torch.Tensor:
    """What this process has of a tensor that may be split over several."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def finite(loss: float, state: State) -> float:
    """The loss, if it is a number; UserError if it is not."""
    if not math.isfinite(loss):
        where = f"at step {state.step}, learning rate {state.scheduler.get_last_lr()[0]:.3g}"
        saved = f"the state of step {state.saved_step} is kept" if state.saved_step >= 0 else ""
        advice = "lower optimizer.lr or train.grad_clip"
        raise UserError(f"the loss is {loss} {where}; {saved or 'nothing was saved'}; {advice}")
    return loss
