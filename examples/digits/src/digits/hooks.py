"""Your hooks: any class here can be named under `train.hooks`, with its arguments.

docs/api.md lists the events; a hook has a method `on_<event>` for each one that it handles.
"""

from typing import Any

import torch
from torch.profiler import profile, schedule

from .engine.distributed import log, rank


class Profiler:
    """Profiles some steps: prints the slowest operations, and writes a trace (`--profile`)."""

    all_ranks = True  # otherwise only rank 0 has the hook

    def on_start(self, session: Any) -> None:
        plan = schedule(wait=3, warmup=2, active=10, repeat=1)
        self.run, self.profile = session.run, profile(schedule=plan, on_trace_ready=self.write)
        self.profile.start()

    def on_step(self, session: Any) -> None:
        self.profile.step()

    def on_end(self, session: Any, error: object = None) -> None:
        self.profile.stop()

    on_exception = on_end

    def write(self, profiled: profile) -> None:
        trace = self.run / f"trace-{rank()}.json"
        profiled.export_chrome_trace(str(trace))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        log(profiled.key_averages().table(sort_by=order, row_limit=15))
        log(f"the trace: {trace}, for chrome://tracing or ui.perfetto.dev")
