"""docs/recipes.md of a project: each recipe does what it says, in one process and in two."""

import csv
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Render, in_project
from test_documents import merge, sections, steps

pytestmark = pytest.mark.slow

LAUNCH = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
Cook = Callable[..., Path]
ONE = pytest.param(1, marks=pytest.mark.exhaustive)  # test_documents.py runs most recipes in one process
BOTH = pytest.mark.parametrize("processes", [ONE, 2])


@pytest.fixture(scope="module")
def cook(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Cook:
    """Creates a project with the code blocks of a recipe; its runs take two epochs of four batches."""
    data: dict[str, Path] = {}

    def cooked(recipe: str, **answers: str) -> Path:
        answers = {"extras": "optimizers", **answers}
        home = tmp_path_factory.mktemp("recipe") / "project"
        shutil.copytree(render(**answers), home, ignore=shutil.ignore_patterns("sample.zip"))
        if str(answers) not in data:
            data[str(answers)] = folder = tmp_path_factory.mktemp("data")
            shutil.unpack_archive(render(**answers) / "data" / "sample.zip", folder)
        config = home / "configs" / "train.yaml"
        text = config.read_text()
        changed = {"folder": data[str(answers)], "epochs": 2, "limit_batches": 4, "log_every": 1, "device": "cpu"}
        for key, value in changed.items():
            text = re.sub(rf"^(  {key}:).*", rf"\1 {value}", text, flags=re.MULTILINE)
        config.write_text(text)
        for step in steps(sections(home / "docs" / "recipes.md")[recipe] if recipe else ""):
            if step.merged:
                merge(home / step.path, step.code)
            elif step.code:
                (home / step.path).write_text(step.code)
        return home

    return cooked


def train(project: Path, *settings: str, processes: int = 1, name: str = "run") -> list[dict[str, str]]:
    """Train a run; returns the rows of its metrics.csv."""
    launch = LAUNCH if processes > 1 else []
    in_project(project, *launch, "-m", "my_project", "train", f"run.name={name}", *settings)
    return rows(project / "checkpoints" / name / "metrics.csv")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def own(project: Path) -> Path:
    """The data in the project, for a recipe that adds to them."""
    config = project / "configs" / "train.yaml"
    [folder] = re.findall(r"^  folder: (.*)", config.read_text(), re.MULTILINE)
    shutil.copytree(folder, project / "data", dirs_exist_ok=True)
    config.write_text(config.read_text().replace(folder, "data"))
    return project / "data"


def in_task(project: Path, code: str) -> str:
    """Run code with the task of the project's config; returns what it printed."""
    lines = ["import torch", "from my_project.config import load", "from my_project.options import Config"]
    lines += ["from my_project.task import Task"]
    lines += ["config = load(Config, ['configs/train.yaml'], [])"]
    return in_project(project, "-c", "\n".join([*lines, code])).stdout.strip()


@pytest.mark.parametrize(
    "kind",
    sorted(path.name for path in (Path(__file__).parents[1] / "template" / "kinds").iterdir()),
)
def test_the_table_of_recipes_counts_files_and_lines(kind: str, render: Render) -> None:
    page = render(data_kind=kind) / "docs" / "recipes.md"
    said = re.findall(r"^\| \[(.+)\]\(#.+\) \| (\d+) \| (\d+) \|$", page.read_text(), re.MULTILINE)
    counted = []
    for title, text in sections(page).items():
        blocks = [step for step in steps(text) if step.code]
        lines = [line for step in blocks for line in step.code.splitlines()[1:] if line.strip()]
        counted.append((title, str(len({step.path for step in blocks})), str(len(lines))))
    assert said == counted
    assert not re.search(r"^# .*engine/", page.read_text(), re.MULTILINE)


@BOTH
def test_gradient_norms_are_written_every_ten_steps(processes: int, cook: Cook) -> None:
    project = cook("Log the gradient norm of each parameter")
    train(project, "train.hooks.GradientNorms={}", "train.max_steps=21", processes=processes)
    lines = (project / "checkpoints/run/gradients.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    weights = torch.load(project / "checkpoints/run/last.pt", weights_only=True)["optimizer"]["state"]
    assert [row["step"] for row in found] == [0, 10, 20]
    assert len(found[0]) == 1 + len(weights)
    assert all(row["head.weight"] > 0 for row in found)


@BOTH
def test_a_time_limit_ends_a_run_with_a_validation(processes: int, cook: Cook) -> None:
    project = cook("End a run at a time limit")
    found = train(project, "train.hooks.TimeLimit={minutes: 0}", processes=processes)
    assert [row["step"] for row in found] == [str(processes)]


@BOTH
def test_figures_of_a_hook_are_exported(processes: int, cook: Cook) -> None:
    project = cook("Export figures")
    found = train(project, "train.hooks.Summary={}", processes=processes)
    summary = json.loads((project / "checkpoints/run/summary.json").read_text())
    for row in found:
        assert float(row["gap"]) == pytest.approx(float(row["valid_loss"]) - float(row["train_loss"]), abs=1e-5)
    assert [{key: str(value) for key, value in row.items()} for row in summary["rows"]] == found
    assert summary["step"] == 8


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudoterminals")
def test_a_progress_bar_is_drawn_on_a_terminal_and_in_no_file(cook: Cook) -> None:
    import pty
    import termios

    project = cook("A progress bar")
    command = [sys.executable, "-m", "my_project", "train", "train.hooks.Bar={}", "run.name=drawn"]
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    env = {**os.environ, "PYTHONPATH": "src"}
    lines = subprocess.run(command, cwd=project, env=env, check=True, stdout=subprocess.PIPE, stderr=terminal).stdout
    drawn = b""
    while select.select([screen], [], [], 0)[0]:
        drawn += os.read(screen, 1 << 16)
    assert re.search(rb"\r100%.* 8/8 \[", drawn)
    assert b"/8 [" not in lines
    assert b"step 8  loss" in lines
    done = in_project(project, "-m", "my_project", "train", "train.hooks.Bar={}", "run.name=piped")
    assert "8/8 [" not in done.stderr


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_rates_decay_layer_by_layer(processes: int, cook: Cook) -> None:
    project = cook("Layer-wise learning-rate decay")
    settings = ["configs/train.yaml", "configs/layers.py", "model.name=resnet", "model.args={width: 4}"]
    train(project, *settings, processes=processes)
    groups = torch.load(project / "checkpoints/run/last.pt", weights_only=True)["optimizer"]["param_groups"]
    rates = list(dict.fromkeys(group["initial_lr"] for group in groups))
    assert rates == pytest.approx([0.001 * 0.8**depth for depth in [*range(1, 8), 0]])


def test_a_script_trains_with_its_own_task_and_hooks(cook: Cook) -> None:
    project = cook("Train from a script or a notebook")
    said = in_project(project, "scripts/flooding.py").stdout  # the page runs it in two processes
    assert re.search(r"^4 \d\.\d+$", said, re.MULTILINE)
    assert len(list(project.glob("checkpoints/flooding-*/last.pt"))) == 1


def test_batch_sizes_are_tried_in_powers_of_two(cook: Cook) -> None:
    project = cook("Find the largest batch size")
    said = in_project(project, "scripts/batch_size.py", "4").stdout
    assert re.findall(r"^batch size (\d+): \d+\.\d+$", said, re.MULTILINE) == ["1", "2", "4"]


@BOTH
def test_a_stream_is_dealt_to_processes_and_workers(processes: int, cook: Cook) -> None:
    project = cook("Stream data")
    shards = own(project) / "shards"
    shards.mkdir()
    for number in range(4):
        shutil.make_archive(str(shards / str(number)), "tar", project / "data" / "valid")
    found = train(project, "train.max_steps=3", "data.workers=2", "train.limit_batches=null", processes=processes)
    assert [row["step"] for row in found] == ["3"]


def test_each_file_of_a_stream_is_read_by_one_process(cook: Cook) -> None:
    code = """
from itertools import islice
from my_project.data import stream
for rank in range(3):
    stream.distributed.rank, stream.distributed.world = (lambda: rank), (lambda: 3)
    print(*sorted(set(islice(stream.Stream([*"abcdefg"], lambda file: [file] * 9, 0), 99))))
stream.distributed.rank = lambda: 2
print(next(iter(stream.Stream(["a"], iter, 0)), None))
"""
    project = cook("Stream data")
    done = in_project(project, "-c", code, ok=False)
    assert done.stdout.splitlines() == ["a d g", "b e", "c f"]
    assert "UserError: 1 files are fewer than there are workers" in done.stderr


def test_batches_as_dicts_train_like_tuples(cook: Cook) -> None:
    answers = {"data_kind": "text_classification"}
    plain, dicts = cook("", **answers), cook("Batches as dicts", **answers)
    one, two = train(plain), train(dicts)
    for row in [*one, *two]:
        del row["seconds"]
    assert one == two
    in_project(dicts, "-m", "my_project", "test", "run")
    assert train(dicts, processes=2, name="both")[-1]["step"] == one[-1]["step"]


@BOTH
def test_mixup_changes_only_the_training_loss(processes: int, cook: Cook) -> None:
    plain, mixup = cook(""), cook("Mixup")
    settings = ["train.epochs=1", "optimizer.lr=1e-9"]
    (one,), (two,) = (train(project, *settings, processes=processes) for project in (plain, mixup))
    assert float(one["train_loss"]) != pytest.approx(float(two["train_loss"]), rel=1e-4)
    assert float(one["valid_loss"]) == pytest.approx(float(two["valid_loss"]), rel=0.1)


@pytest.mark.parametrize(
    ("processes", "kind"), [(1, "language_modeling"), (1, "image_classification"), (2, "image_classification")]
)
def test_a_student_learns_from_a_teacher(processes: int, kind: str, cook: Cook) -> None:
    project = cook("Distillation", data_kind=kind)
    train(project, name="teacher")
    alone = train(project, "model.args.width=8", name="alone", processes=processes)
    student = train(project, "model.args.width=8", "data.teacher=teacher", name="student", processes=processes)
    assert alone[0]["train_loss"] != student[0]["train_loss"]
    keys = [
        torch.load(project / f"checkpoints/{name}/last.pt", weights_only=True)["model"] for name in ("alone", "student")
    ]
    assert keys[0].keys() == keys[1].keys()


VIEWS = "data.transforms={two_views: {random_affine: {degrees: 20, translate: 0.2}}}"


def test_the_two_views_of_an_image_differ(cook: Cook) -> None:
    code = f"""
config = load(Config, ["configs/train.yaml"], [{VIEWS!r}])
task = Task(config, torch.device("cpu"))
views = next(iter(task.train_loader()))[0]
assert views.shape == (32, 2, 1, 20, 20)
assert (views[:, 0] - views[:, 1]).abs().amax(dim=(1, 2, 3)).min() > 0.1
outputs = task.forward(torch.nn.Flatten(), (views[:, [0, 0]],))
assert torch.equal(outputs.argmax(dim=1), torch.arange(64) ^ 1)
"""
    in_task(cook("SimCLR"), code)


@BOTH
def test_simclr_learns_to_find_the_other_view(processes: int, cook: Cook) -> None:
    settings = [VIEWS, "checkpoint.monitor=top1", "train.limit_batches=12", "train.epochs=3"]
    found = train(cook("SimCLR"), *settings, processes=processes)
    assert float(found[-1]["valid_top1"]) > 1.1 * float(found[0]["valid_top1"]) > 0.1


@BOTH
def test_the_samples_of_a_gan_come_near_to_the_data(processes: int, cook: Cook) -> None:
    project = cook("A GAN")
    settings = ["model.name=gan", "model.args={}", "optimizer.lr=0.001", "data.transforms={}"]
    settings += ["checkpoint.monitor=loss", "checkpoint.mode=min", "train.limit_batches=null", "train.epochs=4"]
    found = train(project, *settings, processes=processes)
    print(*((row["train_d_loss"], row["train_g_loss"], row["valid_d_loss"], row["valid_g_loss"]) for row in found))
    code = """
from my_project.engine import checkpoint
from pathlib import Path
task = Task(config, torch.device("cpu"))
truth = torch.cat([batch[0] for batch in task.eval_loader("train")]).mean(dim=0)
config = load(Config, ["configs/train.yaml"], ["model.name=gan", "model.args={}"])
task = Task(config, torch.device("cpu"))
for trained in (False, True):
    model = task.build_model()
    if trained:
        model.load_state_dict(checkpoint.load(Path("checkpoints/run/last.pt"))["model"])
    print(float((task.fake(model, 500).mean(dim=0) - truth).abs().mean()))
"""
    before, after = map(float, in_task(project, code).split())
    assert after < before / 2
