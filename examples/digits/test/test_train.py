import csv
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import COMPONENTS, EXACT

from digits.cli import main
from digits.config import load
from digits.engine import checkpoint, loop
from digits.engine.loop import train
from digits.engine.state import State
from digits.options import Config


def test_the_loss_goes_down_and_the_run_is_recorded(config: Config, tmp_path: Path) -> None:
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 6})})
    run = tmp_path / "run"
    state = train(config, run)
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert {path.name for path in run.glob("*.pt")} == {"last.pt", state.best_file}
    assert load(Config, [run / "config.yaml"]) == config
    assert list((tmp_path / "images" / "loader").iterdir())


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.workers=2", "model.args.dropout=0.5", "train.ema=0.9", *EXACT],
        ["train.accumulate=2", "optimizer.decay_all=false", "checkpoint.background=true"],
        ["train.precision=fp16", "scheduler.name=OneCycleLR", "scheduler.args.max_lr=0.01"],
        ["train.precision=bf16", "train.channels_last=true", "checkpoint.every_steps=1"],
    ],
)
def test_a_resumed_run_ends_as_one_that_never_stopped(
    overrides: list[str], settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings += ["data.batch_size=4", *overrides]
    assert main(["train", *settings, "run.name=whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", terminated_at(2))
        assert main(["train", *settings, "run.name=stopped"]) == 75
    runs = tmp_path / "checkpoints"
    assert 0 < checkpoint.load(runs / "stopped/last.pt")["under_way"]["batches"] < 6
    assert main(["train", "--checkpoints", str(runs), "--resume"]) == 0
    whole, stopped = (checkpoint.load(runs / name / "last.pt") for name in ("whole", "stopped"))
    for key in ("model", "ema", "optimizer", "scaler"):
        torch.testing.assert_close(whole[key], stopped[key], rtol=0, atol=0)
    assert torch.equal(whole["rng"][0], stopped["rng"][0])
    assert all(whole[key] == stopped[key] for key in ("scheduler", "epoch", "step", "best"))
    tables = [(runs / name / "metrics.csv").read_text().split() for name in ("whole", "stopped")]
    for row, same in zip(*tables, strict=True):
        assert row.rpartition(",")[0] == same.rpartition(",")[0]  # all but the seconds


def terminated_at(step: int) -> Callable[..., float]:
    """A `train_step` that receives SIGTERM at the given step, as from a cluster."""

    def train_step(state: State, *others: Any) -> float:
        if state.step == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return one_step(state, *others)

    one_step = loop.train_step
    return train_step


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.name=SGD", "scheduler.name=StepLR", "scheduler.args.step_size=1"],
        ["optimizer.name=Lion", "optimizer.lr=0.0003", "train.grad_clip=null"],
        ["scheduler.name=ReduceLROnPlateau", "checkpoint.monitor=loss"],
        *COMPONENTS,
    ],
)
def test_components_of_torch_and_our_own_train_by_name(
    overrides: list[str], settings: list[str], tmp_path: Path
) -> None:
    assert main(["train", *settings, *overrides]) == 0
    assert checkpoint.find("a-run", tmp_path / "checkpoints").is_file()
