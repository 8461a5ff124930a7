"""What surrounds the steps of training: saving and stopping, the progress line, `--profile`."""

import math
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..config import dump, locate, script_command
from ..errors import Stopped, UserError
from ..options import Config
from . import checkpoint, distributed, provenance
from .contract import Batch, Task
from .device import peak_memory, pick_device, to_device
from .distributed import log
from .signals import CODES, Signals, signals_blocked
from .state import State, to_checkpoint
from .tracking import log_pictures

WAIT, WARMUP, ACTIVE = 3, 2, 10  # steps that --profile skips, warms up with, and records


class Session:
    """One start of a run, as a context: locks its folder, saves, stops, and saves after errors."""

    def __init__(self, config: Config, task: Task, run: Path, state: State, profile: bool) -> None:
        self.config, self.task, self.run = config, task, run
        self.device = pick_device(config.run.device)
        self.state, self.best_file = state, state.best_file
        modules = state.model, state.loss_module
        self.weights: list[torch.Tensor] = [p for module in modules for p in module.parameters()]
        self.signals, self.profiler = Signals(), profiler(run) if profile else None
        saving = distributed.fsdp() or checkpoint  # it also removes shards that no state needs
        self.writer = saving.Writer(run, config.checkpoint.keep, config.checkpoint.background)
        self.resume_command = script_command("train", "--resume", str(run))
        self.saved_at = time.monotonic()
        self.stop_due = self.save_due = False  # after this step, in all processes
        self.consistent = True  # False within a step, the end of an epoch, or a save
        self.can_draw = True  # until a picture fails
        self.trackers: list[Any] = []

    def __enter__(self) -> "Session":
        with ExitStack() as stack:
            if distributed.rank() == 0:
                provenance.lock_run(self.run, new=self.state.saved_step < 0)
                stack.callback(provenance.unlock_runs)
                checkpoint.write_whole(self.run / "config.yaml", dump(self.config, "yaml"))
                provenance.record(self.run, self.device)
            stack.callback(self.writer.wait)
            stack.enter_context(self.signals)
            if self.profiler:
                stack.enter_context(self.profiler)
            stack.callback(lambda: [tracker.close() for tracker in self.trackers])
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, Stopped):
                self.rescue(error)
        finally:
            self.stack.__exit__(kind, error, traceback)  # Signals acts on the error
        if self.profiler and not error and self.profiler.step_num <= WAIT + WARMUP:
            log(f"--profile: needs more than {WAIT + WARMUP} steps, not {self.profiler.step_num}")
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):  # by torch
            advice = "if memory ran out, lower data.workers or data.batch_size"
            raise UserError(f"data.workers: a worker process died; {advice}") from error

    # --- saving ---
    def save(self) -> None:
        """Make the state the newest checkpoint; all processes must call this. Or UserError."""
        self.consistent = False
        finite = [weight.isfinite().all() for weight in self.weights]
        finite = [f.full_tensor() if hasattr(f, "full_tensor") else f for f in finite]  # of FSDP
        if not all(torch.stack(finite).tolist()):
            check_finite(math.nan, self.state)
        saved = to_checkpoint(self.state, self.task, self.config)
        self.writer.save(saved, self.state.saved_step, self.best_file)
        self.state.saved_step, self.best_file = self.state.step, self.state.best_file
        self.saved_at = time.monotonic()
        self.consistent = True

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
    def before_step(self, samples: int) -> float:
        """Tell all processes of this one's next batch, and of a stop or save that is due.

        Returns the samples of all next batches together; 0 if a process has none left.
        """
        every, minutes = self.config.checkpoint.every_steps, self.config.checkpoint.every_minutes
        due = bool(every) and (self.state.step + 1) % (every or 1) == 0
        due |= bool(minutes) and time.monotonic() - self.saved_at > 60 * (minutes or 0)
        stop = bool(self.signals.received)
        total, without, stops, saves = distributed.all_sum(samples, samples == 0, stop, due)
        self.stop_due, self.save_due = stops > 0, saves > 0
        self.consistent = without > 0  # otherwise a step begins, which `after_step` ends
        return 0 if without else total

    def after_step(self) -> None:
        """Save if that is due; raise Stopped if a signal was received."""
        self.consistent = True
        if self.profiler:
            self.profiler.step()
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
        """At most `limit` batches of an evaluation; a signal saves and raises Stopped."""
        with signals_blocked():
            batches = islice(loader, limit)
        for batch in batches:
            if self.signals.received and distributed.world() == 1:
                self.save()
                self.stop()
            yield batch

    def draw(self, batch: Batch) -> None:
        """Save a picture of a training batch; a failure is a warning, and ends the pictures."""
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

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started, self.waited, self.samples = time.perf_counter(), 0.0, 0.0

    def fetch(self, loader: Iterable[Batch], skip: int, limit: int) -> Iterator[Batch]:
        """At most `limit` batches, after the first `skip`; times how long each one takes."""
        with signals_blocked():
            iterator = islice(loader, skip, min(skip + limit, sys.maxsize))
        began = time.perf_counter()
        for batch in iterator:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def line(self, step: int, figures: dict[str, float], learning_rate: float) -> str:
        """The figures, samples a second over all processes, waiting, learning rate, memory."""
        seconds = time.perf_counter() - self.started
        parts = [f"step {step}", *(f"{name} {value:.4f}" for name, value in figures.items())]
        parts += [f"{self.samples / seconds:.0f}/s", f"wait {self.waited / seconds:.0%}"]
        parts += [f"lr {learning_rate:.1e}", f"{peak_memory(self.device) / 2**30:.1f} GiB"]
        self.started, self.waited, self.samples = time.perf_counter(), 0.0, 0.0
        return "  " + "  ".join(parts)


def profiler(run: Path) -> torch.profiler.profile:
    """A torch.profiler of a run's first steps, which prints a table and writes a trace."""

    def write(profiled: torch.profiler.profile) -> None:
        trace = run / f"trace-{distributed.rank()}.json"
        try:
            profiled.export_chrome_trace(str(trace))
        except (OSError, RuntimeError) as error:
            log(f"warning: {trace}: cannot be written ({error})")
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        log(profiled.key_averages().table(sort_by=order, row_limit=15))
        log(f"the trace: {trace}, for chrome://tracing or ui.perfetto.dev")

    plan = torch.profiler.schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
    return torch.profiler.profile(schedule=plan, on_trace_ready=write)
