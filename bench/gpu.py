"""Checks that need a GPU: speed and memory against a loop by hand, synchronizations, resuming, copies, FSDP2.

    python3 bench/gpu.py [--only PART ...] [--projects FOLDER] [--seconds 480] [--markdown FILE] [--json FILE]

Needs this repository and, in the Python that runs it, torch, numpy, pillow, pyyaml and pydantic; no network. The image
project is examples/digits; the text project is a copy of it with files of template/, so Copier is not needed. With
--projects, the tests (pytest) of each project in a folder run on the GPU at the end, and each project is trained on its
sample; render a project of each kind of data for it. Each measurement is its own process; speed measurements alternate.
The exit status is 1 if a part fails, misses its bound, or does not finish in time. Without a GPU, everything runs on
the CPU at a small size, without torch.compile and without bounds, which only shows that the script works; the first
line says so.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IN_FOLDERS = re.compile(r"{{\w+}}(?=[.]py$)")  # a part of file names that is empty unless components=folder
MODELS = ("resnet", "gpt")
WARMUP, SPANS = 2, 5  # spans of LINE steps; torch.compile works in the first, which don't count
WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"}


# --- two projects, without Copier ---


def lay_out(folder: Path) -> None:
    """The projects `resnet` and `gpt`, both with the package `digits`."""
    for name in MODELS:
        skip = shutil.ignore_patterns("__pycache__", "checkpoints", "notebooks")
        shutil.copytree(ROOT / "examples" / "digits", folder / name, ignore=skip)
    for room in ("{{language_modeling}}", "{{fsdp}}"):
        source = ROOT / "template" / "project" / room / "src" / "{{package_name}}"
        for path in source.rglob("*.py"):
            place = folder / "gpt" / "src" / "digits" / IN_FOLDERS.sub("", path.relative_to(source).as_posix())
            place.parent.mkdir(exist_ok=True)
            shutil.copy(path, place)
    config = (ROOT / "template" / "kinds" / "language_modeling" / "train.yaml").read_text()
    config = config.replace("{{ tracker }}", "none").replace("{{ config_format }}", "yaml")
    (folder / "gpt" / "configs" / "train.yaml").write_text(config)
    for split in ("train", "valid", "test"):
        (folder / "gpt" / "data" / split).mkdir()
        (folder / "gpt" / "data" / split / "text.txt").write_text("A text. " * 1024)


class Size:
    """The sizes, for a GPU and for the CPU."""

    def __init__(self) -> None:
        import torch

        self.gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if self.gpu else "cpu")
        self.line = 100 if self.gpu else 8  # steps from one line of the log to the next
        self.batch = {"resnet": 512, "gpt": 32} if self.gpu else {"resnet": 8, "gpt": 4}
        self.context = 512 if self.gpu else 16
        width = {"resnet": 64, "gpt": 512} if self.gpu else {"resnet": 4, "gpt": 16}
        layers = (3, 8) if self.gpu else (1, 1)
        self.arguments = {
            "resnet": f"{{width: {width['resnet']}, blocks: {layers[0]}}}",
            "gpt": f"{{width: {width['gpt']}, layers: {layers[1]}, heads: {layers[1]}, dropout: 0.0}}",
        }

    def settings(self, model: str) -> list[str]:
        """The arguments of the command `train`."""
        data = {"resnet": ["data.channels=3", "data.image_size=32"], "gpt": ["data.tokens=bytes"]}[model]
        data += [f"data.context={self.context}"] if model == "gpt" else []
        common = [f"model.name={model}", f"model.args={self.arguments[model]}", f"data.batch_size={self.batch[model]}"]
        common += [f"run.device={self.device.type}", f"train.log_every={self.line}", "train.precision=bf16"]
        fast = [f"train.compile={str(self.gpu).lower()}", f"train.channels_last={str(model == 'resnet').lower()}"]
        return ["configs/train.yaml", *common, *data, *fast, "train.epochs=1", "data.transforms={}"]


class Batches:
    """An epoch of batches in pinned memory; measures the time of each span, when the device is idle."""

    def __init__(self, model: str, size: Size, spans: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(0)
        self.steps, self.size, self.looked = spans * size.line + 2, size, list[float]()
        self.batches = []
        for _ in range(8):
            count = size.batch[model]
            if model == "resnet":
                batch = torch.rand(count, 3, 32, 32, generator=draw), torch.randint(10, (count,), generator=draw)
            else:
                shape = count, size.context
                batch = (torch.randint(256, shape, generator=draw), torch.randint(256, shape, generator=draw))
            self.batches.append(tuple(part.pin_memory() if size.gpu else part for part in batch))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        import torch

        for number in range(self.steps):
            if number and number % self.size.line == 0:
                if self.size.gpu:
                    torch.cuda.synchronize()
                self.looked.append(time.perf_counter() if self.size.gpu else time.process_time())
            yield self.batches[number % len(self.batches)]


def with_batches(batches: Any) -> Any:
    """Make the project train with these batches; returns the new class Task."""
    task: Any = import_module("digits.task")
    own: Any = task.Task

    class InMemory(own):  # type: ignore[misc]
        def train_loader(self) -> Any:
            return batches

        def eval_loader(self, split: str) -> Any:
            return batches.batches[:1]

    task.Task = InMemory
    return InMemory


def train(*words: str) -> int:
    """Run the command `train`, with its output on stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return int(import_module("digits.cli").main(["train", *words]))


# --- the parts: each runs in its own process and returns its result ---


def by_hand(model: str) -> dict[str, Any]:
    """A minimal loop by hand, with the project's model, loss, scheduler and metrics."""
    import torch

    size = Size()
    batches = Batches(model, size, WARMUP + SPANS)
    config = import_module("digits.config").load(import_module("digits.options").Config, size.settings(model)[:1], [])
    config = import_module("digits.config").load(type(config), ["configs/train.yaml"], size.settings(model)[1:])
    torch.manual_seed(config.run.seed)
    task = with_batches(batches)(config, size.device)
    net = task.build_model().to(size.device)
    if config.train.channels_last:
        net = net.to(memory_format=torch.channels_last)
    parameters, betas = list(net.parameters()), config.optimizer.args.get("betas", (0.9, 0.999))
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters if p.dim() >= 2 or config.optimizer.decay_all]}]
    groups += [{"params": [p for p in parameters if p.dim() < 2 and not config.optimizer.decay_all], "weight_decay": 0}]
    rate, decay = config.optimizer.lr, config.optimizer.weight_decay
    used = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(used, lr=rate, betas=tuple(betas), weight_decay=decay, fused=size.gpu or None)
    scheduler = import_module("digits.scheduler").warmup_cosine(optimizer, len(batches))
    called = torch.compile(net) if config.train.compile else net
    net.train()
    figures, total, samples = task.metrics(), torch.zeros((), device=size.device), 0
    for step, (inputs, targets) in enumerate(batches, 1):
        inputs = inputs.to(size.device, non_blocking=True)
        if config.train.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        batch = inputs, targets.to(size.device, non_blocking=True)
        with torch.autocast(size.device.type, torch.bfloat16):
            logits = called(inputs)
            loss = task.loss(logits, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        total += loss.detach().float() * len(inputs)
        figures.update(logits, batch)
        samples += len(inputs)
        if step % size.line == 0:
            print(f"step {step} loss {float(total) / samples:.4f}", figures.compute(), file=sys.stderr)
    return measured(batches, model)


def ours(model: str) -> dict[str, Any]:
    """The command `train`."""
    size = Size()
    batches = Batches(model, size, WARMUP + SPANS)
    with_batches(batches)
    assert train(*size.settings(model), "run.name=speed", "checkpoint.every_minutes=null") == 0
    return measured(batches, model)


def measured(batches: Batches, model: str) -> dict[str, Any]:
    """Samples per second in the median span, and the peak GPU memory."""
    import torch

    spans = [late - early for early, late in pairwise(batches.looked)][WARMUP - 1 :]
    assert len(spans) == SPANS
    speed = batches.size.line * batches.size.batch[model] / statistics.median(spans)
    memory = torch.cuda.max_memory_allocated() / 2**20 if batches.size.gpu else None
    return {"speed": speed, "memory": memory}


def waits(model: str) -> dict[str, Any]:
    """The GPU syncs in the ten steps that `--profile` records, all between two log lines."""
    size = Size()
    with_batches(Batches(model, size, 4))
    words = ["run.name=waits", "train.log_every=1000", "--profile", "checkpoint.every_minutes=null"]
    assert train(*size.settings(model), *words) == 0
    events = json.loads(Path("checkpoints/waits/trace-0.json").read_text())["traceEvents"]
    steps = [event for event in events if str(event.get("name")).startswith("ProfilerStep#") and "dur" in event]
    steps = [event for event in steps if event.get("cat") == "user_annotation"]
    start, end = min(e["ts"] for e in steps), max(e["ts"] + e["dur"] for e in steps)
    during = [event for event in events if start <= event.get("ts", -1) < end]
    copies = [event for event in during if event.get("cat") == "gpu_memcpy" and "DtoH" in event["name"]]
    waited = [event["name"] for event in during if event.get("name") in WAITS] + ["copy to the CPU"] * len(copies)
    found = {"steps": len(steps), "waits": len(waited), "which": sorted(set(waited)), "good": not waited}
    if not size.gpu:  # a CPU makes no such calls: count the operations that would read a number back
        found["items"] = sum(event.get("name") == "aten::item" for event in during)
    return found


def resume() -> dict[str, Any]:
    """With `run.deterministic`, a run stopped within an epoch and resumed gives the same weights."""
    import torch

    session: Any = import_module("digits.engine.session").Session
    after, steps = session.after_step, 0

    def stop(self: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            signal.raise_signal(signal.SIGTERM)
        after(self)

    size = Size()
    words = ["configs/train.yaml", "run.deterministic=true", "train.epochs=2", "train.limit_batches=6"]
    words += [f"run.device={size.device.type}", "model.name=resnet", "model.args={width: 8, blocks: 1}"]
    words += ["train.precision=bf16", "train.channels_last=true"]
    assert train(*words, "run.name=whole") == 0
    session.after_step = stop
    status = train(*words, "run.name=stopped")
    session.after_step = after
    assert status != 0
    assert steps < 12  # the run was stopped before its last step
    assert train("--resume", "stopped") == 0
    whole, stopped = (torch.load(f"checkpoints/{name}/last.pt", weights_only=True) for name in ("whole", "stopped"))
    assert whole["step"] == stopped["step"] == 12
    names = [f"model.{name}" for name in whole["model"]]
    pairs = [(whole["model"][name], stopped["model"][name]) for name in whole["model"]]
    for number, states in whole["optimizer"]["state"].items():
        names += [f"optimizer.{number}.{key}" for key in states]
        pairs += [(value, stopped["optimizer"]["state"][number][key]) for key, value in states.items()]
    other = [name for name, pair in zip(names, pairs, strict=True) if not torch.equal(*pair)]
    return {"tensors": len(pairs), "differ": other, "good": not other}


def copies() -> dict[str, Any]:
    """Whether a copy to the CPU is complete when used at once: by `to_device`, and by a non-blocking copy."""
    import torch

    device: Any = import_module("digits.engine.device")
    size, cpu = Size(), torch.device("cpu")
    side, tries = (8192, 20) if size.gpu else (64, 3)

    def busy() -> None:
        """Keep the GPU busy until Python has reached the next lines."""
        if size.gpu:
            torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]

    def garbage(copy: Callable[[Any], Any]) -> int:
        wrong = 0
        for number in range(1, tries + 1):
            source = torch.zeros(side, side, device=size.device)
            busy()
            source.fill_(number)
            wrong += not bool((copy(source) == number).all())
            if size.gpu:
                torch.cuda.synchronize()
        return wrong

    def made_there() -> Iterator[Any]:
        for number in range(1, tries + 1):
            batch = torch.zeros(4, 3, side // 4, side // 4, device=size.device)
            busy()
            yield (batch.fill_(number),)

    found: dict[str, Any] = {"tries": tries, "garbage": garbage(lambda tensor: device.to_device(tensor, cpu))}
    found["garbage if not awaited"] = garbage(lambda tensor: tensor.to(cpu, non_blocking=True))
    arrived = [batch for (batch,) in device.prefetch(made_there(), size.device, channels_last=True)]
    found["wrong batches made on the GPU"] = sum(
        not bool((batch == number).all()) for number, batch in enumerate(arrived, 1)
    )
    found["good"] = not found["garbage"] and not found["wrong batches made on the GPU"]
    return found


def fsdp() -> dict[str, Any]:
    """A model under FSDP2 on one rank trains like a plain one; its tensors load from the disk."""
    import torch
    import torch.distributed as dist

    distributed: Any = import_module("digits.engine.distributed")
    sharded: Any = import_module("digits.engine.sharded")
    gpt: Any = import_module("digits.model.gpt").gpt
    size = Size()
    backend = "cpu:gloo,cuda:nccl" if size.gpu else "gloo"
    dist.init_process_group(backend, store=vars(dist)["HashStore"](), rank=0, world_size=1)
    weights, optimizer = [], None
    for split in (False, True):
        torch.manual_seed(0)
        model = gpt(90, 32, width=64, layers=2, heads=2, dropout=0.0).to(size.device)
        if split:
            sharded.shard(model, size.device)
            assert distributed.sharding(model) is sharded
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=size.gpu or None)
        draw = torch.Generator().manual_seed(1)
        for _ in range(5):
            tokens = torch.randint(90, (4, 33), generator=draw).to(size.device)
            logits = model(tokens[:, :-1]).flatten(0, 1)
            error: Any = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
            error.backward()
            optimizer.step()
            optimizer.zero_grad()
        full = (p.full_tensor() if split else p for p in model.parameters())
        weights.append([p.detach().cpu().clone() for p in full])
    apart = max(float((one - other).abs().max()) for one, other in zip(*weights, strict=True))
    loss = torch.nn.Module()  # has no parameters
    saved = {"shards": "shards", "shards_folder": Path("shards"), **sharded.state_dicts(model, None, optimizer, loss)}
    sharded.save_shards(saved["tensors"], saved["shards_folder"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    sharded.restore(saved, model, None, optimizer, loss)
    back = [p.full_tensor().cpu() for p in model.parameters()]
    same = all(torch.equal(one, other) for one, other in zip(weights[1], back, strict=True))
    dist.destroy_process_group()
    return {"apart": apart, "loaded": same, "good": same and apart < 1e-5}


# --- all parts, within the time limit ---

PARTS: dict[str, tuple[str, list[str]]] = {  # the project that it runs in, and what to run there
    "copies": ("resnet", ["copies"]),
    "resume": ("resnet", ["resume"]),
    "fsdp": ("gpt", ["fsdp"]),
    "waits-resnet": ("resnet", ["waits", "resnet"]),
    "waits-gpt": ("gpt", ["waits", "gpt"]),
    "speed-resnet": ("resnet", ["by_hand", "ours", "ours", "by_hand"]),
    "speed-gpt": ("gpt", ["by_hand", "ours", "ours", "by_hand"]),
}


def python(project: Path, seconds: float, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a project; the exit status is 124 if it does not end in time."""
    path = os.pathsep.join(filter(None, [str(project / "src"), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    command, limit = [sys.executable, *words], max(1, seconds)
    try:
        return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"not done within the {limit:.0f} s that were left")


def process(project: Path, words: list[str], seconds: float) -> dict[str, Any]:
    """The last line of a process's output, or all of it if the process failed."""
    for left in project.glob("checkpoints/*/"):
        shutil.rmtree(left)
    done = python(project, seconds, str(Path(__file__).resolve()), "--process", *words)
    if done.returncode:
        return {"failed": f"{' '.join(words)}: {(done.stderr or done.stdout)[-3000:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def part(folder: Path, name: str, end: float) -> dict[str, Any]:
    """The result of a part; for speeds, the ratio of medians of alternating measurements."""
    project, steps = PARTS[name]
    if not name.startswith("speed"):
        return process(folder / project, steps, end - time.monotonic())
    runs: dict[str, list[dict[str, Any]]] = {"by_hand": [], "ours": []}
    for step in steps:
        runs[step].append(process(folder / project, [step, project], end - time.monotonic()))
        if "failed" in runs[step][-1]:
            return runs[step][-1]
    hand, own = ({key: [run[key] for run in runs[step]] for key in ("speed", "memory")} for step in runs)
    found: dict[str, Any] = {"by hand": statistics.median(hand["speed"]), "project": statistics.median(own["speed"])}
    found["ratio"] = found["project"] / found["by hand"]
    if own["memory"][0] is not None:
        found["MiB by hand"], found["MiB project"] = max(hand["memory"]), max(own["memory"])
        found["good"] = found["ratio"] >= 0.98
    return found


def own(project: Path, end: float) -> dict[str, Any]:
    """A project's tests on the device that `auto` chooses; its metrics in fp32, and in bf16 with compile."""
    package = next(path.parent.name for path in project.glob("src/*/cli.py"))
    for path in project.glob("test/*.py"):
        path.write_text(path.read_text().replace("run.device=cpu", "run.device=auto"))
    config = str(next(project.glob("configs/train.*")).relative_to(project))
    bf16 = ["train.precision=bf16", f"train.compile={str(Size().gpu).lower()}"]
    found: dict[str, Any] = {}
    for name, words in {
        "tests": ["pytest", "-q", "-p", "no:cacheprovider", "test"],
        "train fp32": [package, "train", config, "run.name=fp32"],
        "fp32": [package, "test", "fp32", "--json"],
        "train bf16": [package, "train", config, "run.name=bf16", *bf16],
        "bf16": [package, "test", "bf16", "--json"],
    }.items():
        done = python(project, end - time.monotonic(), "-m", *words)
        if done.returncode:
            print(f"{project.name}: {name}:", done.stdout[-6000:], done.stderr[-3000:], sep="\n", file=sys.stderr)
            found |= {name: (done.stdout + done.stderr).splitlines()[-1], "good": False}
            if done.returncode == 124:
                break
        elif name == "tests":
            found[name] = done.stdout.splitlines()[-1]
        elif "train" not in name:
            found[name] = {k: v for k, v in json.loads(done.stdout).items() if isinstance(v, float) and k != "loss"}
    return found


def measure(folder: Path, projects: Path | None, only: list[str], end: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part's result, one after the other; then each project's, all in parallel."""
    for name in only:
        yield name, part(folder, name, end)
    if projects:
        shutil.copytree(projects, folder / "projects")
        homes = sorted(path.parents[1] for path in folder.glob("projects/*/configs/train.*"))
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
            yield from zip([home.name for home in homes], pool.map(partial(own, end=end), homes), strict=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--projects", type=Path, metavar="FOLDER", help="test and train each project there, too")
    parser.add_argument("--seconds", type=float, default=480, help="in all (480)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    import torch

    end = time.monotonic() + arguments.seconds
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    where = gpu or "no GPU: on the CPU at a small size, which shows that the script works, and nothing else"
    said = [f"torch {torch.__version__}; {where}", "", "| part | result |", "|---|---|"]
    print("\n".join(said), flush=True)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        for name, found in measure(Path(folder), arguments.projects, arguments.only, end):
            results[name] = found
            if "failed" in found:
                print(found["failed"], file=sys.stderr)
                found["failed"] = found["failed"].splitlines()[-1]
            verdict = "FAILED: " if "failed" in found else "" if found.get("good", True) else "NOT AS IT SHOULD BE: "
            figures = (f"{k} {round(v, 3) if isinstance(v, float) and v > 0.01 else v}" for k, v in found.items())
            said.append(f"| {name} | {verdict}{', '.join(figures)} |")
            print(said[-1], flush=True)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(said) + "\n")
    if arguments.json:
        whole = {"gpu": gpu, "torch": torch.__version__, "python": sys.version, "parts": results}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    return int(not all(found.get("good", "failed" not in found) for found in results.values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(globals()[sys.argv[2]](*sys.argv[3:])))
    else:
        sys.exit(main())
