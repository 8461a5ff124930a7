"""The extra `timm`, with a stand-in for torchvision only: each kind of images trains from weights, and is exported."""

import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Render, copier_copy, in_project, of_the_day
from test_documents import steps

pytestmark = pytest.mark.slow

KINDS = ["image_classification", "image_segmentation", "object_detection"]
EXTRAS = "timm export optimizers pretrained"
QUICK = ["run.device=cpu", "train.epochs=1", "train.limit_batches=1", "data.batch_size=2", "run.name=a-run"]
SIZE = {"object_detection": ["data.image_size=64"], "image_classification": ["data.image_size=64"]}
each_kind = pytest.mark.parametrize("kind", of_the_day(KINDS, 1))

Play = Callable[..., str]


@pytest.fixture
def home(render: Render, kind: str, tmp_path: Path) -> Path:
    return shutil.copytree(render(data_kind=kind, extras=EXTRAS), tmp_path / "project")


def play(project: Path, *command: str, ok: bool = True) -> str:
    """Run Python with a project and a stand-in for torchvision on its path; returns what it printed."""
    path = f"{project / 'src'}:{ROOT / 'tests' / 'stand_ins'}"
    done = in_project(project, *command, ok=ok, PYTHONPATH=path, HF_HUB_OFFLINE="1")
    return done.stdout if ok else done.stderr


@each_kind
def test_own_tests_of_a_project_with_timm_pass(home: Path) -> None:
    said = play(home, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "test/test_timm.py")
    assert "6 passed" in said


WEIGHTS = """if True:
    import sys, timm, torch
    torch.save(timm.create_model(sys.argv[1], num_classes=7).state_dict(), sys.argv[2])
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_family_trains_and_is_exported_without_its_file(home: Path, kind: str, name: str) -> None:
    play(home, "-c", WEIGHTS, name, "weights.pth")
    given = ["model.name=timm", f"model.args={{name: {name}, pretrained: weights.pth}}", *SIZE.get(kind, [])]
    more = ["train.ema=0.9", "train.channels_last=true", 'model.freeze=["backbone.*"]']
    play(home, "-m", "my_project", "train", "configs/train.yaml", *QUICK, *given, *more)
    (home / "weights.pth").unlink()
    play(home, "-m", "my_project", "test", "a-run")
    play(home, "-m", "my_project", "train", "--resume", "a-run", "train.epochs=2")
    said = play(home, "-m", "my_project", "export", "a-run")
    assert "model.onnx" in said
    assert "model.pt2" in said
    for form in ([], ["--pt2"]):
        play(home, "-m", "my_project", "run-exported", "exports/a-run", "images/sample", *form)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_the_page_work_with_weights_of_a_file(home: Path) -> None:
    play(home, "-c", WEIGHTS, "resnet18", "weights.pth")
    tried = 0
    for step in steps((home / "docs/timm.md").read_text()):
        if step.path:
            (home / step.path).write_text(step.code)
        elif step.command.startswith("scripts/train.sh"):
            words = re.findall(r"'[^']*'|\S+", step.command.replace("pretrained: true", "pretrained: weights.pth"))
            small = ["data.image_size=32"] if "data.image_size" in step.command else []
            given = [word.strip("'") for word in words[1:]]
            play(home, "-m", "my_project", "train", *QUICK[:-1], *given, *small)
            tried += 1
    assert tried == 5


@pytest.mark.parametrize("kind", KINDS[:1])
def test_without_torchvision_the_error_says_where_to_look(home: Path) -> None:
    given = ["--smoke", "run.device=cpu", "model.name=timm", "model.args={name: test_resnet}"]
    done = in_project(home, "-m", "my_project", "train", *given, ok=False)
    assert done.returncode == 2
    line = "error: model.name=timm: No module named 'torchvision'; see 'Install' in docs/timm.md"
    assert done.stderr.splitlines()[-1] == line


def test_timm_is_refused_for_other_kinds_of_data(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="remove timm: it is for the kinds of images; data_kind is tabular"):
        copier_copy(plain, tmp_path / "project", data_kind="tabular", extras="timm")


def test_torchvision_is_named_so_that_an_image_gets_it_with_torch(render: Render) -> None:
    """The Dockerfile installs what begins with torch from the index of torch."""
    groups = tomllib.loads((render(extras="timm docker") / "pyproject.toml").read_text())["project"]
    assert [line.partition(">")[0] for line in groups["optional-dependencies"]["timm"]] == ["timm", "torchvision"]
