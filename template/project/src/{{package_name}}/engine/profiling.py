"""Where the time of a step goes: a table, and a trace to look at in a browser."""

from contextlib import ExitStack
from pathlib import Path

import torch

from . import distributed
from .progress import log

WAIT, WARMUP, ACTIVE = 3, 2, 10  # steps: passed over, run with the profiler, and written down


class Profiler:
    """Watches some steps of a run with torch.profiler; without a folder it does nothing."""

    def __init__(self, run: Path | None) -> None:
        self.run, self.steps, self.stack = run, 0, ExitStack()

    def __enter__(self) -> None:
        if self.run is None:
            return
        from torch.profiler import ProfilerActivity, profile, schedule

        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        plan = schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
        watch = profile(activities=kinds, schedule=plan, on_trace_ready=self._write)
        self.profile = self.stack.enter_context(watch)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.stack.close()
        if self.run and not kind and self.steps < WAIT + WARMUP + 1:
            log(f"--profile: wants more than {WAIT + WARMUP} steps, and there were {self.steps}")

    def step(self) -> None:
        """Say that a step is done."""
        self.steps += 1
        if self.run:
            self.profile.step()

    def _write(self, profile: "torch.profiler.profile") -> None:
        assert self.run is not None
        trace = self.run / f"trace-{distributed.rank()}.json"
        try:
            profile.export_chrome_trace(str(trace))
        except (OSError, RuntimeError) as error:
            log(f"warning: {trace}: cannot be written ({error})")
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        log(profile.key_averages().table(sort_by=order, row_limit=15))
        log(f"the trace: {trace}, for chrome://tracing or ui.perfetto.dev")
