"""Parts of the engine and the command line, each by what an owner would notice if it were wrong."""

import csv
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Render, git, in_project, run, save

pytestmark = pytest.mark.slow

QUICK = ["configs/train.yaml", "run.device=cpu", "model.args.width=4", "run.name=a-run", "train.epochs=1"]


@pytest.fixture
def project(render: Render, tmp_path: Path) -> Path:
    shutil.copytree(render(), tmp_path / "project")
    return tmp_path / "project"


def train(project: Path, *settings: str, ok: bool = True) -> Any:
    return in_project(project, "-m", "my_project", "train", *QUICK, *settings, ok=ok)


def rows(project: Path, name: str = "a-run") -> list[dict[str, str]]:
    return list(csv.DictReader((project / "checkpoints" / name / "metrics.csv").read_text().splitlines()))


def load(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(path, weights_only=True)
    return contents


def test_the_mean_of_the_weights_moves_by_one_minus_the_decay(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.engine.state import update_ema
        mean, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(mean.weight), torch.nn.init.ones_(model.weight)
        update_ema(mean, model, 0.9)
        print(round(float(mean.weight), 6))
    """
    assert in_project(render(), "-c", code).stdout == "0.1\n"


def test_processes_share_what_is_left_of_an_epoch(render: Render) -> None:
    code = """if True:
        from itertools import product
        from my_project.engine import distributed
        from my_project.engine.sampler import EpochSampler
        whole = [index for _, index in EpochSampler(22, seed=0, batch_size=4)]
        for world, start in product((1, 2, 3), (0, 8, 13)):
            distributed.world = lambda: world
            shares = []
            for rank in range(world):
                distributed.rank = lambda: rank
                sampler = EpochSampler(22, seed=0, batch_size=4)
                sampler.start = start
                shares.append([index for _, index in sampler])
            assert len({-(-len(share) // 4) for share in shares}) == 1, "all take as many steps"
            had = {index for share in shares for index in share}
            assert sum(map(len, shares)) == len(had) and had <= set(whole[start:]), "each sample once"
            assert len(whole) - start - len(had) < world, "only what can't be shared evenly is left out"
            print(world, start)
    """
    assert len(in_project(render(), "-c", code).stdout.splitlines()) == 9


def test_each_process_draws_dropout_of_its_own(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.config import load
        from my_project.engine import distributed, state
        from my_project.options import Config
        from my_project.task import Task
        config = load(Config, ["configs/train.yaml"])
        for rank in range(4):
            distributed.rank = lambda: rank
            torch.manual_seed(0)
            task = Task(config, torch.device("cpu"), {"classes": ["a", "b"]})
            state.build_state(config, task, torch.device("cpu"), 5)
            print(torch.rand(1).item())
    """
    assert len(set(in_project(render(), "-c", code).stdout.split())) == 4


def test_the_newest_states_are_kept_as_many_as_keep_says(project: Path) -> None:
    train(project, "train.limit_batches=6", "checkpoint.every_steps=1", "checkpoint.keep=3")
    run = project / "checkpoints/a-run"
    assert sorted(path.name for path in (run / "earlier").iterdir()) == ["step-00000004.pt", "step-00000005.pt"]
    assert load(run / "last.pt")["step"] == 6


def test_the_best_checkpoint_stays_as_it_is_while_the_next_epoch_runs(project: Path) -> None:
    train(project, "train.epochs=2", "train.limit_batches=4", "optimizer.lr=1e-30", "checkpoint.every_steps=1")
    run = project / "checkpoints/a-run"
    best = load(run / load(run / "last.pt")["best"]["file"])
    assert (best["epoch"], best["step"], best["under_way"]["batches"]) == (1, 4, 0)


def test_what_is_written_in_the_background_is_a_copy(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.engine.checkpoint import cpu_copy
        weight = torch.zeros(1)
        copied = cpu_copy({"a": [weight]})
        weight += 1
        print(copied["a"][0].item())
    """
    assert in_project(render(), "-c", code).stdout == "0.0\n"


def test_the_tensors_of_the_best_checkpoint_stay_with_fsdp(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="fsdp"), tmp_path / "project")
    launch = ["-m", "my_project.engine.launch", "--nproc-per-node=2", "-m", "my_project", "train", *QUICK]
    first_is_best = ["checkpoint.monitor=loss", "checkpoint.mode=max", "checkpoint.keep=1", "train.epochs=3"]
    in_project(project, *launch, *first_is_best, "distributed.strategy=fsdp", "train.limit_batches=4")
    assert load(project / "checkpoints/a-run/last.pt")["best"]["stale"] == 2
    in_project(project, "-m", "my_project", "test", "a-run")
    for path in project.glob("checkpoints/a-run/shards-*/*"):  # the tensors have checksums, too
        whole = bytearray(path.read_bytes())
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    done = in_project(project, "-m", "my_project", "test", "a-run", ok=False)
    assert (done.returncode, "its tensors are damaged" in done.stderr) == (2, True), done.stderr


def test_validation_takes_no_more_than_limit_batches(project: Path) -> None:
    code = """if True:
        import sys, my_project.cli as cli, my_project.engine.loop as loop
        seen, evaluate = [], loop.evaluate
        def counted(model, task, batches, *rest):
            return evaluate(model, task, (seen.append(1) or batch for batch in batches), *rest)
        loop.evaluate = counted
        cli.main(["train", *sys.argv[1:]])
        print(len(seen))
    """
    done = in_project(project, "-c", code, *QUICK, "train.limit_batches=2")
    assert done.stdout.splitlines()[-1] == "2"


def test_fp16_clips_gradients_in_their_own_size(project: Path) -> None:
    one_step = ["train.precision=fp16", "optimizer.name=SGD", "optimizer.args={}", "train.limit_batches=1"]
    for clip in ("null", "100"):
        train(project, *one_step, f"train.grad_clip={clip}", f"run.name=clip-{clip}")
    weights = [load(project / f"checkpoints/clip-{clip}/last.pt")["model"] for clip in ("null", "100")]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_one_batch_to_overfit_is_validated_on(project: Path) -> None:
    in_project(project, "-m", "my_project", "train", *QUICK, "train.overfit_batches=1", "data.batch_size=8")
    assert float(rows(project)[0]["valid_acc"]) * 8 % 1 == 0, "of eight images, not of the 150 in valid/"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_with_fewer_batches_count_no_sample_twice(strategy: str, render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="fsdp" if strategy == "fsdp" else ""), tmp_path / "project")
    in_project(project, "-m", "my_project", "train", "--smoke")  # unpacks the sample
    assert [path.name for path in (project / "checkpoints").iterdir()] == ["README.md"], "a smoke test leaves nothing"
    sorted((project / "data/valid/3").glob("*.png"))[0].unlink()  # 149 images: 75 and 74, or two batches and one
    launch = ["-m", "my_project.engine.launch", "--nproc-per-node=2", "-m", "my_project", "train", *QUICK]
    in_project(project, *launch, "data.batch_size=74", f"distributed.strategy={strategy}")
    alone = json.loads(in_project(project, "-m", "my_project", "test", "a-run", "--split", "valid", "--json").stdout)
    assert float(rows(project)[0]["valid_acc"]) == pytest.approx(alone["acc"], rel=1e-6)


def test_every_minutes_counts_minutes(project: Path) -> None:
    code = """if True:
        import itertools, sys, time, types
        import my_project.cli as cli, my_project.engine.session as session
        clock = itertools.count(0, 30)  # half a minute more each time that it is looked at
        session.time = types.SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter)
        cli.main(["train", *sys.argv[1:]])
    """
    in_project(project, "-c", code, *QUICK, "train.limit_batches=6")
    assert not (project / "checkpoints/a-run/earlier").exists()


def test_the_launcher_says_by_which_signal_a_process_was_killed(render: Render, tmp_path: Path) -> None:
    (tmp_path / "kill.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    launch: list[str | Path] = ["-m", "my_project.engine.launch", "--nproc-per-node=1", tmp_path / "kill.py"]
    assert in_project(render(), *launch, ok=False).returncode == 128 + signal.SIGKILL


def test_rows_of_a_confusion_matrix_are_the_truth(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.engine.metrics import Confusion
        confusion = Confusion(2, "cpu")
        confusion.update(torch.tensor([[1.0, 0.0]]), (torch.zeros(1), torch.tensor([1])))
        print(confusion.matrix.tolist())
    """
    assert in_project(render(), "-c", code).stdout == "[[0, 0], [1, 0]]\n"


def test_what_is_staged_is_recorded_too(project: Path) -> None:
    save(project)
    with (project / "README.md").open("a") as file:
        file.write("one more line\n")
    git("add", "README.md", cwd=project)
    train(project, "train.limit_batches=1")
    assert "+one more line" in (project / "checkpoints/a-run/code-0.diff").read_text()


def test_the_packages_of_a_start_are_those_that_importlib_finds(render: Render, tmp_path: Path) -> None:
    """Also a package of a single file, as distutils wrote it, and the first of two versions."""
    (tmp_path / "old-1.5.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.5\n")
    for folder, version in (("first", "2.0"), ("second", "3.0")):
        info = tmp_path / folder / "twice.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nVersion: {version}\nName: twice\n\nName: of the text\n")
    code = """if True:
        import sys
        from importlib.metadata import distributions
        from pathlib import Path
        import torch
        from my_project.engine import provenance
        sys.path[:0] = [sys.argv[1] + end for end in ("/first", "/second", "")]
        provenance.record(Path(sys.argv[1]), torch.device("cpu"))
        found = provenance.newest(Path(sys.argv[1]))["packages"]
        assert found == {d.name: d.version for d in reversed([*distributions()])}
        print(found["old"], found["twice"], found["torch"].partition("+")[0])
    """
    said = in_project(render(), "-c", code, tmp_path).stdout
    assert said == f"1.5 2.0 {torch.__version__.partition('+')[0]}\n"


def test_lr_range_suggests_where_the_loss_falls_fastest(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="sweep"), tmp_path / "project")
    code = """if True:
        from pathlib import Path
        import torch, my_project.commands.lr_range as lr, my_project.engine.loop as loop
        from my_project.config import load
        from my_project.options import Config
        steps = iter(range(40))
        def train_step(state, session, group, samples):
            step = next(steps)
            state.recent.update(torch.tensor(2.0 if step < 20 else 1.0 if step < 30 else 3.0), 1)
        loop.train_step = train_step
        print(lr.find(load(Config, ["configs/train.yaml"]), Path("lr.png"), 1e-4, 1.0, 40))
    """
    assert 10 ** (-4 + 4 * 18 / 39) < float(in_project(project, "-c", code).stdout) < 10 ** (-4 + 4 * 23 / 39)


def test_a_relative_path_of_a_config_is_taken_from_the_project(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("data", "checkpoints", "images"):
        (elsewhere / name).mkdir(parents=True)
    train: list[str | Path] = [project / "scripts/train.sh", *QUICK, "train.limit_batches=1"]
    run(*train, cwd=elsewhere, PYTHON=sys.executable, PYTHONPATH=str(project / "src"))
    assert (project / "checkpoints/a-run/last.pt").is_file()
    assert not [path for path in elsewhere.rglob("*") if path.is_file()]


def test_010_is_ten(render: Render) -> None:
    said = in_project(render(), "-m", "my_project", "config", "configs/train.yaml", "train.epochs=010", "--to", "ini")
    assert "epochs = 10\n" in said.stdout


def test_decay_all_spares_biases_and_norms(render: Render) -> None:
    code = """if True:
        from torch import nn
        from my_project.components import build_optimizer
        from my_project.options import Optimizer
        groups = build_optimizer(Optimizer(decay_all=False), nn.Linear(2, 2)).param_groups
        print([(len(group["params"]), group["weight_decay"]) for group in groups])
    """
    assert in_project(render(), "-c", code).stdout == "[(1, 0.01), (1, 0.0)]\n"


def test_your_own_component_comes_before_that_of_torch(project: Path) -> None:
    with (project / "src/my_project/optim.py").open("a") as file:
        file.write("\n\nclass AdamW(Lion):\n    pass\n")
    code = """if True:
        from torch import nn
        from my_project.components import build_optimizer
        from my_project.options import Optimizer
        print(type(build_optimizer(Optimizer(), nn.Linear(2, 2))).__module__)
    """
    assert in_project(project, "-c", code).stdout == "my_project.optim\n"


def test_each_number_of_the_confusion_matrix_is_at_its_cell(render: Render) -> None:
    code = """if True:
        from pathlib import Path
        from my_project.visualization import charts
        figures = []
        charts.write = lambda path, save: figures.append(save.__self__)
        charts.confusion_matrix([[1, 2], [3, 4]], ["a", "b"], Path("x.png"))
        print({text.get_position(): text.get_text() for text in figures[0].axes[0].texts})
    """
    shown = "{(0, 0): '1', (1, 0): '2', (0, 1): '3', (1, 1): '4'}\n"
    assert in_project(render(), "-c", code).stdout == shown


@pytest.mark.parametrize("name", ["pyproject.toml", "Makefile"])
def test_a_change_of_a_file_that_lists_packages_installs_again(project: Path, name: str) -> None:
    (project / ".venv").mkdir()
    (project / ".venv/installed").touch()
    assert "pip install" not in run("make", "--dry-run", "install", cwd=project).stdout
    later = (project / ".venv/installed").stat().st_mtime + 1
    os.utime(project / name, (later, later))
    assert "pip install" in run("make", "--dry-run", "install", cwd=project).stdout


def test_patience_counts_the_epochs_before_a_resume_too(project: Path) -> None:
    train = ["-m", "my_project", "train", "run.name=a-run", "model.args.width=2", "run.device=cpu"]
    in_project(project, *train, "checkpoint.monitor=loss", "checkpoint.mode=max", "train.patience=3", "train.epochs=2")
    in_project(project, "-m", "my_project", "train", "--resume", "train.epochs=9")
    assert load(project / "checkpoints/a-run/last.pt")["epoch"] == 4  # the loss falls, so the first is the best


def test_slurm_is_asked_to_signal_the_tasks_and_to_requeue(render: Render) -> None:
    lines = (render() / "scripts/slurm.sh").read_text().splitlines()
    assert {"#SBATCH --signal=USR1@120", "#SBATCH --requeue"} <= set(lines)  # B: would signal only the script


def test_a_photo_is_turned_as_its_exif_tag_says(render: Render, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from PIL import Image
        from my_project.data.dataset import read_image
        image = Image.new("L", (8, 8))
        image.paste(255, (0, 0, 4, 8))  # the left half is white
        exif = image.getexif()
        exif[0x0112] = 6  # turn it by 90 degrees to see it upright: the left comes to the top
        path = Path(sys.argv[1], "photo.png")
        image.save(path, exif=exif)
        pixels = read_image(path, size=8, channels=1)[0]
        print(pixels[:4].mean().item(), pixels[4:].mean().item())
    """
    assert in_project(render(), "-c", code, tmp_path).stdout == "1.0 0.0\n"


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not(render: Render) -> None:
    code = """if True:
        import signal
        from my_project.engine.signals import Signals
        for number in (signal.SIGTERM, signal.SIGINT):
            with Signals() as signals:
                signal.raise_signal(number)
                assert signals.received == number
                try:
                    signal.raise_signal(number)
                except KeyboardInterrupt:
                    print(number.name)
    """
    assert in_project(render(), "-c", code).stdout == "SIGINT\n"


@pytest.mark.parametrize("again", ["SIGUSR1", "SIGTERM"])
def test_a_signal_that_comes_again_after_the_end_is_ignored(project: Path, tmp_path: Path, again: str) -> None:
    code = """if True:
        import signal, sys
        from my_project import cli
        from my_project.engine import launch, loop
        again, script, *words = sys.argv[1:]
        step = loop.train_step
        def stopped(*args):
            signal.raise_signal(signal.SIGUSR1)
            return step(*args)
        loop.train_step = stopped
        status = cli.main(words) if words else launch.main(["--nproc-per-node=1", script])
        signal.raise_signal(getattr(signal, again))
        sys.exit(status)
    """
    script = tmp_path / "stopped.py"
    script.write_text("import sys; sys.exit(75)\n")
    for words in ([], ["train", "configs/train.yaml", "model.args.width=2", "run.device=cpu"]):
        assert in_project(project, "-c", code, again, script, *words, ok=False).returncode == 75, words


def test_finished_processes_leave_no_thread_that_the_model_waits_for(render: Render, tmp_path: Path) -> None:
    """DDP's reducer waits for gloo's threads and holds the GIL meanwhile, if it has the last reference to them."""
    (tmp_path / "leave.py").write_text("""if True:
        import os
        from pathlib import Path
        from types import SimpleNamespace
        import torch
        from my_project.engine import distributed
        from my_project.options import Distributed
        with distributed.process_group("a run"):
            config = SimpleNamespace(distributed=Distributed())
            net = distributed.wrap(torch.nn.Linear(1, 1), config, torch.device("cpu"), None)
            during = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        after = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        said = " ".join(str("gloo" in "".join(threads)) for threads in (during, after))
        os.write(1, f"{said}\\n".encode())  # at once: the other process writes, too
    """)
    launch: list[str | Path] = ["-m", "my_project.engine.launch", "--nproc-per-node=2", tmp_path / "leave.py"]
    assert in_project(render(), *launch).stdout.splitlines() == ["True False"] * 2


# --- right results ---


def test_reduce_on_plateau_follows_checkpoint_mode(render: Render) -> None:
    code = """if True:
        import sys, torch
        from my_project.config import load
        from my_project.engine import state
        from my_project.options import Config
        from my_project.task import Task
        config = load(Config, ["configs/train.yaml"], sys.argv[1:])
        task = Task(config, torch.device("cpu"), {"classes": ["a", "b"]})
        now = state.build_state(config, task, torch.device("cpu"), 5)
        for acc in (0.1, 0.2, 0.3, 0.2, 0.1):
            state.end_validation(now, task, config, {"acc": acc, "loss": 1 - acc})
            print(now.optimizer.param_groups[0]["lr"])
    """
    plateau = ["scheduler.name=ReduceLROnPlateau", "optimizer.lr=1"]
    ends = {
        ("checkpoint.mode=max", "scheduler.args={patience: 0, factor: 0.5}"): [1, 1, 1, 0.5, 0.25],
        ("checkpoint.mode=max", "scheduler.args={patience: 0, factor: 0.5, mode: min}"): [1, 0.5, 0.25, 0.125, 0.0625],
        ("checkpoint.mode=min", "checkpoint.monitor=loss", "scheduler.args={patience: 0, factor: 0.5}"): [
            1,
            1,
            1,
            0.5,
            0.25,
        ],
    }
    for settings, rates in ends.items():
        said = in_project(render(), "-c", code, *plateau, *settings).stdout.split()
        assert [float(rate) for rate in said] == rates, settings


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_mean_of_many_losses_is_right_in_every_precision(dtype: str, render: Render) -> None:
    code = f"""if True:
        import torch
        from my_project.engine.metrics import Average
        mean, restored = Average(), Average()
        for _ in range(2000):
            mean.update(torch.tensor(2.25, dtype=torch.{dtype}), 64)
        restored.merge([{{"total": torch.tensor(2.25, dtype=torch.{dtype}), "count": 1}}, mean.state()])
        print(mean.compute(), restored.compute())
    """
    assert in_project(render(), "-c", code).stdout == "2.25 2.25\n"


def test_the_seed_and_a_checkpoint_cover_torch_numpy_and_random(render: Render) -> None:
    code = """if True:
        import io, random, numpy as np, torch
        from my_project.engine.device import prepare
        from my_project.engine.state import rng_state, set_rng_state
        from my_project.options import Run
        def drawn():
            return torch.rand(1).item(), float(np.random.rand()), float(np.random.randn()), random.random()
        firsts = []
        for seed in (0, 0, 1):
            prepare(Run(seed=seed))
            firsts.append(drawn())
        assert firsts[0] == firsts[1] and not set(firsts[0]) & set(firsts[2])
        file = io.BytesIO()
        torch.save(rng_state(), file)
        later = drawn()
        file.seek(0)
        set_rng_state(torch.load(file, weights_only=True))
        assert drawn() == later
    """
    in_project(render(), "-c", code)


def test_the_start_of_training_leaves_garbage_collection_as_it_was(render: Render) -> None:
    code = """if True:
        import gc
        from my_project.engine.device import prepare
        from my_project.options import Run
        prepare(Run())
        print(gc.isenabled())
        gc.disable()
        prepare(Run())
        print(gc.isenabled())
    """
    assert in_project(render(), "-c", code).stdout == "True\nFalse\n"


def test_ties_of_the_monitored_figure_go_to_the_lower_loss(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.config import load
        from my_project.engine import state
        from my_project.options import Config
        from my_project.task import Task
        config = load(Config, ["configs/train.yaml"], ["checkpoint.monitor=acc", "checkpoint.mode=max"])
        task = Task(config, torch.device("cpu"), {"classes": ["a", "b"]})
        now = state.build_state(config, task, torch.device("cpu"), 5)
        for acc, loss in ((0.5, 2.0), (0.5, 1.0), (0.5, 1.0), (0.5, 1.5), (0.6, 3.0)):
            better = state.end_validation(now, task, config, {"acc": acc, "loss": loss})
            print(better, now.stale, now.best_loss)
    """
    said = in_project(render(), "-c", code).stdout.splitlines()
    assert said == ["True 0 2.0", "True 0 1.0", "False 1 1.0", "False 2 1.0", "True 0 3.0"]


def test_the_decay_of_the_ema_warms_up(project: Path) -> None:
    code = """if True:
        import sys, my_project.cli as cli, my_project.engine.state as states
        decays = []
        states.update_ema = lambda mean, model, decay: decays.append(round(decay, 4))
        cli.main(["train", *sys.argv[1:]])
        print(*decays)
    """
    words = [*QUICK, "train.limit_batches=4", "train.ema=0.25"]
    assert in_project(project, "-c", code, *words).stdout.splitlines()[-1] == "0.1 0.1818 0.25 0.25"


@pytest.mark.parametrize(
    ("name", "rank", "device"),
    [("auto", None, 0), ("cuda", None, 0), ("auto", "1", 1), ("cuda", "1", 1), ("cuda:1", None, 1), ("cuda:1", "0", 1)],
)
def test_a_gpu_is_chosen_by_its_number(render: Render, name: str, rank: str | None, device: int) -> None:
    """torch's checks run; two calls of the driver are replaced. v0.4 to v0.8 chose "cuda", which torch refuses."""
    code = """if True:
        import sys, torch
        from my_project.engine.device import pick_device
        chosen = []
        torch.cuda.device_count = lambda: 2
        torch._C._cuda_setDevice = chosen.append
        print(pick_device(sys.argv[1]), *chosen)
    """
    env: Any = {"LOCAL_RANK": rank} if rank else {}
    said = in_project(render(), "-c", code, name, **env).stdout
    assert said == f"cuda:{device} {device}\n"


def test_copies_to_the_cpu_and_to_mps_are_blocking(render: Render) -> None:
    """Without blocking, only later operations of the GPU may use the target of a copy; the CPU would read garbage."""
    code = """if True:
        import torch
        from my_project.engine.device import to_device
        class Recorded(torch.Tensor):
            def to(self, device, *args, non_blocking=False, **kwargs):
                said.append(f"{device.type} {non_blocking}")
                return self
        for name in ("cpu", "mps", "cuda", "cuda:1"):
            said = []
            tensor = torch.zeros(2, 3, 4, 4).as_subclass(Recorded)
            to_device((tensor, {"a": [tensor]}), torch.device(name), channels_last=True)
            print(*said, sep=", ")
    """
    said = in_project(render(), "-c", code).stdout.splitlines()
    assert said == ["cpu False, cpu False", "mps False, mps False", *["cuda True, cuda True"] * 2]


def test_no_command_copies_to_the_cpu_without_waiting(project: Path) -> None:
    code = """if True:
        import sys, torch, my_project.cli as cli
        copies, to = [], torch.Tensor.to
        def recorded(self, *args, **kwargs):
            if kwargs.get("non_blocking") and "cpu" in (*map(str, args), str(kwargs.get("device"))):
                copies.append(args)
            return to(self, *args, **kwargs)
        torch.Tensor.to = recorded
        assert cli.main(["train", *sys.argv[1:]]) == cli.main(["test", "a-run"]) == 0
        print("copies", len(copies))
    """
    words = [*QUICK, "train.limit_batches=1", "train.ema=0.5", "checkpoint.background=true"]
    assert in_project(project, "-c", code, *words).stdout.splitlines()[-1] == "copies 0"


def test_spawned_workers_load_the_same_batches(project: Path) -> None:
    """As on macOS and Windows, and on Linux since Python 3.14, where a worker starts as a new interpreter."""
    file = project / "spawn.py"
    file.write_text("""if __name__ == "__main__":
        import multiprocessing, sys
        import my_project.cli as cli
        multiprocessing.set_start_method("spawn")
        sys.exit(cli.main(["train", *sys.argv[1:]]))
    """)
    words = [*QUICK, "train.limit_batches=2"]
    in_project(project, "-m", "my_project", "train", *words, "run.name=none")
    in_project(project, file, *words, "data.workers=1", cold=True)
    alone, spawned = (rows(project, name)[0] | {"seconds": ""} for name in ("none", "a-run"))
    assert alone == spawned


def test_the_ema_of_a_recurrent_network_has_contiguous_weights(render: Render, tmp_path: Path) -> None:
    """Those of a copied network are not contiguous: on a GPU, cuDNN would compact them at each call, with a warning."""
    code = """if True:
        import sys, torch, my_project.cli as cli, my_project.engine.state as states
        flat, build = [], states.build_state
        torch.nn.RNNBase.flatten_parameters = lambda self: flat.append(id(self))
        def built(*args):
            state = build(*args)
            print("flat", id(state.model.gru) in flat, id(state.ema.gru) in flat)
            return state
        states.build_state = built
        cli.main(["train", *sys.argv[1:]])
    """
    project = shutil.copytree(render(data_kind="language_modeling"), tmp_path / "project")
    words = [*QUICK, "train.limit_batches=1", "train.ema=0.5", "data.context=8"]
    assert "flat True True\n" in in_project(project, "-c", code, *words).stdout


def test_a_batch_is_augmented_as_its_samples_one_by_one(render: Render) -> None:
    code = """if True:
        import numpy as np, torch
        from my_project import transforms
        from my_project.components import build_transforms
        from my_project.data.dataloader import Augmented
        names = {"random_affine": {"degrees": 30}, "random_flip": {}, "random_erase": {}}
        for size in (8, 20, 65):
            data = [(torch.rand(3, size, size), number) for number in range(9)]
            keys = [(epoch, index) for epoch in range(2) for index in (3, 1, 8, 0)]
            augmented, one_by_one = Augmented(data, build_transforms(names), 5), []
            for key in keys:
                sample, rng = data[key[1]], np.random.default_rng((5, *key))
                for name, arguments in names.items():
                    sample = getattr(transforms, name)(*sample, rng, **arguments)
                one_by_one.append(sample)
            for how in (augmented.__getitems__(keys), [augmented[key] for key in keys]):
                for (image, target), (same, number) in zip(how, one_by_one, strict=True):
                    assert target == number and torch.equal(image, same)
            assert not torch.equal(one_by_one[0][0], one_by_one[4][0])
    """
    in_project(render(), "-c", code)


def test_a_batch_that_is_made_on_the_gpu_is_copied_after_it_is_made(render: Render) -> None:
    """With stand-ins for streams, which record their calls; bench/gpu.py checks the numbers on a GPU."""
    code = """if True:
        import contextlib, torch
        from my_project.engine import device
        class Stream:
            def __init__(self, name): self.name = name
            def wait_stream(self, other): print(self.name, "waits for", other.name)
            def wait_event(self, event): print(self.name, "waits for the copy")
            def record_event(self): return object()
        torch.cuda.Stream = lambda device: Stream("copies")
        torch.cuda.current_stream = lambda device: Stream("compute")
        torch.cuda.stream = lambda stream: contextlib.nullcontext()
        device.to_device = lambda batch, *_: print("copy", batch) or batch
        for batch in device.prefetch([1, 2], torch.device("cuda"), False):
            print("step", batch)
    """
    said = in_project(render(), "-c", code).stdout.splitlines()
    ready = ["copies waits for compute", "copy 1", "compute waits for the copy"]
    assert said == [*ready, "copies waits for compute", "copy 2", "step 1", "compute waits for the copy", "step 2"]


def test_the_benchmark_for_gpus_runs_on_a_cpu(tmp_path: Path) -> None:
    script, out = Path(__file__).parents[1] / "bench" / "gpu.py", tmp_path / "figures.json"
    said = run(sys.executable, script, "--only", "waits-gpt", "fsdp", "--json", out, cwd=tmp_path).stdout
    assert "no GPU" in said or torch.cuda.is_available()
    found = json.loads(out.read_text())["parts"]
    assert found["waits-gpt"]["good"]
    assert found["waits-gpt"]["steps"] == 10
    assert found["fsdp"]["good"]
