"""The extra `pretrained` together with other features: frozen parts stay the same, whatever trains the rest."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import copy, in_project

pytestmark = pytest.mark.slow

QUICK = ["train.epochs=2", "train.limit_batches=2", "model.args.width=4", "run.device=cpu"]
TUNED = ["model.weights=checkpoints/base", 'model.freeze=["features.*"]']
TWO = ["-m", "my_project.engine.launch", "--nproc-per-node=2", "-m", "my_project", "train"]


@pytest.fixture(scope="module")
def base(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run, `base`, to start from."""
    folder = tmp_path_factory.mktemp("pretrained") / "project"
    copy(template, folder, extras="pretrained fsdp")
    in_project(folder, "-m", "my_project", "train", *QUICK, "run.name=base")
    return folder


@pytest.mark.parametrize(
    ("start", "others"),
    [
        (["-m", "my_project", "train"], ["train.ema=0.9"]),
        (TWO, []),
        (TWO, ["distributed.strategy=fsdp"]),
    ],
    ids=["ema", "ddp", "fsdp"],
)
def test_what_is_frozen_stays_in_every_kind_of_run_and_after_a_resume(
    base: Path, start: list[str], others: list[str], request: pytest.FixtureRequest
) -> None:
    name = f"run.name={request.node.callspec.id}"
    in_project(base, *start, *QUICK, *TUNED, name, *others)
    run = base / "checkpoints" / request.node.callspec.id
    in_project(base, *start, "--resume", str(run), "train.epochs=3")
    before = torch.load(next((base / "checkpoints/base").glob("cnn-*.pt")), weights_only=True)["model"]
    after = tensors(run)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """The weights that are evaluated, of a checkpoint in one file or in shards."""
    saved = torch.load(run / "last.pt", weights_only=True)
    if "shards" not in saved:
        found: dict[str, torch.Tensor] = saved["ema"] or saved["model"]
        return found
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(run / saved["shards"], run / "whole.pt")
    whole: dict[str, torch.Tensor] = torch.load(run / "whole.pt", weights_only=True)["model"]
    return whole


def test_classes_that_are_not_those_of_the_run_are_a_warning(base: Path) -> None:
    """Their number is the same, so the head of the run fits. With the same classes, there is no warning."""
    start = ["-m", "my_project", "train", *QUICK, "train.epochs=1", "model.weights=checkpoints/base"]
    said = "warning: model.weights: that run's data had other classes; see docs/pretrained.md, Another data set"
    assert said not in in_project(base, *start, "run.name=same").stdout
    shutil.copytree(base / "data", base / "other", ignore=shutil.ignore_patterns("sample.zip"))
    for split in ("train", "valid"):
        (base / "other" / split / "7").rename(base / "other" / split / "seven")
    assert said in in_project(base, *start, "run.name=other", "data.folder=other").stdout.splitlines()


def test_without_the_extra_the_options_name_it(project: Path) -> None:
    for option in ("model.weights=x.pt", 'model.freeze=["head.*"]'):
        done = in_project(project, "-m", "my_project", "train", "--smoke", option, ok=False)
        assert done.returncode == 2
        line = "error: model: weights and freeze need extras=pretrained (docs/updating.md)"
        assert done.stderr.splitlines()[-1] == line
