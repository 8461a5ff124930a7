"""Response time of a project's command line, compared with an empty Python.

    .venv/bin/python bench/cli.py [ROUNDS]

Measures whole processes in turn, after one warm-up of each.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MISTAKES = ["optimizer.lr=fast", "trian.epochs=3", "model.nme=cnn"]
COMMANDS = {
    "python -c ''": ["-c", ""],
    "--help": ["-m", "my_project", "--help"],
    "three mistakes": ["-m", "my_project", "train", "configs/train.yaml", *MISTAKES],
}


def seconds(arguments: list[str], project: Path) -> float:
    """The time of one process."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    done = subprocess.run([sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    taken = time.perf_counter() - start
    assert done.stderr.count("error: ") == sum(mistake in arguments for mistake in MISTAKES), done.stderr
    return taken


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", str(ROOT), str(project)]
        subprocess.run([sys.executable, "-W", "ignore", "-m", *copy], check=True)
        for arguments in COMMANDS.values():
            seconds(arguments, project)
        times = [[seconds(arguments, project) for arguments in COMMANDS.values()] for _ in range(rounds)]
    for name, column in zip(COMMANDS, zip(*times, strict=True), strict=True):
        print(
            f"{name:<16}{statistics.median(column):.2f} s (median of {rounds}; {min(column):.2f} to {max(column):.2f})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
