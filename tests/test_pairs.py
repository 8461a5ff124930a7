"""Every pair of the engine's features, trained in a tiny task and compared with a loop written by hand (tiny.py)."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import Render, in_project

pytestmark = pytest.mark.slow

TINY = Path(__file__).with_name("tiny.py")
FACTORS: dict[str, list[Any]] = {
    "precision": ["fp32", "bf16", "fp16"],
    "ema": [None, 0.5],
    "accumulate": [1, 2, 4],
    "clip": [None, 0.5],
    "scheduler": ["cosine", "steps", "plateau"],
    "every": ["step", "epoch"],
    "by": ["epochs", "steps"],
    "workers": [0, 2],
    "resume": ["never", "in an epoch", "in the last step"],
    "mode": ["min", "max"],
    "loss": ["CrossEntropyLoss", "Learned"],
    "decay_all": [True, False],
    "compile": [False],
    "strategy": ["one"],
}
SLOW: dict[str, list[Any]] = {"compile": [False, True], "strategy": ["one", "ddp", "fsdp"]}
Row = dict[str, Any]


def pairs_of(row: Row) -> set[tuple[Any, ...]]:
    return set(itertools.combinations(row.items(), 2))


def covering(factors: dict[str, list[Any]], seed: int = 0) -> list[Row]:
    """Rows that cover each pair of values, found greedily: the best of some random rows, until no pair is left."""
    rng = random.Random(seed)
    names = list(factors)
    left = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]}
    rows: list[Row] = []
    while left:
        candidates = []
        for _ in range(40):
            (a, x), (b, y) = rng.choice(sorted(left, key=repr))
            row = {name: rng.choice(values) for name, values in factors.items()} | {a: x, b: y}
            candidates.append(row)
        rows.append(max(candidates, key=lambda row: len(pairs_of(row) & left)))
        left -= pairs_of(rows[-1])
    return rows


ROWS = covering(FACTORS)
# Three at once: only here does the schedule's length depend on the last, incomplete group of an epoch.
ROWS.append(ROWS[0] | {"precision": "fp32", "accumulate": 4, "scheduler": "cosine", "every": "step", "by": "epochs"})
ALL = [row for row in covering(FACTORS | SLOW) if row["compile"] or row["strategy"] != "one"]


def name(row: Row) -> str:
    return "-".join(str(value) for value in row.values()).replace(" ", "_")


def test_the_table_covers_every_pair() -> None:
    held = set().union(*map(pairs_of, ROWS))
    values = [len(values) for values in FACTORS.values()]
    assert len(held) == sum(a * b for a, b in itertools.combinations(values, 2))


@pytest.fixture(scope="module")
def found(render: Render) -> dict[str, str]:
    """The error of each row, empty if there is none; one process trains all rows."""
    done = in_project(render(), TINY, json.dumps(ROWS))
    return dict(zip(map(name, ROWS), json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("row", [name(row) for row in ROWS])
def test_a_pair_of_features_trains_like_a_loop_by_hand(row: str, found: dict[str, str]) -> None:
    assert not found[row]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_model_and_loss_like_a_loop_by_hand(strategy: str, render: Render, tmp_path: Path) -> None:
    row = ROWS[0] | {"precision": "fp32", "loss": "Learned", "accumulate": 2, "clip": 0.5, "strategy": strategy}
    assert trained(render(extras="fsdp"), row, tmp_path) == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", ALL, ids=name)
def test_it_also_holds_compiled_and_in_two_processes(row: Row, render: Render, tmp_path: Path) -> None:
    assert trained(render(extras="fsdp"), row, tmp_path) == ""


def trained(project: Path, row: Row, runs: Path) -> str:
    """The error of a row, empty if there is none."""
    launch: list[str | Path] = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
    command = [*([] if row["strategy"] == "one" else launch), TINY, json.dumps([row])]
    done = in_project(project, *command, cold=row["compile"], RUNS=str(runs))
    wrong: list[str] = json.loads(done.stdout.splitlines()[-1])
    return wrong[0]
