import json
from pathlib import Path
from typing import Any

import pytest
from conftest import PICTURES, check

from digits.cli import main
from digits.engine import checkpoint
from digits.options import Config


@pytest.fixture
def runs(settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Options that name a folder with one trained run."""
    assert main(["train", *settings, "train.epochs=4", "train.ema=0.5"]) == 0
    capsys.readouterr()
    return ["--checkpoints", str(tmp_path / "checkpoints"), "--json"]


def test_the_best_checkpoint_gives_its_metrics_again(
    runs: list[str], config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = f"run.images={tmp_path / 'images'}"
    assert main(["test", *runs, "--split", "valid", images]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    best = checkpoint.load(Path(result["checkpoint"]))["best"]
    found = result[config.checkpoint.monitor], result["loss"]
    assert found == pytest.approx((best["value"], best["loss"]), rel=1e-6)
    made = {path.name for path in (tmp_path / "images" / "result").iterdir()}
    assert made == {"curves.png", *PICTURES}


def test_new_inputs_are_predicted(
    runs: list[str], inputs: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *runs, *inputs]) == 0
    predictions = json.loads(capsys.readouterr().out)
    assert len(predictions) == sum(inputs.values())
    for prediction in predictions:
        check(prediction)
