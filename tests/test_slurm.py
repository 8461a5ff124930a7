"""`scripts/slurm.sh` without Slurm: stand-ins for its commands behave as described in its manual and sources.

Slurm signals the tasks of a job, not the batch script. By default (`SignalChildrenProcesses=no` in cgroup.conf), it
signals only the processes that srun itself started; otherwise their children too.
"""

import csv
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Render, of_the_day

pytestmark = pytest.mark.slow

SRUN = """#!/usr/bin/env bash
# Starts --ntasks tasks and returns the highest exit status; $SIGNALED selects which processes are signaled.
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && count=${1#*=}
    echo "$1" >> "$LOG/srun" && shift
done
family() { for child in $(cat /proc/"$1"/task/*/children); do family "$child"; done; echo "$1"; }
pass_on() {
    local task
    for task in "${tasks[@]}"; do
        if [ "$SIGNALED" = tasks ]; then kill -USR1 "$task"; else kill -USR1 $(family "$task"); fi
        sleep 0.2 # nodes get the signal at different times
    done
}
trap pass_on USR1
for ((i = 0; i < count; i++)); do SLURM_NODEID=$i "$@" & tasks+=($!); done
echo $$ > "$LOG/srun.pid"
highest=0
for task in "${tasks[@]}"; do
    while kill -0 "$task" 2> /dev/null; do wait "$task"; done # a signal interrupts wait
    wait "$task"
    status=$?
    [ $status -le $highest ] || highest=$status
done
exit $highest
"""

SCONTROL = """#!/usr/bin/env bash
case "$*" in
    "show hostnames "*) for ((i = 0; i < SLURM_JOB_NUM_NODES; i++)); do echo localhost; done ;;
    *) echo "$*" >> "$LOG/scontrol" ;;
esac
"""
COUNT = itertools.count()


class Job:
    """A job of a cluster; `start` it again when it is requeued."""

    def __init__(self, project: Path, folder: Path, *arguments: str, **variables: str) -> None:
        self.project, self.log, self.starts, self.arguments = project, folder / "log", 0, arguments
        self.log.mkdir()
        commands = folder / "bin"
        commands.mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        self.spooled = folder / "spool" / "slurm_script"  # sbatch copies the script
        self.spooled.parent.mkdir()
        shutil.copy(project / "scripts" / "slurm.sh", self.spooled)
        self.variables = os.environ | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": str(project / "src"),
            "LOG": str(self.log),
            "SIGNALED": "tasks",
            "SLURM_SUBMIT_DIR": str(project),
            "SLURM_JOB_ID": str(os.getpid() + 7 * next(COUNT)),  # gives the port, so no two jobs have the same
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "node[1-9]",
            **variables,
        }

    def start(self) -> subprocess.Popen[str]:
        restarted = {"SLURM_RESTART_COUNT": str(self.starts)} if self.starts else {}
        self.starts += 1
        with open(self.log / "output", "a") as output:
            return subprocess.Popen(
                [self.spooled, *self.arguments],
                cwd=self.spooled.parent,
                env=self.variables | restarted,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def end(self, process: subprocess.Popen[str]) -> int:
        try:
            return process.wait(240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # torchrun stops its workers
            time.sleep(40)
            raise AssertionError(self.said("output")) from None

    def run(self) -> int:
        return self.end(self.start())

    def said(self, name: str) -> str:
        return (self.log / name).read_text() if (self.log / name).exists() else ""

    def wait_for(self, process: subprocess.Popen[str], pattern: str) -> None:
        last = time.monotonic() + 180
        while not re.search(pattern, self.said("output")):
            assert process.poll() is None, self.said("output")
            assert time.monotonic() < last, self.said("output")
            time.sleep(0.05)

    def checkpoint(self, run: str) -> dict[str, object]:
        contents = torch.load(self.project / "checkpoints" / run / "last.pt", weights_only=True)
        assert isinstance(contents, dict)
        return contents


QUICK = ["configs/train.yaml", "configs/debug.yaml", "run.device=cpu", "train.limit_batches=2"]


@pytest.fixture
def project(render: Render, tmp_path: Path) -> Path:
    path = tmp_path / "내 project"
    shutil.copytree(render(), path)
    return path


def test_a_job_trains_with_one_process_per_gpu(project: Path, tmp_path: Path) -> None:
    job = Job(project, tmp_path, *QUICK, SLURM_GPUS_ON_NODE="2", SLURM_CPUS_PER_TASK="3")
    assert job.run() == 0, job.said("output")
    assert "on 2 x cpu" in job.said("output")
    name = f"slurm-{job.variables['SLURM_JOB_ID']}"
    assert job.checkpoint(name)["epoch"] == 2
    assert {"--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--cpus-per-task=3"} < set(job.said("srun").split())
    assert job.said("scontrol") == ""

    (tmp_path / "longer").mkdir()
    longer = Job(project, tmp_path / "longer", f"run.name={name}", "train.epochs=3")
    assert longer.run() == 0, longer.said("output")
    assert "epoch 3/3" in longer.said("output")
    assert "epoch 2/3" not in longer.said("output")


@pytest.mark.parametrize(
    ("nodes", "gpus", "signaled"),
    of_the_day([(1, 2, "tasks"), (2, 1, "tasks"), (1, 2, "all")], 1),
)
def test_a_job_at_its_time_limit_saves_is_requeued_and_resumes(
    project: Path, python: Path, tmp_path: Path, nodes: int, gpus: int, signaled: str
) -> None:
    where = {"SLURM_JOB_NUM_NODES": str(nodes), "SLURM_GPUS_ON_NODE": str(gpus), "SIGNALED": signaled}
    if signaled == "tasks":  # torchrun itself is real; its workers are warm
        where["PYTHON_EXEC"] = str(python)
    job = Job(project, tmp_path, *QUICK, "run.name=a run", "train.epochs=40", **where)
    process = job.start()
    job.wait_for(process, r"epoch 2/40")
    os.kill(int(job.said("srun.pid")), signal.SIGUSR1)
    assert job.end(process) == 75, job.said("output")
    assert "stopped by SIGUSR1, saved at step" in job.said("output")
    assert job.said("scontrol") == f"requeue {job.variables['SLURM_JOB_ID']}\n"
    step = job.checkpoint("a run")["step"]
    assert isinstance(step, int)
    assert 4 <= step < 80

    config = project / "configs" / "train.yaml"  # which the owner keeps editing
    config.write_text(config.read_text().replace("lr: 0.003", "lr: 0.5"))
    assert job.run() == 0, job.said("output")
    assert job.checkpoint("a run")["step"] == 80
    with (project / "checkpoints" / "a run" / "metrics.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 41))
    assert job.said("output").count(" x cpu, threads: ") == 2
    assert job.said("output").count("epoch 1/40") == 1
    assert job.said("scontrol").count("requeue") == 1


def test_a_job_with_a_mistake_ends_with_2_and_is_not_requeued(project: Path, tmp_path: Path) -> None:
    job = Job(project, tmp_path, *QUICK, "checkpoint.monitor=beauty", SLURM_GPUS_ON_NODE="2")
    assert job.run() == 2, job.said("output")
    assert "no metric 'beauty'" in job.said("output")
    assert job.said("scontrol") == ""


def test_each_job_of_an_array_has_its_own_name_and_seed(project: Path, python: Path, tmp_path: Path) -> None:
    ids = {"PYTHON_EXEC": str(python), "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "7"}
    for place, given, name in (("own", [], "slurm-4711-7"), ("given", ["run.name=wide"], "wide-7")):
        (tmp_path / place).mkdir()
        job = Job(project, tmp_path / place, *QUICK, *given, "train.epochs=1", **ids)
        assert job.run() == 0, job.said("output")
        config = yaml.safe_load((project / "checkpoints" / name / "config.yaml").read_text())
        assert config["run"]["seed"] == 7
        assert config["run"]["name"] == name


def test_a_job_killed_before_its_first_checkpoint_starts_again(project: Path, tmp_path: Path) -> None:
    left = project / "own runs" / "a-run"
    left.mkdir(parents=True)
    (left / "config.yaml").write_text("run: {}\n")
    job = Job(project, tmp_path, *QUICK, "run.name=a-run", "run.checkpoints=own runs", "train.epochs=1")
    assert job.run() == 0, job.said("output")
    assert (left / "last.pt").is_file()


def test_a_job_in_a_wrong_folder_or_without_a_fixed_name_is_refused(project: Path, tmp_path: Path) -> None:
    job = Job(project, tmp_path, "run.name={model}-{date}")
    assert job.run() == 2
    assert job.said("output") == "error: {model}-{date}: a job needs a run.name without fields in braces\n"
    job.variables["SLURM_SUBMIT_DIR"] = str(project / "scripts")
    assert job.run() == 2
    assert job.said("output").endswith(f"error: {project / 'scripts'}: start sbatch in the project's folder\n")
    assert job.said("srun") == ""
