"""Losses with parameters, optimizers, pretrained weights, seeds of workers, and several processes with uneven work."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Render, in_project

pytestmark = pytest.mark.slow

QUICK = ["configs/train.yaml", "run.device=cpu", "model.args.width=4", "run.name=a-run", "train.limit_batches=4"]
TWO = ["-m", "my_project.engine.launch", "--nproc-per-node=2"]
TESTS = Path(__file__).parent
LOSS = """

class Temperature(nn.Module):
    def __init__(self, start: float = 2.0) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(start))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return F.cross_entropy(logits * self.temperature, targets)


def weighted(logits: Tensor, targets: Tensor, weight: Tensor | None = None, scale: float = 1.0) -> Tensor:
    return scale * F.cross_entropy(logits, targets, weight)
"""


@pytest.fixture
def project(render: Render, tmp_path: Path) -> Path:
    project = tmp_path / "project"
    shutil.copytree(render(), project)
    with (project / "src/my_project/loss.py").open("a") as file:
        file.write(LOSS)
    return project


def train(project: Path, *settings: str, ok: bool = True) -> Any:
    return in_project(project, "-m", "my_project", "train", *settings, ok=ok)


def last(project: Path, name: str = "a-run") -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(project / f"checkpoints/{name}/last.pt", weights_only=True)
    return contents


# --- losses ---


def test_parameters_of_a_loss_are_trained_saved_and_tested(project: Path) -> None:
    train(project, *QUICK[:-1], "train.epochs=2", "loss.name=Temperature", "loss.args.start=1.5")
    saved = last(project)
    assert saved["loss"]["temperature"] != 1.5
    assert saved["loss"]["calls"] == 50, "validation is in eval mode"
    code = "import sys; from pathlib import Path; from my_project.engine.inference import load\n"
    code += "print(load(Path(sys.argv[1]), sys.argv[2:])[1].loss_function.temperature.item())"
    restored, other = (
        float(in_project(project, "-c", code, "checkpoints/a-run/last.pt", *more).stdout)
        for more in ([], ["loss.args.start=9.0"])
    )
    assert restored == pytest.approx(float(saved["loss"]["temperature"]), rel=1e-6)
    assert other == 9, "another loss is built as the settings say"
    row = (project / "checkpoints/a-run/metrics.csv").read_text().splitlines()
    figures = dict(zip(row[0].split(","), row[-1].split(","), strict=True))
    test = ["-m", "my_project", "test", "checkpoints/a-run/last.pt", "--split", "valid", "--json"]
    tested = json.loads(in_project(project, *test).stdout)
    assert tested["loss"] == pytest.approx(float(figures["valid_loss"]), rel=1e-6)


def test_a_run_of_v0_7_keeps_its_untrained_loss(project: Path) -> None:
    """Its checkpoints have neither the loss nor the loss's part of the optimizer."""
    train(project, *QUICK, "train.epochs=1", "loss.name=Temperature")
    saved = last(project)
    del saved["loss"]
    del saved["optimizer"]["state"][max(saved["optimizer"]["state"])]
    saved["optimizer"]["param_groups"].pop()
    for key in ("base_lrs", "_last_lr", "lr_lambdas"):
        saved["scheduler"][key].pop()
    torch.save(saved, project / "checkpoints/a-run/last.pt")
    for epochs in (2, 3):  # the second time from a checkpoint of this version
        train(project, "--resume", "a-run", f"train.epochs={epochs}")
        assert last(project)["loss"] is None
        assert last(project)["epoch"] == epochs
    in_project(project, "-m", "my_project", "test", "a-run")


def test_a_trained_loss_cannot_be_replaced_on_resume(project: Path) -> None:
    train(project, *QUICK, "train.epochs=1", "loss.name=Temperature")
    done = train(project, "--resume", "a-run", "train.epochs=2", "loss.args.start=3.0", ok=False)
    assert done.returncode == 2
    assert "error: loss: the run to resume has" in done.stderr


def test_lists_become_tensors_where_a_loss_wants_them(project: Path) -> None:
    code = """if True:
        import torch
        from torch.nn import functional as F
        from my_project.components import build_loss
        from my_project.errors import UserError
        from my_project.options import Component
        logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
        by_hand = F.cross_entropy(logits, targets, torch.tensor([1.0, 2.0, 1.0]))
        for name, args in (("CrossEntropyLoss", {}), ("weighted", {"scale": 1.0})):
            built = build_loss(Component(name=name, args={"weight": [1, 2, 1], **args}))
            assert torch.equal(built(logits, targets), by_hand)
            assert built.to(torch.float64).state_dict()["weight"].dtype == torch.float64, "it moves with the module"
        binary = build_loss(Component(name="BCEWithLogitsLoss", args={"pos_weight": 3}))
        shares = logits.sigmoid()
        assert binary(logits, shares) == F.binary_cross_entropy_with_logits(logits, shares, pos_weight=torch.tensor(3.))
        for name in ("CrossEntropyLoss", "weighted"):
            for weight in ([1, 2], ["a", "b", "c"], [[1, 2], [3]]):
                try:
                    build_loss(Component(name=name, args={"weight": weight}))(logits, targets)
                except UserError as error:
                    print(error)
    """
    said = in_project(project, "-c", code).stdout.splitlines()
    assert len(said) == 6
    assert all(line.startswith("loss.args") for line in said)
    done = train(project, *QUICK, "loss.args.weight=[1, 2]", ok=False)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "Traceback" in line] == []
    assert "error: loss.args: weight does not fit" in done.stderr


# --- optimizers ---


def test_every_optimizer_of_torch_trains_or_gives_the_reason(render: Render) -> None:
    code = """if True:
        import torch
        from torch import nn
        from my_project.components import build_optimizer, build_scheduler
        from my_project.errors import UserError
        from my_project.options import Optimizer, Scheduler
        for name, found in vars(torch.optim).items():
            if not isinstance(found, type) or found is torch.optim.Optimizer:
                continue
            torch.manual_seed(0)
            x, y = torch.randn(64, 1, 8, 8), torch.randint(3, (64,))
            layers = [nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 16), nn.LayerNorm(16), nn.Linear(16, 3)]
            model, losses = nn.Sequential(*layers), []
            try:
                optimizer = build_optimizer(Optimizer(name=name, decay_all=False), model)
            except UserError as error:
                print(error)
                continue
            scheduler = build_scheduler(Scheduler(), optimizer, 30)
            for step in range(30):
                if step == 15:
                    optimizer.load_state_dict(optimizer.state_dict())
                loss = nn.functional.cross_entropy(model(x), y)
                losses.append(loss.item())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
            assert losses[-1] < losses[0], name
    """
    said = in_project(render(), "-c", code).stdout.splitlines()
    assert sorted(line.split()[1] for line in said) == ["LBFGS", "Muon", "SparseAdam"]


def test_a_rule_combines_muon_with_adamw(render: Render) -> None:
    code = """if True:
        import torch
        from torch import nn
        from my_project.components import build_optimizer
        from my_project.options import Optimizer
        model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 9))
        by_hand = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 9))
        by_hand.load_state_dict(model.state_dict())
        hidden = [by_hand[1].weight, by_hand[2].weight]
        rest = [by_hand[0].weight, by_hand[1].bias, by_hand[2].bias, by_hand[3].weight, by_hand[3].bias]
        two = [torch.optim.Muon(hidden, 0.01, 0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")]
        two += [torch.optim.AdamW(rest, 0.01, weight_decay=0.1)]
        rule = {"match": "[12].*", "ndim": 2, "name": "Muon"}
        rule["args"] = {"momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}
        options = {"lr": 0.01, "weight_decay": 0.1, "groups": [rule]}
        one = build_optimizer(Optimizer.model_validate(options), model)
        tokens = torch.arange(9)
        for _ in range(4):
            for net, optimizers in ((model, [one]), (by_hand, two)):
                nn.functional.cross_entropy(net(tokens), tokens.flip(0)).backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            one.load_state_dict(one.state_dict())
        for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
            assert torch.equal(p, q)
    """
    in_project(render(extras="optimizers"), "-c", code)


# --- pretrained weights ---


def test_a_fine_tuned_checkpoint_needs_no_pretrained_file(project: Path) -> None:
    (project / "src/my_project/model/tuned.py").write_text("""if True:
        import torch
        from torch import nn

        def tuned(num_classes, in_channels=1, pretrained=None):
            model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * in_channels, num_classes))
            if pretrained:
                model[2].bias.data = torch.load(pretrained)
            return model
    """)
    weights = project / "weights.pt"
    torch.save(torch.full((10,), 50.0), weights)
    given = [*QUICK[:2], *QUICK[3:], "model.name=tuned", f"model.args.pretrained={weights}"]
    train(project, *given, "train.epochs=1")
    assert last(project)["model"]["2.bias"].min() > 40, "a new run begins with the pretrained weights"
    weights.unlink()
    in_project(project, "-m", "my_project", "test", "a-run")
    in_project(project, "-m", "my_project", "run", "images/sample")
    train(project, "--resume", "a-run", "train.epochs=2")
    assert last(project)["config"]["model"]["args"]["pretrained"] == str(weights)
    assert last(project)["model"]["2.bias"].min() > 40


# --- workers ---


def test_workers_draw_by_seed_rank_epoch_and_batch_only(render: Render) -> None:
    code = """if True:
        import random, sys
        import numpy as np, torch
        from my_project.data.dataloader import train_loader
        from my_project.engine import distributed
        from my_project.config import load
        from my_project.options import Config
        class Drawn(torch.utils.data.Dataset):
            def __len__(self):
                return 24
            def __getitem__(self, index):
                return torch.rand(1).item(), float(np.random.rand()), random.random()
        def drawn(seed=0, epochs=(0,), start=0, workers=2):
            config = load(Config, ["configs/train.yaml"], [f"run.seed={seed}", "data.transforms={}",
                          "data.batch_size=4", f"data.workers={workers}"])
            loader, batches = train_loader(Drawn(), config), []
            for epoch in epochs:
                loader.sampler.epoch, loader.sampler.start = epoch, start
                batches += [tuple(torch.stack(list(batch)).flatten().tolist()) for batch in loader]
            return batches
        whole = drawn(epochs=(0, 1))
        values = [value for batch in whole for value in batch]
        assert len(set(values)) == len(values) == 2 * 24 * 3, "none is drawn twice"
        assert drawn(epochs=(0, 1)) == whole
        assert drawn(epochs=(1,)) == whole[6:], "after a resume between epochs"
        assert drawn(epochs=(1,), start=8) == whole[8:], "and within one"
        assert drawn(workers=3) == whole[:6]
        assert not set(drawn(seed=1)) & set(whole)
        distributed.world, ranks = (lambda: 2), []
        for rank in range(2):
            distributed.rank = lambda: rank
            ranks.append({value for batch in drawn() for value in batch})
        assert not ranks[0] & ranks[1], "each rank has its own"
    """
    in_project(render(), "-c", code)


# --- memory ---


def test_no_more_than_two_micro_batches_are_held_at_once(render: Render) -> None:
    code = f"""if True:
        import sys, weakref
        sys.path.insert(0, {str(TESTS)!r})
        import torch, tiny
        from my_project.engine import loop
        from my_project.engine.session import Session
        from my_project.engine.state import build_state
        from pathlib import Path
        row = dict(scheduler="cosine", every="step", by="epochs", workers=0, loss="CrossEntropyLoss", decay_all=True,
                   accumulate=8, clip=None, ema=None, precision="fp32", compile=False, strategy="one", mode="min")
        config, device, alive, most = tiny.config_of(row, 1), torch.device("cpu"), weakref.WeakSet(), 0
        task = tiny.Tiny(config, device)
        state = build_state(config, task, device, 8)
        def batches():
            global most
            for _ in range(8):
                x, y = tiny.numbers(1, 8)
                alive.add(x)
                most = max(most, len(alive))
                yield x, y
                del x, y
        session = Session(config, task, Path("run"), state)
        samples = loop.train_step(state, session, batches(), 8)
        assert (samples, state.batches, state.samples) == (64, 8, 64)
        print(most)
    """
    assert int(in_project(render(), "-c", code).stdout) <= 2


# --- several processes ---


def launched(render: Render, tmp_path: Path, body: str, ok: bool = True, extras: str = "") -> Any:
    """Run a script in two processes, in which `row`, `tiny` and a function `train` are defined."""
    head = f"""import sys
sys.path.insert(0, {str(TESTS)!r})
import contextlib, io, os
from pathlib import Path
import torch, tiny
from torch import nn
from my_project import task
from my_project.engine import distributed, loop
from my_project.options import Distributed
row = dict(scheduler="cosine", every="step", by="epochs", workers=0, loss="CrossEntropyLoss", decay_all=True,
           accumulate=1,
           clip=0.5, ema=None, precision="fp32", compile=False, strategy="ddp", mode="min", resume="never")
RUN = Path({str(tmp_path)!r}) / "run"

def train(**changes):
    task.Task = tiny.Tiny
    return loop.train(tiny.config_of(row | changes, distributed.world()), RUN)

"""
    script = tmp_path / "script.py"
    script.write_text(head + body)
    return in_project(render(extras=extras) if extras else render(), *TWO, script, ok=ok)


MAIN = """
import my_project.cli as cli
from my_project.errors import UserError
try:
    with distributed.process_group("a-run"):
        BODY
except UserError as error:
    print("error:", error, flush=True)
    sys.exit(2)
"""


def test_a_parameter_without_a_gradient_is_named_under_ddp(render: Render, tmp_path: Path) -> None:
    body = """
class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.head = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)

tiny.make_model = lambda dropout: Unused()
"""
    done = launched(render, tmp_path, body + MAIN.replace("BODY", "train()"), ok=False)
    assert done.returncode == 2
    assert "model: no gradient for head.weight, head.bias" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("strategy", "accumulate"), [("ddp", 1), ("ddp", 2), ("fsdp", 2)])
def test_processes_with_unequal_batches_end_their_epochs_together(
    strategy: str, accumulate: int, render: Render, tmp_path: Path
) -> None:
    """In the second run, one loader yields fewer than its `__len__`: with fsdp, the other process skips batches."""
    body = f"""
def loader(self):
    x, y = tiny.numbers(1, 64)
    return [(x[i : i + 4], y[i : i + 4]) for i in range(0, 64, 4)][: 5 + 2 * distributed.rank()]

def wrong(self):
    class Loader(list):
        def __len__(self):
            return 7
    return Loader(loader(self))

with distributed.process_group("a-run", Distributed(timeout_minutes=1)):
    ends = []
    for tiny.Tiny.train_loader in (loader, wrong):
        state = train(accumulate={accumulate}, strategy="{strategy}", scheduler="steps")
        weight = next(state.model.parameters())
        ends.append((weight.full_tensor() if hasattr(weight, "full_tensor") else weight).tolist())
        weights = distributed.gather(ends[-1])
        if distributed.rank() == 0:
            print("same" if weights[0] == weights[1] else "different", state.step, flush=True)
            print("all batches alike", ends[0] == ends[-1], flush=True)
        RUN = RUN.with_name("again")
        while distributed._wrapped:
            distributed._wrapped.pop()
"""
    said = launched(render, tmp_path, body, extras="fsdp" if strategy == "fsdp" else "").stdout
    steps = {1: 15, 2: 9}[accumulate]
    assert said.count(f"same {steps}") == 2
    assert ("all batches alike False" in said) == ((strategy, accumulate) == ("ddp", 2))
    assert "processes have [5, 7] batches; each takes 5 per epoch" in said


def test_the_time_to_wait_for_a_process_can_be_set(render: Render, tmp_path: Path) -> None:
    body = """
from my_project.errors import UserError
import time
try:
    with distributed.process_group("a-run", Distributed(timeout_minutes=0.02)):
        if distributed.rank() == 1:
            time.sleep(4)
        distributed.all_sum()
except UserError as error:
    print(error, flush=True)
    sys.exit(2)
"""
    done = launched(render, tmp_path, body, ok=False)
    assert done.returncode == 2
    assert "waited 0.02 minutes for another process (distributed.timeout_minutes)" in done.stdout


def test_fsdp_splits_by_block_shares_tied_weights_and_reduces_once(render: Render, tmp_path: Path) -> None:
    body = """
class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.head = Inner(), nn.Linear(8, 11, bias=False)
        self.head.weight = self.model.embed.weight

    def forward(self, x):
        return self.head(self.model(x))

def data():
    tokens = torch.randint(11, (16,), generator=torch.Generator().manual_seed(0))
    return tokens, tokens.flip(0)

from types import SimpleNamespace
from torch.distributed.fsdp import FSDPModule
from my_project.engine import sharded
from torch.distributed.fsdp._fully_shard import _fsdp_param_group
calls, reduce = [], _fsdp_param_group.foreach_reduce
_fsdp_param_group.foreach_reduce = lambda *args, **rest: (calls.append(1), reduce(*args, **rest))[1]
x, y = data()
with distributed.process_group("a-run"):
    torch.manual_seed(0)
    model, alone = Outer(), Outer()
    alone.load_state_dict(model.state_dict())
    config = SimpleNamespace(distributed=Distributed(strategy="fsdp"))
    net = distributed.wrap(model, config, torch.device("cpu"), None)
    if distributed.rank() == 0:
        print([name for name, m in model.named_modules() if isinstance(m, FSDPModule)])
    one, two = torch.optim.SGD(model.parameters(), 0.5), torch.optim.SGD(alone.parameters(), 0.5)
    mine = slice(8 * distributed.rank(), 8 * distributed.rank() + 8)
    for _ in range(3):
        calls.clear()
        for number, part in enumerate(zip(x[mine].chunk(4), y[mine].chunk(4))):
            with distributed.accumulating(net, number < 3):
                (nn.functional.cross_entropy(net(part[0]), part[1]) / 4).backward()
        one.step()
        one.zero_grad()
        nn.functional.cross_entropy(alone(x), y).backward()
        two.step()
        two.zero_grad()
    if distributed.rank() == 0:
        print("reduced", len(calls))
    for (name, p), q in zip(model.named_parameters(), alone.parameters()):
        torch.testing.assert_close(p.full_tensor(), q, rtol=1e-5, atol=1e-6, msg=name)
    described = sharded.state_dicts(model, None, one, nn.Module())
    if distributed.rank() == 0:
        print("saved", sorted(described["tensors"]["model"]) == sorted(model.state_dict()))
"""
    said = launched(render, tmp_path, body, extras="fsdp").stdout.splitlines()
    blocks = "['', 'model.layers.0', 'model.layers.1', 'model.layers.2']"
    assert said == [blocks, "reduced 4", "saved True"]
