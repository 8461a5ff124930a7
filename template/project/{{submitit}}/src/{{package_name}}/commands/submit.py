"""The command `submit`: run a sweep as Slurm jobs, through submitit."""

import argparse
import importlib
from typing import Any

from ..errors import UserError
from . import sweep
from ._plan import kind_of


class Job:
    """One process of the sweep. submitit pickles it and calls it on a node."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    def __call__(self) -> None:
        from ..cli import main

        if code := main(["sweep", *self.arguments]):
            raise RuntimeError(f"exit status {code}; the job's output has the reason")

    def checkpoint(self) -> Any:
        """Requeue the job at its time limit; the trial then resumes from its checkpoint."""
        return importlib.import_module("submitit").helpers.DelayedSubmission(self)


def submit(args: argparse.Namespace) -> None:
    """Run a sweep as jobs on a cluster."""
    from ._trials import Grid, Study

    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise UserError("submit needs submitit: run pip install 'submitit>=1.5.2'") from None
    plan = sweep.plan(args)  # so that errors are printed here, not in a job
    names = ("space", "trials", "study", "storage", "seeds", "folds")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    arguments = [*args.settings, *(f"--{name}={value}" for name, value in given.items())]
    arguments += ["--grid"] if args.grid else []
    kind = kind_of(args)
    more = dict(text.split("=", 1) for text in args.slurm if "=" in text)
    if len(more) < len(args.slurm):
        raise UserError(f"--slurm {' '.join(args.slurm)}: write each as KEY=VALUE, once")
    if args.cluster == "slurm" and kind == "sweep" and not plan.sweep.storage:
        advice = "set --storage checkpoints/trials.log, a journal"
        raise UserError(f"sweep.storage: several nodes can't share SQLite's file; {advice}")
    (Study if kind == "sweep" else Grid)(plan)
    try:
        executor = submitit.AutoExecutor(plan.folder / "jobs", cluster=args.cluster)
        executor.update_parameters(
            name=plan.folder.name,
            timeout_min=args.minutes,
            cpus_per_task=args.cpus,
            gpus_per_node=args.gpus or None,
            stderr_to_stdout=True,
            slurm_partition=args.partition,
            slurm_additional_parameters=more,
        )
        with executor.batch():
            jobs = [executor.submit(Job(arguments)) for _ in range(args.jobs)]
    except RuntimeError as error:  # no Slurm, or an error of sbatch
        raise UserError(f"{args.cluster}: {error}") from error
    for job in jobs:
        print(f"job {job.job_id}: {job.paths.stdout}")


def add_to(add: Any) -> None:
    text = "config files and section.key=value, as for sweep"
    sub = add(submit, settings={"nargs": "*", "metavar": "SETTING", "help": text})
    sweep.options_of(sub)
    sub.add_argument("--jobs", type=int, default=1, help="number of jobs (1)")
    sub.add_argument("--cluster", default="slurm", choices=["slurm", "local"], help="(slurm)")
    sub.add_argument("--partition", help="Slurm partition")
    sub.add_argument("--minutes", type=int, default=60, help="time limit, then a requeue (60)")
    sub.add_argument("--cpus", type=int, default=4, help="CPU cores per job (4)")
    sub.add_argument("--gpus", type=int, default=0, help="GPUs per job, 0 or 1 (0)")
    slurm = "another option of sbatch; repeatable"
    sub.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=slurm)
