"""What surrounds the steps of training: hooks, saving and stopping, the progress line."""

import math
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..config import dump, locate, script_command
from ..errors import Stopped, UserError
from ..options import Config
from . import checkpoint, distributed, provenance
from .contract import Batch, Task
from .device import derived_seed, peak_memory, pick_device, seeded, to_device
from .distributed import log
from .signals import CODES, Signals
from .state import State, to_checkpoint
from .tracking import log_pictures


class Session:
    """A context manager for one start of a run: locks its folder, saves, stops, handles errors."""

    def __init__(
        self, config: Config, task: Task, run: Path, state: State, hooks: Iterable[Any] = ()
    ) -> None:
        self.config, self.task, self.run = config, task, run
        self.hooks = [h for h in hooks if distributed.rank() == 0 or getattr(h, "all_ranks", False)]
        heard = any(hasattr(hook, "on_gradients") for hook in self.hooks)
        self.hear = partial(self.tell, "gradients") if heard else None  # None costs nothing
        self.device = pick_device(config.run.device)
        self.state, self.best_file, self.signals = state, state.best_file, Signals()
        self.weights = [*state.model.parameters(), *state.loss_module.parameters()]
        saving = distributed.fsdp() or checkpoint  # that of fsdp also removes unused shards
        self.writer = saving.Writer(run, config.checkpoint.keep, config.checkpoint.background)
        self.resume_command = script_command("train", "--resume", str(run))
        self.saved_at = time.monotonic()
        self.stop_due = self.save_due = False  # after this step, in all processes
        self.consistent = True  # False within a step, the end of an epoch, or a save
        self.finish = False  # a hook may set it: validate after this step, and end the run
        self.finished = False  # once all processes know it
        self.can_draw = True  # until a picture fails
        self.progress = Progress(self.device, state)
        self.trackers: list[Any] = []

    def __enter__(self) -> "Session":
        with ExitStack() as stack:
            if distributed.rank() == 0:
                provenance.lock_run(self.run, new=self.state.saved_step < 0)
                stack.callback(provenance.unlock_runs)
                checkpoint.write_whole(self.run / "config.yaml", dump(self.config, "yaml"))
                provenance.record(self.run, self.device)
                distributed.logs.append(open(self.run / "train.log", "a", encoding="utf-8"))
                stack.callback(lambda: distributed.logs.pop().close())
            stack.callback(self.writer.wait)
            stack.enter_context(self.signals)
            stack.callback(lambda: [tracker.close() for tracker in self.trackers])
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, Stopped):
                self.rescue(error)
            self.tell(*(["exception", error] if error else ["end"]))
        finally:
            self.stack.__exit__(kind, error, traceback)  # Signals acts on the error
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):  # by torch
            advice = "if memory ran out, lower data.workers or data.batch_size"
            raise UserError(f"data.workers: a worker process died; {advice}") from error

    # --- hooks ---
    def tell(self, event: str, *news: Any) -> None:
        """Call the method `on_<event>` of the hooks that have it."""
        for hook in self.hooks:
            if method := getattr(hook, f"on_{event}", None):
                method(self, *news)

    def restore_hooks(self, saved: Mapping[str, Any] | None) -> None:
        """Give the hooks what they saved in a checkpoint."""
        states = (saved or {}).get("hooks", {})
        for hook in self.hooks:
            if type(hook).__name__ in states:
                hook.load_state_dict(states[type(hook).__name__])

    # --- saving ---
    def save(self) -> None:
        """Make the state the newest checkpoint; all processes must call this. Raises UserError."""
        self.consistent = False
        finite = [weight.isfinite().all() for weight in self.weights]
        finite = [f.full_tensor() if hasattr(f, "full_tensor") else f for f in finite]  # of FSDP
        if not all(torch.stack(finite).tolist()):
            check_finite(math.nan, self.state)
        saved = to_checkpoint(self.state, self.task, self.config)
        hooks = [hook for hook in self.hooks if hasattr(hook, "state_dict")]
        saved["hooks"] = {type(hook).__name__: hook.state_dict() for hook in hooks}
        self.writer.save(saved, self.state.saved_step, self.best_file)
        self.state.saved_step, self.best_file = self.state.step, self.state.best_file
        self.saved_at = time.monotonic()
        self.consistent = True
        self.tell("save")

    def rescue(self, error: Exception) -> None:
        """Save what was trained, if the error came at a step boundary."""
        unsaved = self.state.step > max(0, self.state.saved_step)
        if not self.consistent or not (unsaved or isinstance(error, UserError)):
            return
        try:
            if unsaved and distributed.world() == 1:
                self.save()
        except Exception as failed:  # the first error is the one to raise
            print(f"warning: {failed}", file=sys.stderr)
        if self.state.saved_step >= 0:
            saved = f"saved at step {self.state.saved_step}"
            log(f"{saved}; fix the error below, then: {self.resume_command}")

    # --- between steps ---
    def ended(self) -> bool:
        """Whether all steps or epochs are done, or early stopping is due, and it is validated."""
        options, state = self.config.train, self.state
        done = state.step if options.max_steps else state.epoch
        ended = done >= (options.max_steps or options.epochs) or self.finished
        ended |= state.stale >= (options.patience or math.inf)
        return ended and state.validated_step == state.step

    def validation_due(self, end_of_epoch: bool) -> bool:
        """Whether to validate before the next step, unless that was done at this step."""
        state, every, most = self.state, self.config.valid.every_steps, self.config.train.max_steps
        due = state.step % every == 0 if every else end_of_epoch
        last = not most and end_of_epoch and state.epoch + 1 >= self.config.train.epochs
        due |= last or self.finished or (most is not None and state.step >= most)
        return due and state.validated_step != state.step

    def start_training(self) -> None:
        """Set training mode and restart clocks: at the start of an epoch, after a validation."""
        self.state.net.train()
        self.state.loss_module.train()
        self.progress.start()
        self.training_since = time.perf_counter()

    def log_step(self, figures: dict[str, float]) -> None:
        """Print the progress line, with what hooks add, and give its row to the trackers."""
        norm = self.state.grad_norm
        figures["grad_norm"] = float(getattr(norm, "full_tensor", lambda: norm)())
        self.tell("log", figures)
        line, row = self.progress.line(self.state, figures)
        log(line)
        row = {"epoch": self.state.epoch + 1, "step": self.state.step, **row}
        for tracker in self.trackers:
            if hasattr(tracker, "log_step"):
                tracker.log_step(row)

    def before_step(self, samples: int) -> float:
        """Tell all processes the size of this one's next batch, and if a stop or a save is due.

        Returns the samples of all next batches together; 0 if a process has none left.
        """
        every, minutes = self.config.checkpoint.every_steps, self.config.checkpoint.every_minutes
        due = bool(every) and (self.state.step + 1) % (every or 1) == 0
        due |= bool(minutes) and time.monotonic() - self.saved_at > 60 * (minutes or 0)
        flags = samples == 0, bool(self.signals.received), due, self.finish
        total, without, stops, saves, finish = distributed.all_sum(samples, *flags)
        self.stop_due, self.save_due = stops > 0, saves > 0
        self.finished |= finish > 0
        self.consistent = without > 0  # otherwise a step begins, which `after_step` ends
        return 0 if without else total

    def after_step(self) -> None:
        """Save if that is due; raise Stopped if a signal was received."""
        self.consistent = True
        self.tell("step")
        self.finished |= self.finish and distributed.world() == 1
        stop = self.stop_due or (distributed.world() == 1 and bool(self.signals.received))
        if stop or self.save_due:
            self.save()
        if stop:
            self.stop()

    def stop(self) -> None:
        """Raise Stopped; the state is saved."""
        self.writer.wait()
        distributed.all_sum()  # a barrier: rank 0 has written
        name = signal.Signals(max(distributed.gather(int(self.signals.received)))).name
        saved = f"saved at step {self.state.saved_step}; resume with: {self.resume_command}"
        raise Stopped(f"stopped by {name}, {saved}", CODES[name])

    def interruptible(self, loader: Iterable[Batch], limit: int) -> Iterator[Batch]:
        """At most `limit` batches of an evaluation; after a signal, saves and raises Stopped."""
        seed = derived_seed(self.config.run.seed, distributed.rank(), self.state.step)
        for batch in islice(seeded(loader, seed), limit):
            if self.signals.received and distributed.world() == 1:
                self.save()
                self.stop()
            yield batch

    def draw(self, batch: Batch) -> None:
        """Save a picture of a training batch; after a failure, warn and draw no more pictures."""
        if distributed.rank() > 0 or not self.can_draw:
            return
        folder = locate(self.config.run.images, inside=True) / "loader"
        try:
            picture = self.task.draw_batch(to_device(batch, torch.device("cpu")), folder)
            log_pictures(self.trackers, [picture], self.state.step)
        except Exception as error:  # a task or a tracker may raise anything
            self.can_draw = False
            kind = "" if isinstance(error, UserError | OSError) else f"{type(error).__name__}: "
            print(f"warning: {folder}: no picture of a batch: {kind}{error}", file=sys.stderr)


def check_finite(loss: float, state: State) -> float:
    """The loss; UserError if it is NaN or infinite."""
    if not math.isfinite(loss):
        where = f"at step {state.step}, learning rate {state.scheduler.get_last_lr()[0]:.3g}"
        saved = f"the state of step {state.saved_step} is kept" if state.saved_step >= 0 else ""
        advice = "lower optimizer.lr or train.grad_clip"
        raise UserError(f"the loss is {loss} {where}; {saved or 'nothing was saved'}; {advice}")
    return loss


class Progress:
    """Counts samples and the time spent waiting for data since the last progress line."""

    def __init__(self, device: torch.device, state: State) -> None:
        self.device, self.began, self.first = device, time.perf_counter(), state.step
        self.start()

    def start(self) -> None:
        self.started, self.waited, self.samples = time.perf_counter(), 0.0, 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, and add up the time that they take to arrive."""
        began = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def line(self, state: State, figures: dict[str, float]) -> tuple[str, dict[str, float]]:
        """The progress line, and the row for `steps.csv`; the ETA counts validations too."""
        now, rate = time.perf_counter(), float(state.scheduler.get_last_lr()[0])
        speed, waiting = (each / (now - self.started) for each in (self.samples, self.waited))
        row = {**figures, "learning_rate": rate, "samples_per_second": speed, "waiting": waiting}
        left = (now - self.began) / (state.step - self.first) * (state.total_steps - state.step)
        shown = (f"{name} {x:.4f}" for name, x in figures.items() if "/" not in name)
        parts = [f"step {state.step}", *shown, f"{speed:.0f}/s", f"wait {waiting:.0%}"]
        parts += [f"lr {rate:.1e}", f"{peak_memory(self.device) / 2**30:.1f} GiB"]
        parts += [f"eta {timedelta(seconds=round(left))}"]
        self.start()
        return "  " + "  ".join(parts), row
