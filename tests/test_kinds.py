"""Each kind of data is a project that trains on real data without further steps."""

import itertools
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import EXTRAS, NEXT, ROOT, Render, copy, in_project, of_the_day, save, tree, unmerged, update
from test_configs import DEFAULT, FORMATS, KINDS

LARGE = ("object_detection", "audio_classification")  # kinds whose archive may have up to a megabyte
QUICK = ["configs/train.yaml", "configs/debug.yaml", "run.device=cpu", "run.name=a-run"]
SMALLEST = ["train.epochs=1", "train.limit_batches=2"]

EACH_LAYOUT = list(itertools.product(FORMATS, ["file", "folder"]))
CELLS = """
import os, re, sys
import nbformat
from IPython.core.interactiveshell import InteractiveShell
os.chdir("notebooks")
shell = InteractiveShell.instance()
for cell in nbformat.read(sys.argv[1], 4).cells:
    if cell.cell_type == "code":
        shell.run_cell(re.sub("train.epochs=[0-9]+", sys.argv[2], cell.source)).raise_error()
"""

STEP = """
import sys, types
from contextlib import nullcontext
from pathlib import Path
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from my_project import components, loss, model
from my_project.config import load
from my_project.engine.device import prefetch
from my_project.engine.loop import evaluate, train_step
from my_project.engine.metrics import Average
from my_project.engine.state import build_state
from my_project.errors import UserError
from my_project.options import Config
from my_project.task import Task
class OneDevice(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
        devices = {tensor.device.type for tensor in tensors}
        copies = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default
        assert len(devices) < 2 or function in copies, f"{function} of tensors on {devices}"
        return function(*args, **kwargs or {})

torch.autocast = lambda *args, **kwargs: nullcontext()  # autocast refuses this device
Average.compute = lambda self: 0.0  # which reads a number back, after the steps
device, done = torch.device("meta"), []
names = [f"model.name={name}" for name in components.defined_in(model)]
names += [f"loss.name={name}" for name in components.defined_in(loss)] + sys.argv[1:]
for name in names:
    config = load(Config, Path("configs").glob("train.*"), [name, "train.accumulate=2", "train.ema=0.9"])
    here = Task(config, torch.device("cpu"))
    type(here.metrics()).compute = lambda self: {config.checkpoint.monitor: 0.0}  # which reads, too
    batches = [batch for batch, _ in zip(here.train_loader(), range(2))]
    try:
        task = Task(config, device, here.info)
        state = build_state(config, task, device, len(batches))
    except UserError:  # a helper, or not for these data
        continue
    weights = [*state.model.parameters(), *state.loss_module.parameters()]
    session = types.SimpleNamespace(config=config, task=task, device=device, weights=weights, hear=None)
    with OneDevice():
        train_step(state, session, prefetch(batches, device, False), len(batches[0][0]))
        evaluate(state.evaluated, task, batches, device)
    done.append(name)
print(*done)
"""

each_kind = pytest.mark.parametrize("kind", KINDS)
some_kinds = pytest.mark.parametrize("kind", of_the_day(KINDS, 4))
OTHERS = [kind for kind in KINDS if kind != DEFAULT]
HALF = len(OTHERS) // 2


@pytest.fixture(scope="module")
def homes(render: Render, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Creates a project of a kind on first use, for training."""

    class Homes(dict[str, Path]):
        def __missing__(self, kind: str) -> Path:
            self[kind] = tmp_path_factory.mktemp(kind) / "project"
            shutil.copytree(render(data_kind=kind), self[kind])
            return self[kind]

    return Homes()


@each_kind
def test_the_archive_is_small_and_names_its_source(render: Render, kind: str) -> None:
    path = render(data_kind=kind) / "data" / "sample.zip"
    assert path.stat().st_size <= (1_000_000 if kind in LARGE else 400_000)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        notice = archive.read("NOTICE.txt").decode()
        assert not archive.testzip()
    assert len(notice.split()) > 40
    assert kind == "custom" or any(name.startswith("LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names if "/" in name} == {"train", "valid", "test"}


@each_kind
def test_the_sample_has_a_script_that_makes_it_and_a_named_source(kind: str) -> None:
    script = (ROOT / "template" / "kinds" / kind / "sample.py").read_text()
    assert f"python3 template/kinds/{kind}/sample.py" in script
    page = (ROOT / "docs" / "kinds.md").read_text()
    assert f"| `{kind}` |" in page
    assert re.search(rf"^## .*`{kind}`", page, re.MULTILINE)


@pytest.mark.slow
@each_kind
def test_docs_api_gives_the_purpose_of_each_file(render: Render, kind: str) -> None:
    for components in ("file", "folder"):
        project = render(data_kind=kind, components=components)
        api = (project / "docs" / "api.md").read_text()
        for name in tree(project):
            path = Path(name)
            folder = path.suffix in (".png", ".zip") or path.parent.name == "sample"
            assert path.name in api or (folder and f"{path.parent}/" in api), f"docs/api.md doesn't name {name}"
        for name in re.findall(r"^\| `([^`]+)` \|", api.partition("## The contract")[0], re.MULTILINE):
            there = (project / name).exists() or (project / "src" / "my_project" / name).exists()
            assert there, f"docs/api.md names {name}, which is not there"


@pytest.mark.slow
@each_kind
def test_links_are_valid_and_each_test_of_the_layout_exists(render: Render, kind: str) -> None:
    project = render(data_kind=kind)
    for page in project.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert re.match(r"\w+:", link) or (page.parent / link).exists(), f"{page.name} links to {link}"
    for part in ("dataset", "dataloader", "model", "train", "valid", "test"):
        assert len(re.findall(r"^def test_", (project / "test" / f"test_{part}.py").read_text(), re.MULTILINE)) >= 2
    for folder in ("loader", "result"):
        assert (project / "images" / folder / "example.png").stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("part", ["loss", "transforms"])
@each_kind
def test_both_layouts_of_components_start_with_the_same_file(render: Render, kind: str, part: str) -> None:
    in_file = render(data_kind=kind) / "src" / "my_project" / f"{part}.py"
    folder = render(data_kind=kind, components="folder") / "src" / "my_project" / part
    assert [path.read_text() for path in folder.glob("*.py") if path.stem != "__init__"] == [in_file.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DEFAULT, *of_the_day(OTHERS, HALF)])
def test_its_own_tests_pass(homes: dict[str, Path], kind: str) -> None:
    """The default kind runs them as an owner does; for the other kinds, figures are not drawn."""
    drawn = kind == "image_classification"
    in_project(homes[kind], "-m", "pytest", "--quiet", "-p", "no:cacheprovider", drawn=drawn)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("config_format", "components"), EACH_LAYOUT)
@each_kind
def test_its_own_tests_pass_with_all_extras(
    render: Render, kind: str, config_format: str, components: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    answers = {"data_kind": kind, "config_format": config_format, "components": components, "extras": EXTRAS}
    shutil.copytree(render(**answers), project)
    in_project(project, "-m", "pytest", "--quiet", "-p", "no:cacheprovider")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DEFAULT, *of_the_day([*OTHERS[HALF:], *OTHERS[:HALF]], HALF)])
def test_it_trains_tests_and_runs_on_new_inputs(homes: dict[str, Path], kind: str) -> None:
    project = homes[kind]

    def command(*arguments: str) -> str:
        return in_project(project, "-m", "my_project", *arguments, drawn=True).stdout

    command("train", *QUICK, "train.limit_batches=4")
    metrics: dict[str, Any] = json.loads(command("test", "--json"))
    assert len(metrics) >= 4  # in addition to checkpoint, split and loss
    assert json.loads(command("run", "images/sample", "--json"))
    assert command("run", "images/sample").strip()
    command("check-data")
    assert len(list((project / "images" / "result").iterdir())) >= 3
    assert list((project / "images" / "loader").glob("train.*"))
    serious = ["configs/train.yaml", "configs/long.yaml", *SMALLEST, "run.name=long", "run.device=cpu"]
    command("train", *serious)


@pytest.mark.slow
@some_kinds
def test_training_stays_on_its_device_and_never_waits_for_it(homes: dict[str, Path], kind: str) -> None:
    """A step and an evaluation with each model and loss, on torch's meta device, whose values can't be read."""
    others = {"time_series": ["data.scaling=train"], "tabular": ["data.task=regression"]}.get(kind, [])
    done = in_project(homes[kind], "-c", STEP, *others).stdout.splitlines()[-1].split()
    assert sum(name.startswith("model.") for name in done) >= 2
    assert sum(name.startswith("loss.") for name in done) >= 1
    assert {*others} <= {*done}


@pytest.mark.parametrize(
    "layouts",
    [
        pytest.param([("yaml", "file"), ("ini", "folder")], marks=pytest.mark.slow, id="two"),
        pytest.param(EACH_LAYOUT, marks=pytest.mark.exhaustive, id="all"),
    ],
)
@some_kinds
def test_the_debug_run_ends_the_same_in_each_format_and_layout(
    render: Render, kind: str, layouts: list[tuple[str, str]], tmp_path: Path
) -> None:
    tables = set()
    for number, (ending, components) in enumerate(layouts):
        project = tmp_path / str(number)
        shutil.copytree(render(data_kind=kind, config_format=ending, components=components), project)
        files = [f"configs/{name}.{ending}" for name in ("train", "debug")]
        in_project(project, "-m", "my_project", "train", *files, *SMALLEST, "run.name=a-run", "run.device=cpu")
        table = (project / "checkpoints" / "a-run" / "metrics.csv").read_text().split()
        tables.add("\n".join(row.rpartition(",")[0] for row in table))  # except the seconds
    assert len(tables) == 1


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["", "whole"])
@pytest.mark.parametrize("name", ["0_data", "1_tutorial"])
@pytest.mark.parametrize("kind", [DEFAULT, *of_the_day(OTHERS, 3)])
def test_the_cells_of_its_notebooks_run(homes: dict[str, Path], kind: str, name: str, whole: bool) -> None:
    """In the tutorial, the default kind trains as long as written; the others do so in `make exhaustive`."""
    written = re.findall(r"train\.epochs=\d+", (homes[kind] / "notebooks" / f"{name}.ipynb").read_text())
    assert len(written) == (name == "1_tutorial")
    as_written = written and (whole or kind == "image_classification")
    settings = written[0] if as_written else 'train.epochs=1", "train.limit_batches=10'  # between two quotes
    in_project(homes[kind], "-c", CELLS, f"{name}.ipynb", settings, drawn=True, MPLBACKEND="agg")


@pytest.mark.slow
@some_kinds
def test_changing_the_kind_of_data_loses_no_edit(template: Path, kind: str, tmp_path: Path) -> None:
    """Also when it is changed back after a commit."""
    start = "image_classification" if kind != "image_classification" else "tabular"
    project = tmp_path / "project"
    copy(template, project, NEXT, data_kind=start)
    package = project / "src" / "my_project"
    edited = [package / "task.py", package / "data" / "dataset.py", package / "transforms.py", project / "README.md"]
    edited += [
        next(path for path in sorted((package / "model").glob("*.py")) if path.stem not in ("__init__", "utils"))
    ]
    for number, path in enumerate(edited):
        path.write_text(f"# my own line {number}\n" + path.read_text())
    (package / "model" / "mine.py").write_text("# my own line 99\n")
    (project / "data" / "train").mkdir()
    (project / "data" / "train" / "mine.txt").write_text("not in git\n")
    save(project)
    done = update(project, ok=False, data_kind=kind)
    assert done.returncode in (0, 1), done.stderr
    for number, path in enumerate(edited):
        assert f"# my own line {number}\n" in path.read_text()
    assert (package / "model" / "mine.py").read_text() == "# my own line 99\n"
    assert (project / "data" / "train" / "mine.txt").read_text() == "not in git\n"
    assert set(unmerged(project)) <= {path.relative_to(project).as_posix() for path in edited}
    assert f"data_kind: {kind}\n" in (project / ".copier-answers.yml").read_text()
    fresh = tmp_path / "fresh"
    copy(template, fresh, NEXT, data_kind=kind)
    missing = set(tree(fresh)) - set(tree(project))
    assert not missing, missing
