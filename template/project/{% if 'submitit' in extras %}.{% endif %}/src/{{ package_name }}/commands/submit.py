"""The command `submit`: a sweep as jobs of a Slurm cluster, started by submitit."""

import argparse
import importlib
import signal
import subprocess
import sys
import time
from typing import Any

from ..errors import UserError
from . import sweep


class Worker:
    """A job: a process of the sweep. Pickled by submitit, which runs it on a node."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        # The signal that the time is nearly up is for this process, which passes on another one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        self.process = subprocess.Popen(self.command)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        if code := self.wait():
            raise RuntimeError(f"exit status {code}; what it printed says why")

    def wait(self) -> int:
        while (code := self.process.poll()) is None:  # wait() can't be called in a handler too
            time.sleep(0.2)
        return code

    def checkpoint(self) -> Any:
        """Let the trial save its state; the job then goes back into the queue."""
        self.process.send_signal(signal.SIGTERM)
        self.wait()
        return importlib.import_module("submitit").helpers.DelayedSubmission(Worker(self.command))


def submit(args: argparse.Namespace) -> None:
    """Start a sweep as jobs of a cluster."""
    from ._trials import Grid, Study

    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise UserError("submit needs submitit: pip install 'submitit>=1.5.2'") from None
    plan = sweep.plan(args)  # what is wrong is told here, not in a job
    (Grid if args.grid else Study)(plan).begin()
    command = [sys.executable, "-m", __package__.partition(".")[0], "sweep", *args.settings]
    for name in ("space", "trials", "study", "storage"):
        command += [f"--{name}={getattr(args, name)}"] if getattr(args, name) is not None else []
    command += ["--grid"] if args.grid else []
    more = dict(text.split("=", 1) for text in args.slurm if "=" in text)
    if len(more) < len(args.slurm):
        raise UserError(f"--slurm {' '.join(args.slurm)}: give each as KEY=VALUE")
    try:
        executor = submitit.AutoExecutor(plan.folder / "jobs", cluster=args.cluster)
        executor.update_parameters(
            name=plan.folder.name,
            timeout_min=args.minutes,
            cpus_per_task=args.cpus,
            gpus_per_node=args.gpus or None,
            stderr_to_stdout=True,
            slurm_partition=args.partition,
            slurm_signal_delay_s=120,  # to end a step and save its state
            slurm_additional_parameters=more,
        )
        with executor.batch():
            jobs = [executor.submit(Worker(command)) for _ in range(args.jobs)]
    except RuntimeError as error:  # there is no Slurm, or it refuses
        raise UserError(f"{args.cluster}: {error}") from error
    for job in jobs:
        print(f"job {job.job_id}: {job.paths.stdout}")


def add_to(add: Any) -> None:
    text = "as for sweep"
    sub = add(submit, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    sweep.options_of(sub)
    sub.add_argument("--jobs", type=int, default=1, help="how many work on it at a time (1)")
    sub.add_argument("--cluster", default="slurm", choices=["slurm", "local"], help="(slurm)")
    sub.add_argument("--partition", help="of the cluster")
    sub.add_argument("--minutes", type=int, default=60, help="of a job, which is requeued (60)")
    sub.add_argument("--cpus", type=int, default=4, help="cores of a job (4)")
    sub.add_argument("--gpus", type=int, default=0, help="GPUs of a job, 0 or 1 (0)")
    slurm = "any other option of sbatch; may be given again"
    sub.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=slurm)
