"""The extra `runs`: a table that needs no torch, and runs that are trained, killed or deleted meanwhile."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, copy, git, in_project, of_the_day, save, start

pytestmark = pytest.mark.slow

KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir())

QUICK = ["model.args.width=4", "run.device=cpu", "train.limit_batches=2"]
FOR_CLASSES = ["data.task=classification", "data.target_log=false", "loss.name=CrossEntropyLoss"]
FOR_CLASSES += ["checkpoint.monitor=auroc", "checkpoint.mode=max"]
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from my_project.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of two epochs, `first`."""
    folder = tmp_path_factory.mktemp("runs") / "a project"
    copy(template, folder, extras="runs")
    save(folder)
    in_project(folder, "-m", "my_project", "train", *QUICK, "train.epochs=2", "run.name=first")
    return folder


def table(project: Path, *words: str) -> list[dict[str, Any]]:
    done = in_project(project, "-c", WITHOUT_TORCH, "runs", *words, "--json", cold=True)
    assert done.stderr == ""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_two_hundred_runs_are_listed_without_torch(project: Path, tmp_path: Path) -> None:
    for number in range(200):
        shutil.copytree(
            project / "checkpoints/first", tmp_path / f"{number:03d}", ignore=shutil.ignore_patterns("*.pt")
        )
    rows = table(project, "--checkpoints", str(tmp_path))
    assert [row["run"] for row in rows] == [f"{number:03d}" for number in range(200)]
    assert rows[0]["commit"] == git("rev-list", "--max-parents=0", "HEAD", cwd=project)[:8]
    assert rows[0]["best"] == max(best_figures(project))
    assert rows[0]["differs"] == {
        "run.device": "cpu",
        "model.args.width": 4,
        "train.epochs": 2,
        "train.limit_batches": 2,
    }


def best_figures(project: Path) -> list[float]:
    head, *rows = (project / "checkpoints/first/metrics.csv").read_text().splitlines()
    column = head.split(",").index("valid_acc")
    return [float(row.split(",")[column]) for row in rows]


def test_a_run_in_training_is_running_and_stays_and_a_killed_one_is_stopped(project: Path) -> None:
    path = project / "checkpoints" / "long"
    with open(os.devnull, "r+b") as nothing:
        words = ["-m", "my_project", "train", *QUICK, "train.epochs=100000", "run.name=long"]
        process = start(project, *words, files=[nothing] * 3)
    end = time.monotonic() + 120
    while not (path / "last.pt").is_file():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [row["state"] for row in table(project, "long")] == ["running"]
    refused = in_project(project, "-m", "my_project", "runs", "delete", "*", "--yes", ok=False)
    assert (refused.returncode, refused.stderr) == (2, "error: long: a process trains this run; stop it first\n")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [row["state"] for row in table(project, "long")] == ["stopped"]
    in_project(project, "-m", "my_project", "runs", "delete", "checkpoints/long/", "--yes")
    assert not path.exists()
    assert (project / "checkpoints/first/last.pt").is_file()


def test_brackets_in_the_name_of_a_run_are_no_pattern(project: Path, tmp_path: Path) -> None:
    for name in ("lr1", "lr[1]", "lr[2]"):
        shutil.copytree(project / "checkpoints/first", tmp_path / name)
    words = ["-m", "my_project", "runs", "delete", "lr[1]", "--yes", "--checkpoints", str(tmp_path)]
    in_project(project, *words)
    assert sorted(os.listdir(tmp_path)) == ["lr1", "lr[2]"]
    refused = in_project(project, *words, ok=False)
    assert (refused.returncode, refused.stderr) == (2, f"error: lr[1]: no such run in {tmp_path}\n")
    assert [row["run"] for row in table(project, "lr[*", "l??", "--checkpoints", str(tmp_path))] == ["lr[2]", "lr1"]


STOPPED = """
import os, signal, sys
from my_project.cli import main
from my_project.engine.session import Session

tell = Session.tell
def tell_and_stop(session, event, *news):
    tell(session, event, *news)
    if event == "step" and session.state.step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
Session.tell = tell_and_stop
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def by_steps(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs whose validations are not at the ends of epochs; one is stopped at step 5 of 20, and one resumed from it."""
    folder = tmp_path_factory.mktemp("by steps")
    quick = ["train", *QUICK, "data.batch_size=8", f"run.checkpoints={folder}"]
    whole = [*quick, "train.limit_batches=10", "train.epochs=2", "valid.every_steps=2"]
    in_project(project, "-m", "my_project", *quick, "run.name=most", "train.epochs=20", "train.max_steps=3")
    in_project(project, "-m", "my_project", *quick, "run.name=each", "train.epochs=4", "valid.every_steps=1")
    stopped = in_project(project, "-c", STOPPED, *whole, "run.name=stopped", ok=False)
    assert stopped.returncode == 75, stopped.stderr
    shutil.copytree(folder / "stopped", folder / "whole")
    in_project(project, "-m", "my_project", "train", "--resume", str(folder / "whole"))
    return folder


def test_states_and_epochs_are_right_if_runs_validate_by_steps(project: Path, by_steps: Path) -> None:
    rows = {row["run"]: row for row in table(project, "--checkpoints", str(by_steps))}
    assert {name: (row["state"], row["epoch"]) for name, row in rows.items()} == {
        "most": ("done", 1),
        "each": ("done", 4),
        "stopped": ("stopped", 0),
        "whole": ("done", 2),
    }
    assert {name: row["step"] for name, row in rows.items()} == {"most": 3, "each": 8, "stopped": 4, "whole": 20}
    lines = in_project(project, "-m", "my_project", "runs", "--checkpoints", str(by_steps)).stdout.splitlines()
    cells = {line.split()[0]: re.split("  +", line)[3] for line in lines[1:]}
    assert cells == {"most": "3/3 steps", "each": "4/4", "stopped": "0/2", "whole": "2/2"}
    in_order = table(project, "--sort", "epochs", "--checkpoints", str(by_steps))
    assert [row["run"] for row in in_order] == ["stopped", "most", "whole", "each"]


def test_early_stopping_and_old_runs_are_read_from_their_rows(project: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((project / "checkpoints/first/config.yaml").read_text())
    cases: dict[str, tuple[dict[str, int], int, str]] = {  # options of train, valid.every_steps, the rows
        "waits": ({"epochs": 9, "patience": 3}, 1, "epoch,step,valid_loss\n1,1,4\n1,2,3\n1,3,2\n1,4,5\n"),
        "gave up": ({"epochs": 9, "patience": 3}, 1, "epoch,step,valid_loss\n1,1,4\n1,2,5\n1,3,5\n1,4,5\n"),
        "old": ({"epochs": 2}, 0, "epoch,valid_loss\n1,4\n2,3\n"),
        "half": ({"epochs": 3}, 0, "epoch,valid_loss\n1,4\n2,3\n"),
    }
    for name, (options, every, rows) in cases.items():
        (tmp_path / name).mkdir()
        own = {"train": config["train"] | options, "valid": {"every_steps": every or None}}
        own["checkpoint"] = config["checkpoint"] | {"monitor": "loss", "mode": "min"}
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config | own))
        (tmp_path / name / "metrics.csv").write_text(rows)
        (tmp_path / name / "train.log").write_text("step 4/90  epoch 1  valid_loss 5.0000\n" if every else "")
        (tmp_path / name / "last.pt").touch()
    found = {row["run"]: (row["state"], row["epoch"]) for row in table(project, "--checkpoints", str(tmp_path))}
    expected = {"waits": ("stopped", 0), "gave up": ("done", 0), "old": ("done", 2), "half": ("stopped", 2)}
    assert found == expected


DRAWN = """
import json, sys
from pathlib import Path
from my_project.commands import runs
from my_project.visualization import charts

figures = []
charts.write = lambda path, save: figures.append(save.__self__)
found = {run.run: run for run in runs.find_runs(Path(sys.argv[1]))}
runs.draw([found[name] for name in sys.argv[2:]], Path("compare.png"))
axes = figures[0].axes[0]
print(json.dumps([axes.get_xlabel(), *(line.get_xdata().tolist() for line in axes.lines)]))
"""


def test_curves_go_over_steps_if_an_epoch_has_validations(project: Path, by_steps: Path) -> None:
    drawn = in_project(project, "-c", DRAWN, str(by_steps), "most", "each", drawn=True).stdout
    assert json.loads(drawn) == ["step", [2, 3], list(range(1, 9))]
    drawn = in_project(project, "-c", DRAWN, str(project / "checkpoints"), "first", "first", drawn=True).stdout
    assert json.loads(drawn) == ["epoch", [1, 2], [1, 2]]


def test_a_loss_and_a_commit_are_all_that_differs(project: Path) -> None:
    (project / "src/my_project/loss.py").write_text((project / "src/my_project/loss.py").read_text() + "# more\n")
    save(project, "another loss")
    in_project(project, "-m", "my_project", "train", *QUICK, "train.epochs=2", "run.name=second", "loss.name=FocalLoss")
    said = in_project(project, "-m", "my_project", "runs", "compare", "first", "second", drawn=True).stdout
    differences, _, figures = said.partition("figures at the best epoch:\n")
    lines = [line.split() for line in differences.splitlines()]
    commits = [git("rev-parse", "--short=8", f"HEAD{back}", cwd=project) for back in ("~1", "")]
    assert lines == [
        ["config:"],
        ["first", "second"],
        ["loss.name", "CrossEntropyLoss", "FocalLoss"],
        ["code:"],
        ["first", "second"],
        ["commit", *commits],
        ["src/my_project/loss.py", "differs"],
        ["data:", "the", "same"],
        ["packages:", "the", "same"],
    ]
    assert "valid_acc" in figures
    assert (project / "images/result/compare.png").stat().st_size > 10_000
    git("restore", ".", cwd=project)


def test_the_best_checkpoint_of_a_run_is_kept_and_resumed_from(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(project / "checkpoints/first", folder / "first")
    said = in_project(
        project, "-m", "my_project", "runs", "keep-best", "*", "--yes", "--checkpoints", str(folder)
    ).stdout
    best = next(path for path in (folder / "first").glob("*.pt") if path.name != "last.pt")
    assert f"kept {best.name}" in said
    assert best.samefile(folder / "first/last.pt")
    assert not (folder / "first/earlier").exists()
    in_project(project, "-m", "my_project", "train", "--resume", str(folder / "first"), "train.epochs=3")
    assert yaml.safe_load((folder / "first/config.yaml").read_text())["train"]["epochs"] == 3
    assert len((folder / "first/metrics.csv").read_text().splitlines()) == 4


SCIPY = """
import json, sys
from pathlib import Path
import numpy as np
import scipy.stats
import torch
from my_project.engine import inference

config, task, model = inference.load(Path(sys.argv[1]))
right = []
for images, targets in task.eval_loader("test"):
    with torch.no_grad():
        right += (model(images).argmax(dim=1) == targets).tolist()
options = {"method": "percentile", "n_resamples": 9999, "rng": np.random.default_rng(0)}
interval = scipy.stats.bootstrap((np.array(right, float),), np.mean, **options).confidence_interval
print(json.dumps([np.mean(right), *interval]))
"""


@pytest.fixture(scope="module")
def whole(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all training data, whose best checkpoint has an EMA."""
    folder = tmp_path_factory.mktemp("whole")
    settings = [f"run.checkpoints={folder}", "train.limit_batches=null", "train.epochs=3", "train.ema=0.8"]
    in_project(project, "-m", "my_project", "train", *QUICK, *settings, "run.name=whole")
    return folder / "whole"


def test_an_interval_is_that_of_scipy(project: Path, whole: Path) -> None:
    words = ["-m", "my_project", "intervals", *[str(whole)] * 2, "--json", "--resamples", "4000"]
    found = json.loads(in_project(project, *words).stdout)
    one, same, difference = found["metrics"]["acc"]
    value, low, high = json.loads(in_project(project, "-c", SCIPY, found["checkpoints"][0]).stdout)
    assert (found["samples"], one) == (200, same)
    assert one["value"] == value
    assert low < value < high
    assert [one["low"], one["high"]] == pytest.approx([low, high], abs=0.005)  # the weight of one of 200 samples
    assert difference == {"value": 0, "low": 0, "high": 0}


LOGITS = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from scipy.optimize import minimize_scalar
from my_project.engine import inference

logits, targets = [], []
for path in sys.argv[1:]:
    config, task, model = inference.load(Path(path))
    with torch.no_grad():
        pairs = [(model(images), targets) for images, targets in task.eval_loader("valid")]
    logits.append(torch.cat([pair[0] for pair in pairs]).double())
    targets = torch.cat([pair[1] for pair in pairs])
nll = torch.nn.functional.cross_entropy
best = minimize_scalar(lambda log: nll(logits[0] / np.exp(log), targets).item(), bounds=(-5, 5))
temperature = np.exp(best.x)
shares = logits[1].softmax(dim=1)
confidences, classes = (each.numpy() for each in shares.max(dim=1))
right, places = classes == targets.numpy(), np.digitize(confidences, np.linspace(0, 1, 16), right=True)
parts = [places == place for place in range(1, 16) if (places == place).any()]
print(json.dumps({
    "temperature": temperature,
    "apart": float((logits[1] - logits[0] / temperature).abs().max()),
    "nll": nll(logits[1], targets).item(),
    "brier": float((shares - torch.nn.functional.one_hot(targets, 10)).square().sum(dim=1).mean()),
    "ece": sum(part.mean() * abs(confidences[part].mean() - right[part].mean()) for part in parts),
    "counts": [int(part.sum()) for part in parts],
}))
"""


def test_a_temperature_is_that_of_scipy_and_in_the_checkpoint(project: Path, whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*.pt")}
    found = json.loads(in_project(project, "-m", "my_project", "calibrate", str(whole), "--json").stdout)
    assert {path: path.read_bytes() for path in whole.rglob("*.pt") if path.name != "calibrated.pt"} == before
    made = found["calibrated"]
    assert Path(made) == whole / "calibrated.pt"
    expected = json.loads(in_project(project, "-c", LOGITS, found["checkpoint"], made).stdout)
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-3)
    assert abs(found["temperature"] - 1) > 0.1
    assert expected["apart"] < 0.01
    after = found["valid"]["after"]
    assert after["acc"] == found["valid"]["before"]["acc"]
    assert after["nll"] < found["valid"]["before"]["nll"]
    for name in ("nll", "brier", "ece"):
        assert after[name] == pytest.approx(expected[name], rel=1e-4), name
    assert [row["count"] for row in after["bins"]] == expected["counts"]
    tested = in_project(project, "-m", "my_project", "test", made, "--split", "valid", "--json").stdout
    assert json.loads(tested)["loss"] == pytest.approx(after["nll"], rel=1e-4)


def test_a_calibrated_checkpoint_is_replaced_and_never_resumed(project: Path, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    made, calibrate = run / "calibrated.pt", ("-m", "my_project", "calibrate")
    made.write_bytes(b"older")
    said = in_project(project, *calibrate, str(run), "--test", drawn=True).stdout
    assert f"\n  {made}\n" in said
    assert made.stat().st_size > 10_000
    assert (project / "images/result/calibration.png").stat().st_size > 10_000
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    refused = in_project(project, *calibrate, str(made), ok=False)
    assert refused.stderr == f"error: {made}: would be overwritten; name the run, or another checkpoint\n"
    shutil.rmtree(run / "earlier")
    (run / "last.pt").write_bytes(b"damaged")
    newest = "import sys; from pathlib import Path; from my_project.engine import checkpoint"
    newest += "; print(len(checkpoint.newest(Path(sys.argv[1]))['optimizer']))"
    assert int(in_project(project, "-c", newest, str(run)).stdout) > 0


SCALED = """
import sys
from pathlib import Path
import torch
from my_project.engine import inference

outputs = []
for path in sys.argv[2:]:
    config, task, model = inference.load(Path(path))
    batch = next(iter(task.eval_loader("test")))
    with torch.no_grad():
        outputs.append(task.forward(model, batch).double())
dim = -1 if outputs[0].dim() == 3 else 1
old, new = outputs[0] / float(sys.argv[1]), outputs[1]
print(float((old.log_softmax(dim) - new.log_softmax(dim)).abs().max()))
"""
CLASSIFIERS: list[tuple[str, list[str]]] = [
    ("audio_classification", ["model.name=cnn"]),
    ("audio_classification", ["model.name=resnet", "model.args.width=8"]),
    ("custom", ["model.name=mlp"]),
    ("custom", ["model.name=residual_mlp"]),
    ("image_classification", ["model.name=cnn"]),
    ("image_classification", ["model.name=resnet", "model.args.blocks=1"]),
    ("image_segmentation", ["model.name=unet", "train.limit_batches=null", "train.epochs=3"]),
    ("image_segmentation", ["model.name=resunet", "model.args.width=8", "train.limit_batches=null", "train.epochs=3"]),
    ("language_modeling", ["model.name=gru", "model.args.width=32"]),
    ("language_modeling", ["model.name=gpt", 'model.args={"width": 32, "layers": 1}']),
    ("tabular", ["model.name=mlp", "data.target=cut", *FOR_CLASSES]),
    ("tabular", ["model.name=ft_transformer", "model.args.width=16", "data.target=cut", *FOR_CLASSES]),
    ("text_classification", ["model.name=ngrams", "train.limit_batches=null"]),
    ("text_classification", ["model.name=transformer", 'model.args={"width": 16, "blocks": 1, "buckets": 3000}']),
]


@pytest.mark.parametrize(("kind", "settings"), of_the_day(CLASSIFIERS, 1))
def test_each_classifier_is_calibrated(kind: str, settings: list[str], template: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    copy(template, project, extras="runs", data_kind=kind)
    quick = ["configs/train.yaml", "run.name=a", "run.device=cpu", "train.epochs=1", "train.limit_batches=12"]
    in_project(project, "-m", "my_project", "train", *quick, *settings)
    found = json.loads(in_project(project, "-m", "my_project", "calibrate", "a", "--json").stdout)
    before, after = found["valid"]["before"], found["valid"]["after"]
    assert after["acc"] == before["acc"]
    assert after["nll"] < before["nll"]
    assert sum(row["count"] for row in after["bins"]) == found["valid"]["predictions"]
    words = str(found["temperature"]), found["checkpoint"], found["calibrated"]
    assert float(in_project(project, "-c", SCALED, *words).stdout) < 1e-3


@pytest.mark.exhaustive
def test_an_exported_model_has_the_confidences_of_a_calibrated_checkpoint(template: Path, tmp_path: Path) -> None:
    project, main = tmp_path / "project", ("-m", "my_project")
    copy(template, project, extras="runs export")
    in_project(project, *main, "train", *QUICK, "run.name=a", "train.epochs=3", "train.limit_batches=null")
    found = json.loads(in_project(project, *main, "calibrate", "a", "--json").stdout)
    sample = str(min((project / "images/sample").glob("*.png")))
    in_project(project, *main, "export", found["calibrated"], "--only", "onnx")
    said = [
        json.loads(in_project(project, *main, *words, sample, "--json").stdout)[0]["probabilities"]
        for words in (
            ("run", "--checkpoint", found["checkpoint"]),
            ("run", "--checkpoint", found["calibrated"]),
            ("run-exported", "exports/a-calibrated"),
        )
    ]
    before, after, exported = ([*each.values()] for each in said)
    powers = [share ** (1 / found["temperature"]) for share in before]
    assert after == pytest.approx([power / sum(powers) for power in powers], abs=1e-5)
    assert exported == pytest.approx(after, abs=1e-5)
    assert max(map(abs, (a - b for a, b in zip(before, after, strict=True)))) > 1e-3


NOT_CALIBRATED = """
import torch
from torch import Tensor, nn
from my_project.commands._calibration import Confidences, find_layer, fit
from my_project.errors import UserError

class Task:
    def forward(self, model, batch):
        return model(batch[0])

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 5, bias=False)
    def forward(self, x):
        return self.head(x + self.head(x))

class Vague(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x))

def say(function):
    try:
        print(function())
    except UserError as error:
        print(str(error).partition(";")[0])

torch.manual_seed(0)
x, classes = torch.randn(8, 5), torch.arange(8) % 5
right = 9.0 * torch.nn.functional.one_hot(classes, 5)
def update(outputs, targets=classes):
    sums = Confidences("valid")
    sums.update(outputs, (x, targets))
    return sums
def layer(*layers):
    return find_layer(Task(), nn.Sequential(*layers).eval(), (x, classes)).name
say(lambda: update(x.softmax(dim=1)))
say(lambda: update(x / 0))
say(lambda: update(x, x))
say(lambda: update(x[:, 0]))
say(lambda: update(x, classes + 1))
say(lambda: update(right).check())
say(lambda: update(-right).check())
say(lambda: update(x, classes - 9).compute())
say(lambda: update(torch.randn(8, 5, 3, 3), torch.full((8, 3, 3), 255)).count)
say(lambda: update(torch.randn(8, 3, 5), (classes % 4)[:, None].expand(8, 3)).count)
say(lambda: layer(nn.Linear(5, 5), nn.Softmax(dim=1)))
say(lambda: layer(Tied()))
say(lambda: layer(Vague(5, 5)))
say(lambda: layer(nn.Linear(5, 5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)), nn.Identity()))
say(lambda: layer(nn.Linear(5, 5), nn.LayerNorm(5)))
"""


def test_what_has_no_temperature_is_an_error(project: Path) -> None:
    said = in_project(project, "-c", NOT_CALIBRATED).stdout.splitlines()
    none, scales = "valid: no temperature is the best: ", "no layer can be divided by a temperature "
    why = "a softmax or a norm follows it, or an earlier layer has the same weights"
    needs = "calibrate is for classification: it needs logits (N, classes) and targets (N,), numbers of classes"
    assert said == [
        "task.forward: returns probabilities",
        "valid: the model's logits are inf or NaN",
        needs,
        needs,
        "valid: has the target 5, the model 5 classes",
        f"{none}all 8 predictions are right, and a lower one is always better",
        f"{none}the logits are no better than chance, and a higher one is always better",
        "valid: has no sample of a known class",
        "0",
        "24",
        f"{scales}(0 (Linear)): {why}",
        f"{scales}(0.head (Linear)): {why}",
        f"{scales}(0 (Vague)): {why}",
        "1 (ParametrizedLinear)",
        "1 (LayerNorm)",
    ]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in KINDS])
def test_intervals_hold_the_figures_of_a_test(kind: str, template: Path, tmp_path: Path) -> None:
    copy(template, tmp_path / "project", extras="runs", data_kind=kind)
    settings = ["configs/train.yaml", "run.name=a", "run.device=cpu", "train.epochs=1", "train.limit_batches=2"]
    in_project(tmp_path / "project", "-m", "my_project", "train", *settings)
    words = ["-m", "my_project", "intervals", "a", "--json", "--resamples=100"]
    found = json.loads(in_project(tmp_path / "project", *words).stdout)
    tested = json.loads(in_project(tmp_path / "project", "-m", "my_project", "test", "a", "--json").stdout)
    assert found["metrics"]
    for name, (figure,) in found["metrics"].items():
        assert figure["value"] == pytest.approx(tested[name], rel=1e-3, abs=1e-6), name
        assert figure["low"] <= figure["value"] <= figure["high"], name


@pytest.fixture(scope="module")
def regressions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of tables with the run `log`, and its data in `turned` with the test rows in reverse."""
    folder = tmp_path_factory.mktemp("regressions") / "project"
    copy(template, folder, extras="runs", data_kind="tabular")
    train_table(folder, "log")
    shutil.copytree(folder / "data", folder / "turned")
    for path in (folder / "turned/test").glob("*.csv"):
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(reversed(rows)))
    return folder


def train_table(project: Path, name: str, *settings: str) -> None:
    quick = ["configs/train.yaml", "configs/debug.yaml", "train.epochs=1", "train.limit_batches=1", "run.device=cpu"]
    in_project(project, "-m", "my_project", "train", *quick, f"run.name={name}", *settings)


OTHER_TARGETS = r"test: the runs have different targets in \d+ of 1426 samples, the first is number 1; "
NO_METRIC = "no metric in common: r2, mae, rmse for the first, acc, auroc for the second; "


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("order", ["data.folder=turned"], OTHER_TARGETS),
        ("target", ["data.target=carat"], OTHER_TARGETS),
        ("task", ["data.target=cut", *FOR_CLASSES], NO_METRIC),
    ],
    ids=["order", "target", "task"],
)
def test_runs_with_other_samples_are_not_compared(
    name: str, settings: list[str], error: str, regressions: Path
) -> None:
    train_table(regressions, name, *settings)
    refused = in_project(regressions, "-m", "my_project", "intervals", "log", name, ok=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.match(f"error: {error}", refused.stderr), refused.stderr


def test_a_regression_is_not_calibrated(regressions: Path) -> None:
    refused = in_project(regressions, "-m", "my_project", "calibrate", "log", ok=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: calibrate is for classification: "), refused.stderr


def test_runs_with_other_inputs_are_compared_in_columns(regressions: Path) -> None:
    train_table(regressions, "plain", "data.target_log=false", "data.normalize=quantile", 'data.ignore=["cut"]')
    words = ["-m", "my_project", "intervals", "log", "plain", "--resamples=100"]
    lines = in_project(regressions, *words).stdout.splitlines()[3:]
    cells = [re.split("  +", line.strip()) for line in lines]
    assert cells[0] == ["first", "second", "first - second"]
    assert [(name, len(rest)) for name, *rest in cells[1:]] == [("r2", 3), ("mae", 3), ("rmse", 3)]
    starts = [lines[0].index(name) for name in ("first ", "second ", "first - ")]
    assert all(line[start - 1] == " " != line[start] for line in lines for start in starts)


TARGETS = """
import sys
import torch
from my_project.commands.intervals import TargetReader, differing
from my_project.config import load
from my_project.options import Config
from my_project.task import Task

def targets(*settings):
    config = load(Config, ["configs/train.yaml"], ["data.batch_size=1", *settings])
    task = Task(config, torch.device("cpu"))
    return list(map(TargetReader(task), task.eval_loader("test")))

one, two = targets(), targets(*sys.argv[1:])
print(len(differing(one, two)), len(differing(one, one[::-1])) > 0)
"""
OTHER_INPUTS = {
    "audio_classification": ["data.seconds=0.5"],
    "custom": ["data.normalize=false"],
    "image_classification": ["data.image_size=16"],
    "image_segmentation": ["data.max_size=32"],
    "language_modeling": ["data.tokens=bytes"],
    "object_detection": ["data.image_size=64"],
    "tabular": ["data.target_log=false", "data.normalize=quantile"],
    "text_classification": ["data.max_length=5"],
    "time_series": ["data.context=64", "data.scaling=train"],
}


@pytest.mark.parametrize(("kind", "settings"), of_the_day(sorted(OTHER_INPUTS.items()), 3))
def test_targets_are_the_same_whatever_the_inputs(
    kind: str, settings: list[str], template: Path, tmp_path: Path
) -> None:
    copy(template, tmp_path / "project", extras="runs", data_kind=kind)
    printed = in_project(tmp_path / "project", "-c", TARGETS, *settings).stdout
    assert printed.splitlines()[-1] == "0 True"
