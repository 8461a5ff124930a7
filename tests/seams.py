"""Tasks and hooks that test_seams.py trains in a project, as tiny.py does with its own."""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def config(**sections: Any) -> Any:
    """The config of a tiny run of three epochs of ten steps, with these changes."""
    row = {"scheduler": "cosine", "every": "step", "by": "epochs", "workers": 0, "loss": "CrossEntropyLoss"}
    row |= {"decay_all": True, "accumulate": 1, "clip": None, "ema": None, "precision": "fp32", "compile": False}
    base = tiny.config_of(row | {"strategy": "one", "mode": "min"}, tiny.part("engine.distributed").world())
    changed = base.model_dump()
    for name, values in sections.items():
        changed[name] = {**changed[name], **values}
    return type(base).model_validate(changed)


class Listener:
    """Records the calls of its methods, and counts steps in a state that checkpoints store."""

    def __init__(self, heard: list[str], all_ranks: bool = False) -> None:
        self.heard, self.all_ranks, self.steps = heard, all_ranks, 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda session, *news: self.heard.append(f"{name[3:]} {session.state.step}")

    def on_step(self, session: Any) -> None:
        self.steps += 1

    def on_log(self, session: Any, figures: dict[str, float]) -> None:
        figures["steps"] = self.steps

    def on_validation(self, session: Any, figures: dict[str, float]) -> None:
        figures["steps"] = self.steps

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


class Finish:
    """Ends the run at a step; with two processes, both end one step later."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step(self, session: Any) -> None:
        session.finish = session.state.step >= self.at


class Dicts(tiny.Tiny):
    """A task whose batches are dicts, without a length of the training data: an endless stream."""

    def train_loader(self) -> Any:
        return torch.utils.data.DataLoader(Stream(), batch_size=None)

    def eval_loader(self, split: str) -> Any:
        return [{"inputs": x, "labels": y} for x, y in super().eval_loader(split)]

    def batch_size(self, batch: Any) -> int:
        return len(batch["labels"])

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return super().forward(model, [batch["inputs"]])

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(outputs, batch["labels"])

    def metrics(self) -> Any:
        confusion = super().metrics()
        update = confusion.update
        confusion.update = lambda outputs, batch: update(outputs, (None, batch["labels"]))
        return confusion


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        rank, world = tiny.part("engine.distributed").rank(), tiny.part("engine.distributed").world()
        for number in range(rank, 1000, world):
            x, y = tiny.numbers(number, 8)
            yield {"source": ["made"], "inputs": x, "labels": y}


class GAN(tiny.Tiny):
    """Two optimizers, two steps a batch: a generator learns the distribution of the inputs."""

    def build_model(self) -> nn.Module:
        return gan()

    def build_optimizers(self, model: Any) -> list[torch.optim.Optimizer]:
        return optimizers(model)

    def train_step(self, model: Any, batch: Any, update: Any) -> tuple[Tensor, Tensor]:
        noise = torch.linspace(-1, 1, len(batch[0])).repeat(4, 1).T
        real, fake = batch[0], model["generator"](noise)
        update(judged(model, real, 1) + judged(model, fake.detach(), 0), 0)
        loss = judged(model, fake, 1)
        update(loss, 1)
        return model["discriminator"](real).detach(), loss

    def forward(self, model: Any, batch: Any) -> Tensor:
        logits: Tensor = model["discriminator"](batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return outputs.mean()

    def metrics(self) -> Any:
        return Nothing()


class Nothing:
    def update(self, outputs: Any, batch: Any) -> None: ...

    def compute(self) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def merge(self, states: list[dict[str, Any]]) -> None: ...


def gan() -> nn.ModuleDict:
    parts = {"generator": nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 6))}
    parts["discriminator"] = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    return nn.ModuleDict(parts)


def optimizers(model: Any) -> list[torch.optim.Optimizer]:
    discriminator = torch.optim.AdamW(model["discriminator"].parameters(), lr=0.01)
    return [discriminator, torch.optim.SGD(model["generator"].parameters(), lr=0.05, momentum=0.9)]


def judged(model: Any, samples: Tensor, real: float) -> Tensor:
    logits = model["discriminator"](samples)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


def gan_by_hand(settings: Any) -> list[float]:
    """The mean of the generator's loss in each epoch of a loop without the engine."""
    tiny.part("engine.device").prepare(settings.run)
    model = gan()
    first, second = optimizers(model)
    x, _ = tiny.numbers(1, tiny.SAMPLES)
    rates = [copy.deepcopy(group["lr"]) for each in (first, second) for group in each.param_groups]
    step, means = 0, []
    for epoch in range(tiny.EPOCHS):
        order, losses = np.random.default_rng((0, epoch)).permutation(tiny.SAMPLES), []
        for start in range(0, tiny.SAMPLES, tiny.SIZE):
            factor = cosine(step)
            for each, rate in zip((first, second), rates, strict=True):
                each.param_groups[0]["lr"] = rate * factor
            real = x[order[start : start + tiny.SIZE]]
            world = tiny.part("engine.distributed").world()
            parts = [len(share) for share in np.array_split(np.arange(len(real)), world)]
            noise = torch.cat([torch.linspace(-1, 1, count).repeat(4, 1).T for count in parts])
            fake = model["generator"](noise)
            first.zero_grad()
            torch.autograd.backward(judged(model, real, 1) + judged(model, fake.detach(), 0))
            first.step()
            loss = judged(model, fake, 1)
            second.zero_grad()
            torch.autograd.backward(loss)
            second.step()
            losses += [float(loss)] * len(real)
            step += 1
        means.append(sum(losses) / len(losses))
    return means


def cosine(step: int) -> float:
    warmup, steps = 6, 30
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return float(0.01 + 0.99 * (1 + np.cos(np.pi * min(1.0, (step - warmup) / (steps - warmup)))) / 2)


def train(run: str, settings: Any, task: Any = tiny.Tiny, **options: Any) -> Any:
    return tiny.part("engine.loop").train(settings, Path(run), task=task, **options)


def resumed(run: str, settings: Any, task: Any = tiny.Tiny, stop_at: int = 0, hooks: Any = list) -> Any:
    """Train a run, stop it in the given training call of `forward`, and resume it, both times with new `hooks()`."""
    tiny.Tiny.stop_at = stop_at
    try:
        train(run, settings, task, hooks=hooks())
        sys.exit("no signal came")
    except tiny.part("errors").Stopped:
        tiny.Tiny.stop_at = 0
    torch.manual_seed(99)
    return train(run, settings, task, resume=tiny.part("engine.checkpoint").newest(Path(run)), hooks=hooks())
