"""What owners add without a change to the engine: hooks, runs by steps, optimizers, training steps, streams."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Render, in_project

pytestmark = pytest.mark.slow

WEIGHT_NORM = """

class WeightNorm:
    def on_log(self, session, figures):
        figures["weight_norm"] = float(sum(weight.square().sum() for weight in session.weights))
        figures["norm/first"] = float(session.weights[0].norm())
"""
LAUNCH = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]


def play(project: Path, folder: Path, code: str, processes: int = 1, ok: bool = True) -> Any:
    """Run a program that imports seams.py, in a folder for its runs; returns its standard output."""
    program = folder / "program.py"
    lines = [f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})", "from seams import *"]
    lines += ["with tiny.part('engine.distributed').process_group('seams'):"]
    program.write_text("\n".join(lines + [f"    {line}" for line in code.splitlines()]))
    done = in_project(project, *(LAUNCH if processes > 1 else []), program, ok=ok, RUNS=str(folder))
    return done.stdout if ok else done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_by_steps_validates_and_ends_at_these_steps(processes: int, render: Render, tmp_path: Path) -> None:
    code = f"""
state = train("{tmp_path}/run", config(train={{"max_steps": 23, "log_every": 4}}, valid={{"every_steps": 5}}))
if state.step != 23 or state.total_steps != 23 or state.scheduler.last_epoch != 23:
    raise SystemExit(f"{{state.step}} {{state.total_steps}} {{state.scheduler.last_epoch}}")
"""
    said = play(render(), tmp_path, code, processes)
    found = rows(tmp_path / "run/metrics.csv")
    assert [row["epoch"] for row in found] == ["1", "1", "2", "2", "3"]
    assert [row["step"] for row in found] == ["5", "10", "15", "20", "23"]
    assert [row["step"] for row in rows(tmp_path / "run/steps.csv")] == ["4", "8", "12", "16", "20"]
    assert "step 15/23  epoch 2  train_loss " in said
    assert "  eta 0:00:0" in said
    assert (tmp_path / "run/train.log").read_text() == said


@pytest.mark.parametrize(
    "stop_at", [5, 10, 23, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 6, 11, 16))]
)
def test_a_stopped_run_by_steps_resumes_bit_for_bit(stop_at: int, render: Render, tmp_path: Path) -> None:
    code = f"""
settings = config(
    train={{"max_steps": 23, "log_every": 4, "ema": 0.9}}, valid={{"every_steps": 5}},
    scheduler={{"name": "ReduceLROnPlateau", "args": {{"patience": 0}}}},
)
one, two = train("{tmp_path}/one", settings), resumed("{tmp_path}/two", settings, stop_at={stop_at})
for whole, part in zip(one.evaluated.parameters(), two.evaluated.parameters(), strict=True):
    assert torch.equal(whole, part)
for name in ("best", "best_file", "step", "epoch", "batches", "stale"):
    assert getattr(one, name) == getattr(two, name), name
drop = lambda rows: [{{k: v for k, v in row.items() if k != "seconds"}} for row in rows]
assert drop(one.rows) == drop(two.rows)
"""
    play(render(), tmp_path, code)
    one, two = (rows(tmp_path / name / "steps.csv") for name in ("one", "two"))
    for whole, part in zip(one, two, strict=True):
        for key in ("step", "loss", "acc", "grad_norm", "learning_rate"):
            assert whole[key] == part[key]


def test_a_run_killed_between_saves_has_each_row_once(render: Render, tmp_path: Path) -> None:
    """It resumes from the state right after a validation, which is older than its files."""
    code = f"""
settings = config(train={{"max_steps": 12, "log_every": 1}}, valid={{"every_steps": 5}})
one = train("{tmp_path}/run", settings)
earlier = tiny.part("engine.checkpoint").load(Path("{tmp_path}/run/earlier/step-00000010.pt"))
two = train("{tmp_path}/run", settings, resume=earlier)
for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
    assert torch.equal(whole, part)
"""
    play(render(), tmp_path, code)
    assert [row["step"] for row in rows(tmp_path / "run/metrics.csv")] == ["5", "10", "12"]
    assert [row["step"] for row in rows(tmp_path / "run/steps.csv")] == [str(n) for n in range(1, 13)]


def test_a_row_that_cannot_be_written_is_there_once_after_a_resume(render: Render, tmp_path: Path) -> None:
    """The error comes before the state has the metrics of the validation; then the state is saved."""
    code = f"""
tracking, errors = tiny.part("engine.tracking"), tiny.part("errors")
settings, write = config(train={{"epochs": 2}}), tracking.CSV.write
one = train("{tmp_path}/one", settings)
def fail(self):
    if self.path.name == "metrics.csv":
        raise errors.UserError("the disk is full")
    write(self)
tracking.CSV.write = fail
try:
    train("{tmp_path}/two", settings)
    sys.exit("no error came")
except errors.UserError:
    tracking.CSV.write = write
two = train("{tmp_path}/two", settings, resume=tiny.part("engine.checkpoint").newest(Path("{tmp_path}/two")))
drop = lambda rows: [{{k: v for k, v in row.items() if k != "seconds"}} for row in rows]
assert drop(one.rows) == drop(two.rows)
"""
    said = play(render(), tmp_path, code)
    assert "saved at step 10; fix the error below" in said
    assert [row["step"] for row in rows(tmp_path / "two/metrics.csv")] == ["10", "20"]


def test_samples_that_are_a_dataset_are_not_read_at_the_start(render: Render, tmp_path: Path) -> None:
    code = f"""
class Slow(tiny.Pairs):
    reads = 0
    def __getitem__(self, index):
        Slow.reads += 1
        return super().__getitem__(index)

class Wrapped(tiny.Tiny):
    def train_loader(self):
        pairs = tiny.Pairs(*tiny.numbers(1, tiny.SAMPLES))
        pairs.samples = Slow(pairs.x, pairs.y)
        return tiny.part("data.dataloader").train_loader(pairs, self.config)

train("{tmp_path}/run", config(train={{"epochs": 1}}), Wrapped)
assert Slow.reads == 0
"""
    play(render(), tmp_path, code)


def test_a_hook_gets_every_event_and_its_state_and_metrics_are_saved(render: Render, tmp_path: Path) -> None:
    code = f"""
heard = []
settings = config(train={{"epochs": 2, "log_every": 5}})
state = resumed("{tmp_path}/run", settings, stop_at=12, hooks=lambda: [Listener(heard)])
print(heard)
"""
    said = play(render(), tmp_path, code).splitlines()[-1]
    first = [f"gradients {step}" for step in range(10)]
    first[0:0] = ["start 0"]
    expected = [*first, "epoch 10", "save 10", "gradients 10", "gradients 11", "save 12", "exception 12"]
    again = [f"gradients {step}" for step in range(12, 20)]
    assert said == str([*expected, "start 12", *again, "epoch 20", "save 20", "end 20"])
    assert [row["steps"] for row in rows(tmp_path / "run/steps.csv")] == ["4", "9", "14", "19"]
    assert [row["steps"] for row in rows(tmp_path / "run/metrics.csv")] == ["10", "20"]


def test_hooks_are_on_rank_0_or_in_all_processes(render: Render, tmp_path: Path) -> None:
    code = f"""
heard = []
train("{tmp_path}/run", config(train={{"max_steps": 2}}), hooks=[Listener(heard, True), Finish(1)])
rank = tiny.part("engine.distributed").rank()
open("{tmp_path}/heard" + str(rank), "w").write(str(heard))
heard.clear()
train("{tmp_path}/other", config(train={{"max_steps": 2}}), hooks=[Listener(heard)])
assert bool(heard) == (rank == 0)
"""
    play(render(), tmp_path, code, processes=2)
    one, two = ((tmp_path / f"heard{rank}").read_text() for rank in (0, 1))
    assert one == two
    assert one.startswith("['start 0', 'gradients 0', 'gradients 1'")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_hook_ends_a_run_with_a_validation(processes: int, render: Render, tmp_path: Path) -> None:
    code = f"state = train('{tmp_path}/run', config(), hooks=[Finish(13)]); print(state.step)"
    last = 13 if processes == 1 else 14
    assert play(render(), tmp_path, code, processes).splitlines()[-1] == str(last)
    assert [row["step"] for row in rows(tmp_path / "run/metrics.csv")] == ["10", str(last)]


def test_a_hook_of_the_config_is_named_with_its_arguments(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(), tmp_path / "project")
    train = ["-m", "my_project", "train", "train.limit_batches=3", "train.epochs=1", "train.log_every=1"]
    with (project / "src/my_project/hooks.py").open("a") as file:
        file.write(WEIGHT_NORM)
    said = in_project(project, *train, "run.name=a", "train.hooks.WeightNorm={}").stdout
    assert "  weight_norm " in said
    assert "norm/first" not in said
    assert all(float(row["norm/first"]) > 0 for row in rows(project / "checkpoints/a/steps.csv"))
    assert all(float(row["weight_norm"]) > 1 for row in rows(project / "checkpoints/a/steps.csv"))
    wrong = {
        "train.hooks.WeightNrom={}": "error: train.hooks: unknown name 'WeightNrom'; did you mean 'WeightNorm'?",
        "train.hooks.WeightNorm.every=3": "error: train.hooks: WeightNorm takes no argument 'every'; there are none",
    }
    for setting, message in wrong.items():
        assert in_project(project, *train, setting, ok=False).stderr.strip() == message
    (project / "src/my_project/hooks.py").unlink()
    said = in_project(project, *train, "train.hooks.WeightNorm={}", ok=False).stderr
    assert said == "error: train.hooks: the package has no hooks.py; docs/recipes.md shows one\n"
    in_project(project, *train)


def test_the_profiler_writes_a_table_and_a_trace(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(), tmp_path / "project")
    train = ["-m", "my_project", "train", "train.limit_batches=16", "train.epochs=1", "data.batch_size=4"]
    said = in_project(project, *train, "run.name=a", "--profile").stdout
    assert "aten::convolution" in said
    trace = json.loads((project / "checkpoints/a/trace-0.json").read_text())
    assert sum(event["name"].startswith("Optimizer.step") for event in trace["traceEvents"]) == 10


def test_rules_give_parameters_their_own_rate_decay_and_optimizer(render: Render, tmp_path: Path) -> None:
    code = f"""
rules = [
    {{"match": "0.*", "ndim": 2, "name": "Muon", "lr": 0.1, "args": {{"momentum": 0.5}}}},
    {{"match": "*.bias", "weight_decay": 0.0, "args": {{"betas": [0.5, 0.6]}}}},
]
settings = config(optimizer={{"groups": rules}}, scheduler={{"name": "StepLR", "args": {{"step_size": 15}}}})
one, two = train("{tmp_path}/one", settings), resumed("{tmp_path}/two", settings, stop_at=17)
for each in (one, two):
    for group in each.optimizer.param_groups:
        names = [n for n, p in each.model.named_parameters() for q in group["params"] if p is q]
        print(names, round(group["lr"], 6), group["weight_decay"], group.get("betas"), group.get("momentum"))
for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
    assert torch.equal(whole, part)
muon = [o for o in two.optimizer.each if isinstance(o, torch.optim.Muon)]
assert len(muon) == 1 and len(muon[0].state) == 1
"""
    lines = play(render(extras="optimizers"), tmp_path, code).splitlines()
    ours = [line for line in lines if line.startswith("[")]
    assert ours[:3] == ours[3:]
    assert set(ours) == {
        "['0.weight'] 0.001 0.01 None 0.5",
        "['0.bias', '3.bias'] 0.0002 0.0 [0.5, 0.6] None",
        "['3.weight'] 0.0002 0.01 (0.9, 0.999) None",
    }


def test_rules_train_in_two_processes_as_in_one(render: Render, tmp_path: Path) -> None:
    code = f"""
rules = [{{"match": "0.*", "ndim": 2, "name": "Muon", "lr": 0.1}}, {{"match": "3.*", "lr": 0.003}}]
settings = config(optimizer={{"groups": rules}}, model={{"args": {{"dropout": 0.0}}}})
class Plain(tiny.Tiny):
    def loss(self, outputs, batch):
        return F.cross_entropy(outputs, batch[1])  # class weights would count in each process apart
train("{tmp_path}/" + str(tiny.part("engine.distributed").world()), settings, Plain)
"""
    for processes in (1, 2):
        play(render(extras="optimizers"), tmp_path, code, processes)
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in "12")
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('{match: "nothing.*"}', "error: optimizer.groups: no parameter fits nothing.*"),
        ('{match: "*", args: {betta: 1}}', "error: optimizer.groups: AdamW takes no argument 'betta'"),
        ('{match: "*", name: Adma}', "error: optimizer.groups: unknown name 'Adma'"),
        ('{match: "*", name: Muon}', "error: optimizer: Muon"),
        ("{lr: 1}", "error: optimizer.groups.0.match: Field required"),
        ('{match: "*", args: {lr: -1}}', "error: optimizer.groups.args.lr: is set by optimizer.groups.lr"),
        ('{match: "*", args: {betas: high}}', "error: optimizer.groups: "),
        ('{match: "*", ndim: 2, name: Muon, args: {momentum: high}}', "error: optimizer.groups: "),
        ('{match: "*"}, {match: "*", ndim: 2}', "error: optimizer.groups: no parameter that earlier rules leave"),
        ('{match: "*", name: LBFGS}', "error: optimizer.groups: LBFGS cannot be used: it needs the loss several times"),
    ],
)
def test_a_wrong_rule_is_one_clear_error(rule: str, message: str, render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="optimizers"), tmp_path / "project")
    train = ["-m", "my_project", "train", "train.limit_batches=1"]
    said = in_project(project, *train, f"optimizer.groups=[{rule}]", ok=False).stderr
    assert message in said
    assert "Traceback" not in said


def test_rules_and_own_steps_name_the_extra_that_they_need(render: Render, tmp_path: Path) -> None:
    settings = "config(optimizer={'groups': [{'match': '*', 'lr': 1.0}]})"
    for what, key in ((f"{settings}", "optimizer.groups:"), ("config(), GAN", "task: train_step")):
        said = play(render(), tmp_path, f"train('{tmp_path}/run', {what})", ok=False)
        assert f"UserError: {key} needs extras=optimizers (docs/updating.md)" in said


@pytest.mark.parametrize("processes", [1, 2])
def test_two_optimizers_and_steps_train_like_a_loop_by_hand(processes: int, render: Render, tmp_path: Path) -> None:
    code = f"""
settings = config()
state = train("{tmp_path}/run", settings, GAN)
if tiny.part("engine.distributed").rank() == 0:
    print([[float(row["train_loss"]) for row in state.rows], gan_by_hand(settings)])
"""
    ours, by_hand = json.loads(play(render(extras="optimizers"), tmp_path, code, processes).splitlines()[-1])
    assert len(ours) == 3
    assert ours == pytest.approx(by_hand, rel=1e-5)


def test_own_optimizers_resume_bit_for_bit(render: Render, tmp_path: Path) -> None:
    code = f"""
class Stopping(GAN):
    def train_step(self, model, batch, update):
        tiny.Tiny.forward(self, model["discriminator"], batch)  # it sends the signal
        return super().train_step(model, batch, update)
one, two = train("{tmp_path}/one", config(), GAN), resumed("{tmp_path}/two", config(), Stopping, stop_at=14)
for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
    assert torch.equal(whole, part)
"""
    play(render(extras="optimizers"), tmp_path, code)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stream_of_dicts_trains_by_steps(processes: int, render: Render, tmp_path: Path) -> None:
    code = f"""
settings = config(train={{"max_steps": 30}}, valid={{"every_steps": 10}}, scheduler={{"every": "step"}})
state = train("{tmp_path}/run", settings, Dicts)
assert state.step == 30 and state.epoch == 0
assert state.samples == 8 * 30 * {processes}
"""
    play(render(), tmp_path, code, processes)
    found = rows(tmp_path / "run/metrics.csv")
    assert [row["step"] for row in found] == ["10", "20", "30"]
    assert float(found[-1]["valid_loss"]) < float(found[0]["valid_loss"])


def test_a_stream_needs_a_number_of_steps(render: Render, tmp_path: Path) -> None:
    said = play(render(), tmp_path, f"train('{tmp_path}/run', config(), Dicts)", ok=False)
    assert "UserError: train.max_steps: set it, since the training data has no length" in said


def test_a_stopped_stream_resumes_bit_for_bit(render: Render, tmp_path: Path) -> None:
    code = f"""
settings = config(train={{"max_steps": 12}}, valid={{"every_steps": 5}})
one, two = train("{tmp_path}/one", settings, Dicts), resumed("{tmp_path}/two", settings, Dicts, stop_at=8)
for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
    assert torch.equal(whole, part)
"""
    play(render(), tmp_path, code)


def test_an_own_loader_that_shuffles_resumes_bit_for_bit(render: Render, tmp_path: Path) -> None:
    code = f"""
class Shuffled(tiny.Tiny):
    def train_loader(self):
        data = tiny.Pairs(*tiny.numbers(1, tiny.SAMPLES))
        return torch.utils.data.DataLoader(data, tiny.SIZE, shuffle=True)
one, two = train("{tmp_path}/one", config(), Shuffled), resumed("{tmp_path}/two", config(), Shuffled, stop_at=14)
for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
    assert torch.equal(whole, part)
assert one.rows[0]["train_loss"] != one.rows[1]["train_loss"]
"""
    play(render(), tmp_path, code)
