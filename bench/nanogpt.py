"""The project's loop compared with nanoGPT's training script: the same text, model, initial weights and batches.

    git clone https://github.com/karpathy/nanoGPT build/nanoGPT
    .venv/bin/python bench/nanogpt.py build/nanoGPT [ROUNDS]

nanoGPT's train.py runs unchanged, with its settings for a CPU, on the characters of the project's sample text. The
project trains nanoGPT's model, with a config, a scheduler in `scheduler.py` and a task that yields the same batches.
Both have one thread and print a line every 10 steps. Each is a separate process, in an order that changes from round
to round, after a first round that doesn't count. CPU time of the process is measured, from step 100 to the last.
"""

import json
import os
import pickle
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

STEPS, FIRST = 500, 100  # steps of a run; the clock starts after the first 100
LENGTH = 64  # characters of a window
MODEL = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": LENGTH, "dropout": 0.0, "bias": False}
RATES = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 50, "lr_decay_iters": STEPS}
BATCH, DECAY, BETAS = 12, 0.1, (0.9, 0.99)
SCHEDULER = """

def of_nanogpt(optimizer, learning_rate, min_lr, warmup_iters, lr_decay_iters):
    def factor(step):
        if step < warmup_iters:
            return (step + 1) / (warmup_iters + 1)
        part = min(1, (step - warmup_iters) / (lr_decay_iters - warmup_iters))
        final = min_lr / learning_rate
        return final + (1 - final) * (1 + math.cos(math.pi * part)) / 2

    return LambdaLR(optimizer, factor)
"""


def main(checkout: Path, rounds: int) -> None:
    import peers  # not for the contenders: see peers.run

    times, losses = list[dict[str, float]](), dict[str, set[float]]()
    with tempfile.TemporaryDirectory() as folder:
        project = peers.render(Path(folder) / "project", "--data=data_kind=language_modeling")
        with (project / "src/my_project/scheduler.py").open("a") as file:
            file.write(SCHEDULER)
        vocabulary = encode(project)
        for number, order in enumerate([list(CONTENDERS), *peers.rotated(list(CONTENDERS), rounds)]):
            row = {}
            for name in order:
                program = str(Path(__file__).resolve())
                said = peers.run(project, program, "--contender", name, str(vocabulary), NANOGPT=str(checkout))
                row[name], loss = json.loads(said.splitlines()[-1])
                losses.setdefault(name, set()).add(round(loss, 6))
            if number:
                times.append({name: row[name] for name in CONTENDERS})
    print(peers.environment() + "\n")
    print(peers.table(f"a step of {BATCH} x {LENGTH} characters", "ms", times, "nanoGPT"))
    print(f"\nloss on the validation text after {STEPS} steps:", losses)


def encode(project: Path) -> int:
    """Write the sample text as nanoGPT reads it; returns the number of different characters."""
    folder = project / "data" / "characters"
    folder.mkdir()
    split = {
        new: "\n".join(path.read_text(encoding="utf-8") for path in sorted((project / "data" / old).glob("*.txt")))
        for new, old in (("train", "train"), ("val", "valid"))
    }
    characters = sorted({*split["train"], *split["val"]})
    number = {character: index for index, character in enumerate(characters)}
    for name, text in split.items():
        (folder / f"{name}.bin").write_bytes(b"".join(number[c].to_bytes(2, "little") for c in text))
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(characters)}))  # nanoGPT reads it
    return len(characters)


class Positions:
    """Draws where the windows of each batch begin, and records the time of each draw."""

    def __init__(self) -> None:
        import torch

        self.randint, self.generator = torch.randint, torch.Generator().manual_seed(0)
        self.seen: list[float] = []

    def draw(self, most: int) -> Any:
        self.seen.append(time.process_time())
        return self.randint(most, (BATCH,), generator=self.generator)

    def milliseconds(self) -> float:
        """The mean CPU time of a step after the first ones."""
        return (self.seen[STEPS - 1] - self.seen[FIRST]) / (STEPS - 1 - FIRST) * 1e3


def nanogpt(vocabulary: int) -> tuple[float, dict[str, Any]]:
    """nanoGPT's train.py; only its draw of positions is replaced, so that the project trains on the same windows."""
    import torch

    folder, checkout = Path(tempfile.mkdtemp(dir=".")), Path(os.environ["NANOGPT"])
    settings: dict[str, Any] = {
        **MODEL,
        **RATES,
        "beta1": BETAS[0],
        "beta2": BETAS[1],
        "weight_decay": DECAY,
        "max_iters": STEPS,
    }
    settings |= {"batch_size": BATCH, "gradient_accumulation_steps": 1, "dataset": "characters", "log_interval": 10}
    settings |= {"device": "cpu", "compile": False, "eval_interval": STEPS, "eval_iters": 1, "out_dir": str(folder)}
    positions, real = Positions(), torch.randint
    calls: list[int] = []

    def drawn(*arguments: Any, **options: Any) -> Any:
        if len(arguments) != 2:
            return real(*arguments, **options)
        calls.append(1)
        evaluated = len(calls) in (2, 3)  # before the first step: one batch of each split
        return real(*arguments) if evaluated else positions.draw(arguments[0])

    torch.randint = drawn
    os.symlink(checkout / "configurator.py", "configurator.py")
    sys.argv[1:] = [f"--{key}={value}" for key, value in settings.items()]
    sys.path.insert(0, str(checkout))
    runpy.run_path(str(checkout / "train.py"))
    os.unlink("configurator.py")
    weights = torch.load(folder / "ckpt.pt", weights_only=False)["model"]  # written by this process
    return positions.milliseconds(), weights


def ours(vocabulary: int) -> tuple[float, dict[str, Any]]:
    """The command `train`."""
    import numpy as np
    import torch

    sys.path.insert(0, os.environ["NANOGPT"])
    task: Any = import_module("my_project.task")
    positions, length = Positions(), LENGTH

    class Windows:
        def __len__(self) -> int:
            return STEPS + 1

        def __iter__(self) -> Iterator[Any]:
            for _ in range(STEPS + 1):
                data = np.memmap("data/characters/train.bin", dtype=np.uint16, mode="r")
                begins = positions.draw(len(data) - length)
                yield tuple(
                    torch.stack([torch.from_numpy(data[b + more : b + more + length].astype(np.int64)) for b in begins])
                    for more in (0, 1)
                )

    class OfNanoGPT(task.Task):  # type: ignore[misc]
        def train_loader(self) -> Any:
            return Windows()

        def eval_loader(self, split: str) -> Any:
            zeros = torch.zeros(1, length, dtype=torch.int64)
            return [(zeros, zeros)]

        def build_model(self) -> Any:
            torch.manual_seed(1337)
            return network(vocabulary)

        def forward(self, model: Any, batch: Any) -> Any:
            return model(*batch)  # logits and the loss

        def loss(self, outputs: Any, batch: Any) -> Any:
            return outputs[1]

        def metrics(self) -> Any:
            begins = torch.ones(vocabulary, dtype=torch.int64)

            class Surprise(task.Surprise):  # type: ignore[misc]
                def update(self, outputs: Any, batch: Any) -> None:
                    super().update(outputs[0], batch)

            return Surprise(begins, self.device)

        def draw_batch(self, batch: Any, folder: Path) -> Path:
            return folder

    task.Task = OfNanoGPT
    scheduler = json.dumps(RATES)
    name = f"run-{time.time_ns()}"
    settings = [f"run.name={name}", f"train.max_steps={STEPS}", "train.log_every=10", "run.device=cpu"]
    settings += [f"optimizer.lr={RATES['learning_rate']}", f"optimizer.weight_decay={DECAY}"]
    settings += [f"optimizer.args.betas={list(BETAS)}", "scheduler.name=of_nanogpt", f"scheduler.args={scheduler}"]
    settings += ["train.grad_clip=1.0", "train.ema=null", "train.accumulate=1", "scheduler.every=step"]
    assert import_module("my_project.cli").main(["train", "configs/train.yaml", *settings]) == 0
    weights = torch.load(Path("checkpoints", name, "last.pt"), weights_only=True)["model"]
    return positions.milliseconds(), weights


def network(vocabulary: int) -> Any:
    """nanoGPT's model."""
    module: Any = import_module("model")
    return module.GPT(module.GPTConfig(vocab_size=vocabulary, **MODEL))


def contend(name: str, vocabulary: int) -> None:
    """Run one contender in this process; the last line of its output is its time and its loss at the end."""
    import numpy as np
    import torch

    milliseconds, weights = CONTENDERS[name](vocabulary)
    model = network(vocabulary).eval()
    model.load_state_dict(weights)
    data = torch.from_numpy(np.fromfile("data/characters/val.bin", dtype=np.uint16).astype(np.int64))
    whole = (len(data) - 1) // LENGTH * LENGTH
    windows: list[Any] = [data[first : first + whole].view(-1, LENGTH) for first in (0, 1)]
    with torch.no_grad():
        losses = [model(x, y)[1] for x, y in zip(*(part.split(64) for part in windows), strict=True)]
    print("\n" + json.dumps([milliseconds, statistics.mean(map(float, losses))]))


CONTENDERS = {"nanoGPT": nanogpt, "the project": ours}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], int(sys.argv[3]))
    else:
        main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
