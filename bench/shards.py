"""Rows per second and memory of the extra `shards`, compared with a loop over the same Parquet files by hand.

    .venv/bin/python bench/shards.py [ROUNDS]

Files of 1 and of 10 million rows, with 8 numbers and a class each, in row groups of 50,000. The project gives batches
in a new order each epoch; the loop by hand reads them in the order of the files, with pyarrow and one thread. Each
contender is a separate process that reads all rows once, in an order that changes from round to round.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH, GROUP, COLUMNS = 256, 50_000, [*(f"x{number}" for number in range(8)), "class"]
MILLIONS = (1, 10)


def main(rounds: int) -> None:
    import peers  # not for the contenders: see peers.run

    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        copy = ["copy", "--defaults", "--quiet", "--vcs-ref=HEAD", "--data=data_kind=tabular", "--data=extras=[shards]"]
        subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "copier", *copy, str(peers.ROOT), str(project)], check=True
        )
        for millions in MILLIONS:
            write(Path(folder) / str(millions), millions)
        found: dict[str, list[dict[str, float]]] = {"rows/s": [], "MiB": []}
        names = [f"{name}, {millions} million rows" for millions in MILLIONS for name in CONTENDERS]
        for order in peers.rotated(names, rounds):
            row = {name: measured(project, Path(folder), name) for name in order}
            for place, columns in enumerate(found.values()):
                columns.append({name: row[name][place] for name in names})
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pyarrow")))
    for unit, columns in found.items():
        print("\n" + peers.table(f"batches of {BATCH} rows", unit, columns, names[0]))


def write(folder: Path, millions: int) -> None:
    """Write files of a million rows."""
    import numpy as np

    pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    folder.mkdir()
    for number in range(millions):
        rng = np.random.default_rng(number)
        columns: dict[str, Any] = {name: rng.normal(size=10**6).astype(np.float32) for name in COLUMNS[:-1]}
        columns["class"] = rng.integers(10, size=10**6)
        parquet.write_table(pa.table(columns), folder / f"{number:02d}.parquet", row_group_size=GROUP)


def measured(project: Path, folder: Path, name: str) -> list[float]:
    """Rows per second and peak memory, measured in a new process."""
    contender, _, size = name.partition(", ")
    files = folder / size.split()[0]
    command = [sys.executable, str(Path(__file__).resolve()), "--contender", contender, str(files)]
    environment = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True, text=True)
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def contend(name: str, folder: Path) -> None:
    """Run one contender in this process; the last line of its output is the result."""
    import resource

    files = sorted(folder.glob("*.parquet"))
    batches = CONTENDERS[name](files)
    next(batches)
    start = time.perf_counter()
    rows = sum(len(targets) for _, targets in batches)
    seconds = time.perf_counter() - start
    print(json.dumps([rows / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def decode(columns: Any) -> Any:
    """A batch: inputs (N, 8) and targets (N,)."""
    import numpy as np
    import torch

    inputs = np.stack([columns[name] for name in COLUMNS[:-1]], axis=1)
    return torch.from_numpy(inputs), torch.from_numpy(columns["class"])


def by_hand(files: list[Path]) -> Iterator[Any]:
    """pyarrow's batches, in the order of the files."""
    import_module("torch")
    parquet: Any = import_module("pyarrow.parquet")
    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(BATCH, columns=COLUMNS, use_threads=False):
            yield decode({name: batch.column(name).to_numpy().copy() for name in COLUMNS})


def ours(files: list[Path]) -> Iterator[Any]:
    """`shard_loader`, without workers."""
    shards, config = import_module("my_project.engine.shards"), import_module("my_project.config")
    options = import_module("my_project.options").Config
    rows = shards.Parquet(files, COLUMNS, decode)
    loaded = config.load(options, ["configs/train.yaml"], [f"data.batch_size={BATCH}"])
    yield from shards.shard_loader(rows, rows.sizes, loaded, True, shards.identity)


CONTENDERS = {"by hand": by_hand, "the project": ours}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
