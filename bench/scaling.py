"""Samples per second of one process and of two that share each batch, on the CPU with gloo.

    .venv/bin/python bench/scaling.py [ROUNDS]

Whole training runs with the same samples in each step. The speed is that of the median epoch after the first, from
`metrics.csv`: it includes reading the images, but not validation. This shows whether a second process helps; two
shared cores say little about more processes or GPUs.
"""

import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path

import peers

SAMPLES = 64  # of a step, over all processes
EPOCHS = 4
TWO = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
CONTENDERS = {
    "1 process": [],
    "2 processes, ddp": ["distributed.strategy=ddp"],
    "2 processes, fsdp": ["distributed.strategy=fsdp"],
}


def speed(project: Path, name: str) -> float:
    """Samples per second of one training."""
    run, settings = f"scaling-{time.time_ns()}", CONTENDERS[name]
    share = SAMPLES // (2 if settings else 1)
    settings = [*settings, f"run.name={run}", f"train.epochs={EPOCHS}", f"data.batch_size={share}", "run.device=cpu"]
    peers.run(project, *(TWO if CONTENDERS[name] else []), "-m", "my_project", "train", "configs/train.yaml", *settings)
    with open(project / "checkpoints" / run / "metrics.csv", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert len(seconds) == EPOCHS
    images = sum(1 for _ in (project / "data" / "train").glob("*/*.png"))
    return images / statistics.median(seconds[1:])


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = peers.render(Path(folder) / "project", "--data=extras=[fsdp]")
        times = [{name: speed(project, name) for name in order} for order in peers.rotated(list(CONTENDERS), rounds)]
    print(peers.environment() + ", gloo\n")
    columns = [{name: row[name] for name in CONTENDERS} for row in times]
    print(peers.table(f"training, {SAMPLES} samples a step", "samples/s", columns, "1 process"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
