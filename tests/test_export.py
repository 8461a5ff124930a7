"""Exported models predict the same as the checkpoint, without it; a wrong export is not kept."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Render, git, in_project, of_the_day, save

QUICK = ["train.epochs=1", "train.limit_batches=2"]
# Models with growing texts, several outputs, several inputs; each project's own test exports its default model.
MODELS = {"language_modeling": "gru", "object_detection": "fcos", "tabular": "ft_transformer"}

# `run-exported` without the packages and modules for training.
WITHOUT = """
import importlib.util
import sys
from importlib.abc import MetaPathFinder

PACKAGES = {"matplotlib", "tqdm", "tensorboard", "onnx", "onnxscript", "safetensors", "faster_coco_eval"}
MODULES = ("my_project.model.", "my_project.engine.loop", "my_project.engine.checkpoint", "my_project.engine.session")

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in PACKAGES or name.startswith(MODULES) and not name.endswith(".utils"):
            raise ImportError(f"{name} is blocked")

real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] in PACKAGES else real(name, *rest)
sys.meta_path.insert(0, Missing())
from my_project.cli import main
sys.exit(main(["run-exported", *sys.argv[1:]]))
"""

MODEL = '''
"""Models that can't be exported."""

import random

from torch import Tensor, nn


class Odd(nn.Module):
    def __init__(self, in_features: int, num_classes: int, way: str) -> None:
        super().__init__()
        self.layer, self.way = nn.Linear(in_features, num_classes), way

    def forward(self, points: Tensor) -> Tensor:
        if self.way == "branch" and points.sum() > 0:
            points = -points
        return self.layer(points) * (random.random() if self.way == "chance" else 1)

    def merge(self, other: "Odd") -> None:
        """Of the owner: no export calls it."""
        raise AssertionError


def odd(in_features: int, num_classes: int, way: str, width: int = 0, dropout: float = 0.0) -> Odd:
    """A model of the owner."""
    return Odd(in_features, num_classes, way)
'''


def values(text: str) -> tuple[list[float], str]:
    """The predicted numbers, and the rest of the output."""
    numbers: list[float] = []

    def rest(value: Any) -> Any:
        if isinstance(value, float):
            numbers.append(value)
            return "a number"
        if isinstance(value, dict):
            return {key: rest(item) for key, item in value.items()}
        return [rest(item) for item in value] if isinstance(value, list) else value

    return numbers, json.dumps(rest(json.loads(text)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", of_the_day(MODELS, 1))
def test_an_exported_model_predicts_the_same_as_its_checkpoint(kind: str, render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="export", data_kind=kind), project)
    save(project)
    if changed := kind == "tabular":
        (project / "README.md").write_text("of mine\n")
    model = [f"model.name={MODELS[kind]}", "model.args={}", "loss.args={}", "run.name=a-run"]
    if kind == "language_modeling":
        model += ["data.context=32"]  # torch.export unrolls it
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", *QUICK, *model)
    said = in_project(project, "-m", "my_project", "run", "images/sample", "--json")
    done = in_project(project, "-m", "my_project", "export")
    assert done.stdout.count(": agrees with the model") == 6 - (kind == "language_modeling")
    assert not done.stderr
    folder = "exports/a-run"
    card = (project / folder / "MODEL_CARD.md").read_text()
    assert all(part in card for part in ("- valid: loss ", "- test: loss ", "- model.pt2 for inputs", "  lr: "))
    assert (", changed; Python" in card) == changed
    assert git("status", "--porcelain", cwd=project) == ("M README.md" if changed else "")
    shutil.rmtree(project / "checkpoints")
    shutil.rmtree(project / "data")
    found = in_project(project, "-c", WITHOUT, folder, "images/sample", "--json", cold=True)
    numbers, rest = values(said.stdout)
    same, others = values(found.stdout)
    assert others == rest
    assert same == pytest.approx(numbers, rel=1e-3, abs=1e-5)
    # torch.export unrolls nn.GRU, so its program accepts only one length, and the error says so.
    done = in_project(project, "-m", "my_project", "run-exported", folder, "images/sample", "--pt2", ok=False)
    refused = "model.pt2: refuses inputs" in done.stderr
    assert (done.returncode, refused) == ((2, True) if kind == "language_modeling" else (0, False))


@pytest.mark.slow
def test_a_warning_of_torch_about_its_own_buffers_is_not_shown(render: Render) -> None:
    """torch 2.11 warns when it reads a program; in the tests of a project, warnings are errors."""
    code = """if True:
        import types, warnings, torch
        from pathlib import Path
        from my_project.exported import open_pt2
        def load(path):
            warnings.warn("The given buffer is not writable, and PyTorch does not support non-writable tensors.")
            return types.SimpleNamespace(module=lambda check_guards: print)
        torch.export.load = load
        open_pt2(Path("model.pt2"))("read")
    """
    done = in_project(render(extras="export"), "-c", code)
    assert (done.stdout, done.stderr) == ("read\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "problem"), [("chance", "differs from the model by"), ("branch", "data-dependent")])
def test_a_failed_export_gives_the_reason_and_leaves_no_files(
    way: str, problem: str, render: Render, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="export", data_kind="custom"), project)
    (project / "src/my_project/model/odd.py").write_text(MODEL)
    model = ["model.name=odd", f"model.args={{way: {way}}}", "run.name=odd"]
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", *QUICK, *model)
    done = in_project(project, "-m", "my_project", "export", ok=False)
    *_, first, last = done.stderr.splitlines()  # torch may print the graph before these lines
    assert (done.returncode, problem in first) == (2, True), first
    assert last == "error: nothing is exported; see docs/export.md"
    assert list((project / "exports").iterdir()) == []


@pytest.mark.slow
def test_a_damaged_export_is_refused(render: Render, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(render(extras="export", data_kind="custom"), project)
    in_project(project, "-m", "my_project", "train", "configs/train.yaml", *QUICK, "run.name=a-run")
    same = "import os, sys, my_project.commands.export as e, my_project.cli as c; os.getpid = lambda: 7"
    kill = "e.fill = lambda *_: os._exit(9)"
    assert in_project(project, "-c", f"{same}; {kill}; c.main(['export'])", ok=False).returncode == 9
    old, running = (project / "exports" / f".a-run-{number}" for number in (8, 9))
    for left, age in ((old, 100_000), (running, 1000)):
        left.mkdir()
        os.utime(left, (time.time() - age,) * 2)
    again = f"{same}; sys.exit(c.main(['export', '--only', 'onnx']))"
    in_project(project, "-c", again)  # the killed export doesn't block it, even with the same process ID
    folder = project / "exports/a-run"
    assert {*folder.parent.iterdir()} == {folder, running}
    for file, content in {"model.onnx": b"\x08\x07", "config.yaml": b"model: {name: mlp", "export.json": b"{"}.items():
        (folder / file).write_bytes(content)
        done = in_project(project, "-m", "my_project", "run-exported", folder, "images/sample", ok=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert file in done.stderr
