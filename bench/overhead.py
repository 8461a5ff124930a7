"""Overhead of a training step: the project's loop and other frameworks, compared with a loop written by hand.

    .venv/bin/python bench/overhead.py [ROUNDS]

All do the same with the same batches, which are in memory: forward, cross entropy, backward, gradients clipped to
norm 1, AdamW, a scheduler step, the sum of the losses and a confusion matrix; a line is printed every 100 steps. The
data measures the time: between the batches that are fetched after such a line, within one epoch, so that no contender's
start or end counts. The result of a process is the median of these spans. The CPU time of the process is measured,
which other programs don't affect. Each contender is a separate process that measures both
models, in an order that changes from round to round, after a first round that doesn't count.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

SPANS = {"mlp": 20, "cnn": 3}  # spans that are measured, after one that isn't
LINE = 100  # steps of a span, at the end of which a line is printed
MODELS = {"mlp": "400-32-10 perceptron", "cnn": "the project's cnn, width 16"}
PACKAGES = ("lightning", "accelerate", "pytorch-ignite")


def main(rounds: int) -> None:
    import peers  # not for the contenders: see peers.run

    times: dict[str, list[dict[str, float]]] = {model: [] for model in MODELS}
    with tempfile.TemporaryDirectory() as folder:
        project = peers.render(Path(folder) / "project")
        for name in CONTENDERS:
            measured(project, name)
        for order in peers.rotated(list(CONTENDERS), rounds):
            figures = {name: measured(project, name) for name in order}
            for model, columns in times.items():
                columns.append({name: figures[name][model] for name in CONTENDERS})
    print(peers.environment(*PACKAGES))
    for model, columns in times.items():
        print("\n" + peers.table(f"a step of {MODELS[model]}", "µs", columns, "by hand"))


def measured(project: Path, name: str) -> dict[str, float]:
    """Microseconds per step, by model, measured in a new process."""
    import peers

    output = peers.run(project, str(Path(__file__).resolve()), "--contender", name)
    return {model: float(value) for model, value in json.loads(output.splitlines()[-1]).items()}


def contend(name: str) -> None:
    """Run one contender in this process; the last line of its output is the result."""
    taken = {}
    for model, spans in SPANS.items():
        batches = Batches(spans + 1)
        CONTENDERS[name](model, batches)
        measured = [late - early for early, late in pairwise(batches.looked)]
        assert len(measured) == spans
        taken[model] = statistics.median(measured) / LINE * 1e6
    print("\n" + json.dumps(taken))


class Batches:
    """An epoch of batches in memory; measures the time of each span."""

    def __init__(self, spans: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(0)
        self.looked: list[float] = []
        self.spans = spans
        self.batches = [
            (torch.rand(32, 1, 20, 20, generator=draw), torch.randint(10, (32,), generator=draw)) for _ in range(16)
        ]

    def __len__(self) -> int:
        return self.spans * LINE + 1

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self)):
            if number and number % LINE == 0:
                self.looked.append(time.process_time())
            yield self.batches[number % 16]


def build(model: str) -> Any:
    """The model, with the same initial weights for all contenders."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if model == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 10))
    return import_module("my_project.model.cnn").cnn(num_classes=10)


def optimizers(parameters: Any, steps: int) -> tuple[Any, Any]:
    """The optimizer and the scheduler of configs/train.yaml."""
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=0.003, weight_decay=0.01)
    return optimizer, import_module("my_project.scheduler").warmup_cosine(optimizer, steps)


class Figures:
    """Sums of loss and accuracy, and the printed line, by hand."""

    def __init__(self) -> None:
        import torch

        self.total, self.matrix = torch.zeros(()), torch.zeros(10, 10, dtype=torch.int64)
        self.one, self.samples, self.started = torch.ones((), dtype=torch.int64), 0, time.perf_counter()

    def update(self, logits: Any, targets: Any, loss: Any) -> None:
        """Add a batch."""
        self.total.add_(loss.detach(), alpha=len(targets))
        self.matrix.index_put_((targets, logits.detach().argmax(1)), self.one, accumulate=True)
        self.samples += len(targets)

    def line(self, step: int, scheduler: Any) -> None:
        """Print the line."""
        loss, right = float(self.total) / self.samples, int(self.matrix.trace()) / self.samples
        speed = self.samples / (time.perf_counter() - self.started)
        print(f"step {step} loss {loss:.4f} acc {right:.4f} {speed:.0f}/s lr {scheduler.get_last_lr()[0]:.1e}")


# --- the contenders ---


def by_hand(model: str, batches: Batches) -> None:
    """A minimal loop written by hand."""
    from torch import nn
    from torch.nn import functional as F

    net = build(model).train()
    parameters = list(net.parameters())
    optimizer, scheduler = optimizers(parameters, len(batches))
    figures = Figures()
    for step, (images, targets) in enumerate(batches, 1):
        logits = net(images)
        loss: Any = F.cross_entropy(logits, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        figures.update(logits, targets, loss)
        if step % LINE == 0:
            figures.line(step, scheduler)


def ours(model: str, batches: Batches, *settings: str) -> None:
    """The command `train`, with a task that has these batches."""
    task: Any = import_module("my_project.task")
    own: Any = task.Task

    class InMemory(own):  # type: ignore[misc]
        def train_loader(self) -> Any:
            return batches

        def eval_loader(self, split: str) -> Any:
            return batches.batches[:1]

        def build_model(self) -> Any:
            return build(model)

    task.Task = InMemory
    name = f"run.name={model}-{time.time_ns()}"
    settings = (*settings, name, "train.epochs=1", f"train.log_every={LINE}", "run.device=cpu")
    status = import_module("my_project.cli").main(["train", "configs/train.yaml", *settings])
    task.Task = own
    assert status == 0


def with_a_hook(model: str, batches: Batches) -> None:
    """The same with a hook that counts steps."""
    hooks: Any = import_module("my_project.hooks")

    class Count:
        __module__ = hooks.__name__  # as if the class were defined in hooks.py
        steps = 0

        def on_step(self, session: Any) -> None:
            self.steps += 1

    hooks.Count = Count
    ours(model, batches, "train.hooks={Count: {}}")


def lightning(model: str, batches: Batches, **options: Any) -> None:
    """Lightning: a LightningModule; `options` are arguments of its Trainer."""
    from torch.nn import functional as F

    L: Any = import_module("lightning")
    log = not options

    class Module(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.figures = build(model), Figures()

        def training_step(self, batch: Any, index: int) -> Any:
            images, targets = batch
            logits = self.net(images)
            loss: Any = F.cross_entropy(logits, targets)
            self.figures.update(logits, targets, loss)
            if log:
                self.log("loss", loss, prog_bar=True, batch_size=len(targets))
            if (index + 1) % LINE == 0:
                self.figures.line(index + 1, self.lr_schedulers())
            return loss

        def configure_optimizers(self) -> Any:
            optimizer, scheduler = optimizers(self.parameters(), len(batches))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    common = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "gradient_clip_val": 1.0, "log_every_n_steps": LINE}
    with tempfile.TemporaryDirectory() as folder:
        L.Trainer(**common, default_root_dir=folder, **options).fit(Module(), batches)


def lightning_bare(model: str, batches: Batches) -> None:
    """Lightning with every optional feature off."""
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    lightning(model, batches, **dict.fromkeys(names, False), num_sanity_val_steps=0)


def fabric(model: str, batches: Batches) -> None:
    """Lightning Fabric: a loop by hand."""
    from torch.nn import functional as F

    fabric = import_module("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    net = build(model).train()
    optimizer, scheduler = optimizers(net.parameters(), len(batches))
    net, optimizer = fabric.setup(net, optimizer)
    figures = Figures()
    for step, (images, targets) in enumerate(batches, 1):
        logits = net(images)
        loss: Any = F.cross_entropy(logits, targets)
        fabric.backward(loss)
        fabric.clip_gradients(net, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        figures.update(logits, targets, loss)
        if step % LINE == 0:
            figures.line(step, scheduler)


def accelerate(model: str, batches: Batches) -> None:
    """Accelerate: a loop by hand."""
    from torch.nn import functional as F

    accelerator = import_module("accelerate").Accelerator(cpu=True)
    net = build(model).train()
    net, optimizer, scheduler = accelerator.prepare(net, *optimizers(net.parameters(), len(batches)))
    figures = Figures()
    for step, (images, targets) in enumerate(batches, 1):
        logits = net(images)
        loss: Any = F.cross_entropy(logits, targets)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        figures.update(logits, targets, loss)
        if step % LINE == 0:
            figures.line(step, scheduler)


def ignite(model: str, batches: Batches) -> None:
    """Ignite: an Engine with handlers for the scheduler, the metrics and the line."""
    from torch import nn
    from torch.nn import functional as F

    engines: Any = import_module("ignite.engine")
    net = build(model).train()
    optimizer, scheduler = optimizers(net.parameters(), len(batches))
    figures = Figures()

    def step(engine: Any, batch: Any) -> Any:
        images, targets = batch
        optimizer.zero_grad()
        logits = net(images)
        loss: Any = F.cross_entropy(logits, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return logits, targets, loss

    trainer, done = engines.Engine(step), engines.Events.ITERATION_COMPLETED
    trainer.add_event_handler(done, lambda _: scheduler.step())
    trainer.add_event_handler(done, lambda engine: figures.update(*engine.state.output))
    trainer.add_event_handler(done(every=LINE), lambda engine: figures.line(engine.state.iteration, scheduler))
    trainer.run(batches, max_epochs=1)


CONTENDERS: dict[str, Callable[[str, Batches], None]] = {
    "by hand": by_hand,
    "the project": ours,
    "the project, a hook": with_a_hook,
    "Lightning": lightning,
    "Lightning, all off": lightning_bare,
    "Fabric": fabric,
    "Accelerate": accelerate,
    "Ignite": ignite,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
