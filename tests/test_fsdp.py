"""The extra `fsdp`: what a project without it says, what an update does, and what FSDP does beside other features."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import Render, copy, in_project, save, unmerged, update

pytestmark = pytest.mark.slow

TRAIN = ["-m", "my_project", "train"]
TWO = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
FSDP = "distributed.strategy=fsdp"
QUICK = ["run.device=cpu", "model.args.width=4", "train.limit_batches=4", "train.epochs=1"]
SHARDED = "src/my_project/engine/sharded.py"


@pytest.fixture(scope="module")
def project(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the extra, and a run `split` of two processes."""
    project = shutil.copytree(render(extras="fsdp"), tmp_path_factory.mktemp("fsdp") / "project")
    in_project(project, *TWO, *TRAIN, *QUICK, FSDP, "run.name=split")
    return project


def test_without_the_extra_training_and_checkpoints_name_it(render: Render, project: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(render(), tmp_path / "project")
    shutil.copytree(project / "checkpoints/split", plain / "checkpoints/split")
    needs = "needs extras=fsdp (docs/updating.md)"
    shards = f"a checkpoint in shards {needs}"
    for words, said in [
        ([*TRAIN, "--smoke", FSDP], f"error: distributed.strategy: fsdp {needs}"),
        (["-m", "my_project", "test", "split"], f"error: checkpoints/split/last.pt: {shards}"),
        ([*TRAIN, "--resume", "split", "train.epochs=2"], f"error: checkpoints/split/last.pt: {shards}"),
    ]:
        done = in_project(plain, *words, ok=False)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, said)
    done = in_project(plain, *TWO, *TRAIN, *QUICK, FSDP, ok=False)
    assert f"distributed.strategy: fsdp {needs}" in done.stderr


def test_a_run_at_the_end_of_an_epoch_changes_to_fsdp_and_back(project: Path) -> None:
    """Its next save is at the same step, whose tensors are not in shards yet."""
    image = sorted((project / "data/valid").glob("*/*.png"))[0]
    whole = image.read_bytes()
    image.write_bytes(b"")
    words = [*TRAIN, *QUICK, "run.name=changed", "train.ema=0.5", "checkpoint.every_steps=4", "checkpoint.keep=1"]
    assert in_project(project, *words, ok=False).returncode == 2
    image.write_bytes(whole)
    run = project / "checkpoints/changed"
    assert torch.load(run / "last.pt", weights_only=True)["under_way"]["batches"] == 4
    in_project(project, *TWO, *TRAIN, "--resume", run, FSDP)
    assert torch.load(run / "last.pt", weights_only=True)["shards"] == "shards-00000004"
    in_project(project, *TRAIN, "--resume", run, "distributed.strategy=ddp", "train.epochs=3")
    saved = torch.load(run / "last.pt", weights_only=True)
    left = {path.name for path in run.glob("shards-*")}
    best = torch.load(run / saved["best"]["file"], weights_only=True)
    assert left == ({best["shards"]} if "shards" in best else set()), "unused shards are removed"


def test_an_update_takes_sharded_away_unless_the_extra_is_added(
    template: Path, releases: list[str], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    copy(template, old, releases[-1])
    save(old)
    in_project(old, *TWO, *TRAIN, *QUICK, FSDP, "run.name=split", "train.ema=0.5")
    edited, line = tmp_path / "edited", "\n# mine\n"
    shutil.copytree(old, edited)
    with (edited / SHARDED).open("a") as file:
        file.write(line)
    save(edited, "mine")
    for project, extras in [(old, ""), (edited, ""), (edited, "runs fsdp")]:
        folder = tmp_path / f"{project.name}-{extras or 'without'}"
        shutil.copytree(project, folder)
        if not extras:
            update(folder, ok=project is old)
            assert unmerged(folder) == ([SHARDED] if project is edited else [])
            assert (folder / SHARDED).exists() == (project is edited)
            continue
        update(folder, extras=extras)
        assert unmerged(folder) == []
        assert (folder / SHARDED).read_text().endswith(line)
        in_project(folder, "-m", "my_project", "test", "split")
        in_project(folder, *TWO, *TRAIN, "--resume", "split", "train.epochs=2")
        assert torch.load(folder / "checkpoints/split/last.pt", weights_only=True)["epoch"] == 2
