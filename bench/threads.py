"""Duration of a training for several ways in which CPU threads wait for each other, on an idle and on a busy machine.

    .venv/bin/python bench/threads.py [ROUNDS]

Whole processes on all cores, in an order that changes from round to round, after one warm-up. On the busy machine,
as many endless loops as there are cores run beside the training.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peers

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"image_classification": ["train.epochs=3"], "language_modeling": ["train.epochs=1", "train.limit_batches=60"]}
WAYS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "the default": {},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin": {"OMP_WAIT_POLICY": "ACTIVE"},
}


@contextmanager
def load(count: int) -> Iterator[None]:
    """Run this many processes with an endless loop."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds(project: Path, settings: list[str], way: dict[str, str]) -> float:
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"PYTHONPATH": str(project / "src"), **way}
    command = [sys.executable, "-m", "my_project", "train", *settings]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for kind, settings in RUNS.items():
            project = Path(folder, kind)
            copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", "--data", f"data_kind={kind}"]
            subprocess.run([sys.executable, "-W", "ignore", "-m", *copy, str(ROOT), str(project)], check=True)
            seconds(project, settings, {})
            for state, others in (("idle", 0), ("busy", cores)):
                with load(others):
                    rows = [
                        {name: seconds(project, settings, WAYS[name]) for name in order}
                        for order in peers.rotated(list(WAYS), rounds)
                    ]
                columns = [{name: row[name] for name in WAYS} for row in rows]
                print(peers.table(f"{kind}, {state}, {cores} cores", "s", columns, "one thread") + "\n", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
