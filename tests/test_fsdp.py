"""The extra `fsdp`: the errors of a project without it, updates, and FSDP together with other features."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import Render, copy, in_project, save, unmerged, update
from test_seams import play, rows
from test_training import launched

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


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("param_dtype=fp8", "param_dtype: Input should be 'fp32' or 'bf16', got 'fp8'"),
        ("dtype=bf16", "dtype: Extra inputs are not permitted, got 'bf16'"),
    ],
)
def test_a_wrong_option_of_fsdp_is_one_clear_error(setting: str, said: str, project: Path) -> None:
    done = in_project(project, *TRAIN, "--smoke", FSDP, f"distributed.fsdp.{setting}", ok=False)
    known = "there are: activation_checkpointing, param_dtype, meta_device"
    assert done.stderr == f"error: distributed.fsdp.{said}; {known}\n"


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


def within(releases: list[str]) -> list[str]:
    """The releases that have FSDP without an extra."""
    return releases[: releases.index("v0.10.0")]


def test_an_update_removes_sharded_unless_the_extra_is_added(
    template: Path, releases: list[str], tmp_path: Path
) -> None:
    project, edited = tmp_path / "project", tmp_path / "edited"
    copy(template, project, within(releases)[-1])
    save(project)
    shutil.copytree(project, edited)
    with (edited / SHARDED).open("a") as file:
        file.write("\n# mine\n")
    save(edited, "mine")
    added = shutil.copytree(edited, tmp_path / "added")
    update(project)
    assert (unmerged(project), (project / SHARDED).exists()) == ([], False)
    update(edited, ok=False)
    assert (unmerged(edited), (edited / SHARDED).exists()) == ([SHARDED], True)
    update(added, extras="runs fsdp")
    assert (unmerged(added), (added / SHARDED).read_text()[-8:]) == ([], "\n# mine\n")


@pytest.mark.parametrize("which", ["last", pytest.param("all others", marks=pytest.mark.exhaustive)])
def test_runs_of_earlier_releases_resume_from_their_shards(
    which: str, template: Path, releases: list[str], tmp_path: Path
) -> None:
    for version in within(releases)[-1:] if which == "last" else within(releases)[:-1]:
        project = tmp_path / version
        copy(template, project, version)
        if not (project / SHARDED).exists():
            continue
        save(project)
        in_project(project, *TWO, *TRAIN, *QUICK, FSDP, "run.name=split", "train.ema=0.5")
        update(project, extras="fsdp")
        in_project(project, "-m", "my_project", "test", "split")
        in_project(project, *TWO, *TRAIN, "--resume", "split", "train.epochs=2")
        assert torch.load(project / "checkpoints/split/last.pt", weights_only=True)["epoch"] == 2


def test_blocks_are_recomputed_and_gathered_in_bf16(render: Render, tmp_path: Path) -> None:
    """Every second block; those with a batch norm are left out, because it would count a batch twice."""
    body = """
from types import SimpleNamespace
from my_project.errors import UserError

class Block(nn.Sequential):
    def __init__(self, norm):
        super().__init__(nn.Linear(6, 6), norm(6), nn.Tanh())
        self.ran, self.kinds = 0, set()

    def forward(self, x):
        self.ran += 1
        self.kinds |= {self[0].weight.dtype}
        return super().forward(x)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(map(Block, [nn.LayerNorm, nn.LayerNorm, nn.BatchNorm1d, nn.LayerNorm]))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

def gradient(dtype, every, split=True):
    torch.manual_seed(0)
    model = Model()
    own = {"activation_checkpointing": every, "param_dtype": dtype}
    config = SimpleNamespace(distributed=Distributed(strategy="fsdp", fsdp=own))
    net = distributed.wrap(model, config, torch.device("cpu"), None) if split else model
    out = net(torch.randn(8, 6, generator=torch.Generator().manual_seed(1)))
    out.square().sum().backward()
    grad = model.blocks[0][0].weight.grad
    said = [block.ran for block in model.blocks], {str(kind) for block in model.blocks for kind in block.kinds}
    return grad.full_tensor() if split else grad, out.dtype, said

with distributed.process_group("a-run"):
    known, *_ = gradient("fp32", 0, split=False)
    for dtype, every in [("fp32", 0), ("fp32", 2), ("bf16", 1)]:
        grad, kind, said = gradient(dtype, every)
        assert kind == torch.float32 == grad.dtype
        apart = float((grad - known).norm() / known.norm())
        assert apart < (0.1 if dtype == "bf16" else 1e-5), apart
        if distributed.rank() == 0:
            print(*said, flush=True)
    distributed.all_sum()
    try:
        config = SimpleNamespace(distributed=Distributed(strategy="fsdp", fsdp={"activation_checkpointing": 1}))
        distributed.wrap(nn.Sequential(Block(nn.BatchNorm1d)), config, torch.device("cpu"), None)
    except UserError as error:
        print(error, flush=True)

    class Odd(nn.Module):
        def __init__(self, *shape):
            super().__init__()
            self.norm, self.scales = nn.BatchNorm1d(4), nn.ParameterList([torch.ones(shape)])

        def forward(self, x):
            return self.norm(x) * self.scales[0]

    config = SimpleNamespace(distributed=Distributed(strategy="fsdp", fsdp={"param_dtype": "bf16"}))
    distributed.wrap(Odd(4), config, torch.device("cpu"), None)(torch.ones(3, 4)).sum().backward()
    try:
        distributed.wrap(Odd(), config, torch.device("cpu"), None)
    except UserError as error:
        print(error, flush=True)
"""
    said = launched(render, tmp_path, body, extras="fsdp").stdout.splitlines()
    fp32, bf16 = "{'torch.float32'}", "{'torch.bfloat16'}"
    assert said[:3] == [f"[1, 1, 1, 1] {fp32}", f"[2, 1, 1, 2] {fp32}", f"[2, 2, 1, 2] {bf16}"]
    reason = "the model has no block of several modules without batch norm; set it to 0"
    scalar = "model: fsdp splits no scalar, scales.0; give it a dimension: torch.ones(1)"
    assert sorted(said[3:]) == sorted([f"distributed.fsdp.activation_checkpointing: {reason}", scalar] * 2)


def test_an_operation_in_place_on_what_a_split_layer_returns_is_right(render: Render, tmp_path: Path) -> None:
    """A linear layer returns a view of more than two dimensions, as do many models."""
    body = """
import warnings
from types import SimpleNamespace

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.first(x)
        x += 1
        return self.second(x)

def gradients(split):
    torch.manual_seed(0)
    model = Model()
    config = SimpleNamespace(distributed=Distributed(strategy="fsdp"))
    net = distributed.wrap(model, config, torch.device("cpu"), None) if split else model
    out = net(torch.ones(3, 5, 4))
    out *= 2
    out.square().sum().backward()
    return [p.grad.full_tensor() if split else p.grad for p in model.parameters()]

warnings.simplefilter("error")
with distributed.process_group("a-run"):
    torch.testing.assert_close(gradients(True), gradients(False))
"""
    launched(render, tmp_path, body, extras="fsdp")


def test_shards_are_written_while_the_next_step_runs(render: Render, tmp_path: Path) -> None:
    """With `checkpoint.background`. A write waits for the next step here; a failed one is an error with its folder."""
    body = """
import threading
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from my_project.errors import UserError
stepped, write, step, config_of = threading.Event(), FileSystemWriter.write_data, loop.train_step, tiny.config_of
met = []

def write_data(self, *rest):
    if distributed.rank() == 1 and RUN.name == "again":
        raise OSError("the disk is full")
    if not met:
        met.append(stepped.wait(20))
    return write(self, *rest)

def train_step(state, *rest):
    if state.step == 2:
        stepped.set()
    return step(state, *rest)

def in_background(*arguments):
    config = config_of(*arguments)
    checkpoint = config.checkpoint.model_copy(update={"background": True, "every_steps": 2})
    return config.model_copy(update={"checkpoint": checkpoint})

FileSystemWriter.write_data, loop.train_step, tiny.config_of = write_data, train_step, in_background
with distributed.process_group("a-run", Distributed(timeout_minutes=1)):
    train(strategy="fsdp", ema=0.5)
    print("met", met, flush=True)
    RUN = RUN.with_name("again")
    try:
        train(strategy="fsdp")
    except UserError as error:
        print(str(error).replace(str(RUN), ""), flush=True)
"""
    said = launched(render, tmp_path, body, extras="fsdp").stdout
    assert said.count("met [True]") == 2
    assert said.count("/shards-00000002: cannot be written (") == 2
    assert "the disk is full" in said


GPT = ["model.name=gpt", "model.args={layers: 12, width: 32, heads: 2, dropout: 0.0}", "data.batch_size=4"]
GPT += ["train.accumulate=4", "train.limit_batches=16", "train.max_steps=6", "valid.every_steps=2", "run.device=cpu"]


@pytest.fixture(scope="module")
def language(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers = {"data_kind": "language_modeling", "extras": "fsdp"}
    return shutil.copytree(render(**answers), tmp_path_factory.mktemp("language") / "project")


def losses(project: Path, name: str) -> list[float]:
    rows = (project / "checkpoints" / name / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("valid_loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


def test_a_gpt_of_twelve_blocks_is_split_into_these_and_the_rest(language: Path) -> None:
    """Its output layer has the weights of its embedding. Gradients are exchanged once in four batches."""
    code = """
from types import SimpleNamespace
import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode
from my_project.engine import distributed
from my_project.model.gpt import gpt
from my_project.options import Distributed

class Counted(TorchDispatchMode):
    sums = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        Counted.sums += "reduce" in str(function)
        return function(*args, **(kwargs or {}))

with distributed.process_group("a-run"):
    model = gpt(40, 16, width=32, layers=12, heads=2, dropout=0.0)
    config = SimpleNamespace(distributed=Distributed(strategy="fsdp"))
    net = distributed.wrap(model, config, torch.device("cpu"), None)
    units = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    with Counted():
        for number in range(4):
            with distributed.accumulating(net, number < 3):
                net(torch.zeros(2, 16, dtype=torch.int64)).square().mean().backward()
    if distributed.rank() == 0:
        print(len(units), units[0] == "", Counted.sums)
"""
    done = in_project(language, "-m", "my_project.engine.launch", "--nproc-per-node=2", write(language, code))
    assert done.stdout.split() == ["13", "True", "13"]


def test_a_weight_that_a_block_shares_with_the_rest_is_split_with_the_rest(language: Path) -> None:
    """As in nanoGPT, whose embedding is in a ModuleDict with the blocks, and its output layer beside it."""
    code = """
from types import SimpleNamespace
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from my_project.engine import distributed
from my_project.options import Distributed

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))
        self.parts = nn.ModuleDict({"embed": nn.Embedding(11, 8), "blocks": blocks, "norm": nn.LayerNorm(8)})
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.parts["embed"].weight

    def forward(self, x):
        x = self.parts["embed"](x)
        for block in self.parts["blocks"]:
            x = block(x)
        return self.head(self.parts["norm"](x))

with distributed.process_group("a-run"):
    torch.manual_seed(0)
    model, alone = Model(), Model()
    alone.load_state_dict(model.state_dict())
    config = SimpleNamespace(distributed=Distributed(strategy="fsdp"))
    net = distributed.wrap(model, config, torch.device("cpu"), None)
    x = torch.arange(10)[None]
    for each in (net, alone):
        each(x).square().sum().backward()
    for p, q in zip(model.parameters(), alone.parameters()):
        torch.testing.assert_close(p.grad.full_tensor(), q.grad)
    if distributed.rank() == 0:
        print(*(name for name, module in model.named_modules() if name and isinstance(module, FSDPModule)))
"""
    done = in_project(language, "-m", "my_project.engine.launch", "--nproc-per-node=2", write(language, code))
    assert done.stdout.split() == ["parts.blocks.0", "parts.blocks.1", "parts.norm"]


def test_a_model_starts_on_the_meta_device_and_no_process_holds_it(language: Path) -> None:
    """Each kind of weight starts as in one process, by its mean and deviation; shards differ; buffers are kept."""
    code = """
from types import SimpleNamespace
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from my_project.engine import distributed, sharded
from my_project.errors import UserError
from my_project.model.gpt import GPT, gpt
from my_project.options import Distributed

def build():
    return gpt(64, 16, width=64, layers=3, heads=2, dropout=0.0)

def config(ema=0.0):
    options = Distributed(strategy="fsdp", fsdp={"meta_device": True})
    return SimpleNamespace(distributed=options, train=SimpleNamespace(ema=ema))

def refusal(build, ema=0.0):
    try:
        built = sharded.build_model(SimpleNamespace(build_model=build), config(ema), device)
        distributed.wrap(built, config(), device, None)
    except UserError as error:
        return str(error)

def pretrained():
    model = build()
    model.load_state_dict(alone.state_dict())
    return model

page = {"nn": nn}
exec(open("docs/fsdp.md").read().split("```python")[1].split("```")[0], page)
device = torch.device("cpu")
with distributed.process_group("a-run"):
    torch.manual_seed(0)
    alone = build()
    model = sharded.build_model(SimpleNamespace(build_model=build), config(), device)
    assert all(parameter.is_meta for parameter in model.parameters()) and not model.turns.is_meta
    distributed.wrap(model, config(), device, None)
    assert sum(isinstance(module, FSDPModule) for module in model.modules()) == 4
    torch.testing.assert_close(model.turns, alone.turns)
    for (name, p), q in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert p.to_local().numel() == q.numel() / 2
        whole = p.full_tensor()
        torch.testing.assert_close(whole.std(), q.std(), rtol=0.15, atol=1e-6, msg=name)
        first, second = whole.chunk(2)
        assert q.dim() == 1 or not torch.equal(first, second), name
    model(torch.zeros(2, 16, dtype=torch.int64)).square().mean().backward()
    said = [refusal(build, ema=0.9), refusal(pretrained), refusal(lambda: nn.Sequential(nn.Linear(4, 4)))]
    own = type("Own", (nn.Sequential,), {"init_weights": page["init_weights"]})
    assert refusal(lambda: own(nn.Embedding(8, 8), nn.LayerNorm(8), nn.Conv1d(8, 8, 3), nn.LSTM(8, 8))) is None

    def tied():
        layers, weight, table = own(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Parameter(torch.ones(4, 4)), torch.arange(4.0)
        for layer in layers:
            layer.weight = weight
            layer.register_buffer("table", table)
        return layers

    built = sharded.build_model(SimpleNamespace(build_model=tied), config(), device)
    distributed.wrap(built, config(), device, None)
    assert len([*built.parameters()]) == 3, "a shared weight stays a single one"
    assert [layer.table.tolist() for layer in built] == [[0, 1, 2, 3]] * 2

    class Padded(nn.Embedding):
        def init_weights(self):
            nn.init.ones_(self.weight)
            self.weight.mul_((torch.arange(3) > 0)[:, None])

    built = sharded.build_model(SimpleNamespace(build_model=lambda: Padded(3, 2)), config(), device)
    distributed.wrap(built, config(), device, None)
    assert built.weight.full_tensor().tolist() == [[0, 0], [1, 1], [1, 1]]
    Padded.init_weights = nn.Embedding.reset_parameters
    said.append(refusal(lambda: Padded(3, 2, padding_idx=0)))
    said.append(refusal(lambda: own(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))))
    GPT.init_weights = lambda model: [nn.init.zeros_(p) for p in model.parameters() if p.dim() == 2]
    said.append(refusal(build))
    if distributed.rank() == 0:
        print(*said, sep="\\n")
"""
    done = in_project(language, "-m", "my_project.engine.launch", "--nproc-per-node=2", write(language, code))
    key = "distributed.fsdp.meta_device"
    whole = "set the whole of it, for example with weight.mul_(mask)"
    power = "0.parametrizations.weight.0._u, 0.parametrizations.weight.0._v"  # of the power iteration
    norms = [f"blocks.{n}.norm{k}.weight" for n in range(3) for k in (1, 2)] + ["norm.weight"]
    assert done.stdout.splitlines() == [
        f"{key}: train.ema starts as a copy of the whole model; set it to null",
        f"{key}: the model reads pretrained weights; use false",
        f"{key}: the model has no method init_weights (docs/fsdp.md)",
        f"model: init_weights sets a part of a weight, which is split; {whole}",
        f"{key}: buffers are computed from weights, {power}; use false",
        f"model: init_weights sets no value of {', '.join(norms)}",
    ]


def write(project: Path, code: str) -> Path:
    (project / "program.py").write_text(code)
    return project / "program.py"


@pytest.mark.exhaustive
def test_a_run_resumes_on_the_meta_device_as_without_it(language: Path) -> None:
    meta = "distributed.fsdp.meta_device=true"
    in_project(language, *TWO, *TRAIN, *GPT, FSDP, meta, "run.name=on-meta")
    shutil.copytree(language / "checkpoints/on-meta", language / "checkpoints/off-meta")
    in_project(language, *TWO, *TRAIN, "--resume", "on-meta", "train.max_steps=10")
    in_project(language, *TWO, *TRAIN, "--resume", "off-meta", "train.max_steps=10", meta.replace("true", "false"))
    assert losses(language, "on-meta") == losses(language, "off-meta")
    assert 2.5 < losses(language, "on-meta")[0] < 5  # a start near the logarithm of the number of tokens


@pytest.mark.exhaustive
def test_a_gpt_of_twelve_blocks_trains_like_ddp_and_resumes_in_any_world_size(language: Path) -> None:
    for strategy in ("ddp", "fsdp"):
        in_project(language, *TWO, *TRAIN, *GPT, f"distributed.strategy={strategy}", f"run.name={strategy}")
    assert losses(language, "fsdp") == pytest.approx(losses(language, "ddp"), rel=1e-5)
    for processes in (1, 2, 3):
        name = f"fsdp-{processes}"
        for strategy in ("ddp", "fsdp"):
            run = f"{strategy}-{processes}"
            shutil.copytree(language / "checkpoints" / strategy, language / "checkpoints" / run)
            launch = ["-m", "my_project.engine.launch", f"--nproc-per-node={processes}"] if processes > 1 else []
            in_project(language, *launch, *TRAIN, "--resume", run, "train.max_steps=10")
        assert losses(language, name) == pytest.approx(losses(language, f"ddp-{processes}"), rel=1e-5)
        assert len(losses(language, name)) == 5


@pytest.mark.parametrize("ema", ["None", "0.9"])
def test_what_is_beside_the_blocks_trains_as_with_ddp(ema: str, render: Render, tmp_path: Path) -> None:
    """After an evaluation as well, which leaves the whole weights of the root in memory."""
    code = f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, tiny.CLASSES)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).tanh()
        return self.head(x)

class Beside(tiny.Tiny):
    def build_model(self):
        return Net()

runs = []
for strategy in ("ddp", "fsdp"):
    own = config(distributed={{"strategy": strategy}}, train={{"ema": {ema}}}, valid={{"every_steps": 4}})
    runs.append(train(f"{tmp_path}/{{strategy}}", own, Beside))
    best = tiny.part("engine.distributed").gather(runs[-1].best)
    assert best[0] == best[1]
for name in ("model", "evaluated"):
    whole, split = (dict(getattr(run, name).named_parameters()) for run in runs)
    assert len(whole) == len(split) == 6
    for key, weight in whole.items():
        torch.testing.assert_close(split[key].full_tensor(), weight, rtol=1e-5, atol=1e-6, msg=f"{{name}} {{key}}")
"""
    play(render(extras="fsdp"), tmp_path, code, processes=2)
    one, two = (rows(tmp_path / name / "metrics.csv") for name in ("ddp", "fsdp"))
    for row, same in zip(one, two, strict=True):
        figures = [{key: float(value) for key, value in each.items() if key != "seconds"} for each in (row, same)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-5)
