"""A tiny task in memory, trained by the engine and by a loop written by hand; test_pairs.py runs it in a project.

As a program, it takes rows as JSON, and prints for each what differs by more than the tolerance.
"""

import contextlib
import copy
import io
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

SAMPLES, SIZE, EPOCHS, CLASSES = 78, 8, 3, 3  # ten batches per epoch, six samples in the last one
STEPS, EVERY = 17, 5  # of a run by steps: in all, and between validations, of which one is at an epoch's end
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def part(name: str) -> Any:
    return import_module(f"my_project.{name}")


def numbers(seed: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    return x, (x[:, :3] + 0.3 * torch.randn(count, 3, generator=generator)).argmax(dim=1)


class Learned(nn.Module):
    """Cross-entropy with a learned temperature, and a buffer that counts calls in training."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.5))
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return F.cross_entropy(logits * self.temperature, targets)


def make_model(dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, CLASSES))


def dropout(row: dict[str, Any], world: int) -> float:
    """The probability of dropout; 0 where the engine's draws differ, with several processes or compiled code."""
    return 0.0 if world > 1 or row["compile"] else 0.2


def make_loss(name: str) -> nn.Module:
    return Learned() if name == "Learned" else nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))


class Pairs(torch.utils.data.Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Tiny:
    """The task, as in `task.py`, with data in memory."""

    stop_at = 0  # the training call of `forward` that raises a signal; 0 for none

    def __init__(self, config: Any, device: torch.device, info: dict[str, Any] | None = None) -> None:
        self.config, self.info, self.calls = config, info or {}, 0
        self.loss_function = make_loss(config.loss.name)

    def train_loader(self) -> Any:
        return part("data.dataloader").train_loader(Pairs(*numbers(1, SAMPLES)), self.config)

    def eval_loader(self, split: str) -> Any:
        return part("data.dataloader").eval_loader(Pairs(*numbers(2, 40)), self.config)

    def build_model(self) -> nn.Module:
        return make_model(self.config.model.args["dropout"])

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += model.training
        if model.training and self.calls == Tiny.stop_at:
            signal.raise_signal(signal.SIGUSR1)
        outputs: Tensor = model(batch[0])
        return outputs

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        value: Tensor = self.loss_function(outputs, batch[1])
        return value

    def metrics(self) -> Any:
        return part("engine.metrics").Confusion(CLASSES, "cpu")

    def draw_batch(self, batch: Any, folder: Path) -> Path:
        return folder / "train.png"


def config_of(row: dict[str, Any], world: int) -> Any:
    scheduler = {
        "cosine": {"name": "warmup_cosine", "args": {"warmup": 0.2}},
        "steps": {"name": "StepLR", "args": {"step_size": 2, "gamma": 0.5}},
        "plateau": {"name": "ReduceLROnPlateau", "args": {"patience": 0, "factor": 0.5}},
    }[row["scheduler"]]
    return part("options").Config.model_validate(
        {
            "run": {"device": "cpu"},
            "data": {"batch_size": SIZE // world, "workers": row["workers"], "transforms": {}},
            "model": {"name": "tiny", "args": {"dropout": dropout(row, world)}},
            "loss": {"name": row["loss"]},
            "optimizer": {"name": "AdamW", "lr": 0.02, "decay_all": row["decay_all"]},
            "scheduler": {**scheduler, "every": row["every"]},
            "train": {
                "epochs": EPOCHS,
                "accumulate": row["accumulate"],
                "grad_clip": row["clip"],
                "ema": row["ema"],
                "precision": row["precision"],
                "compile": row["compile"],
                "log_every": 2,
                "max_steps": STEPS if row["by"] == "steps" else None,
            },
            "valid": {"every_steps": EVERY if row["by"] == "steps" else None},
            "distributed": {"strategy": "fsdp" if row["strategy"] == "fsdp" else "ddp"},
            "checkpoint": {"monitor": "acc" if row["mode"] == "max" else "loss", "mode": row["mode"]},
        }
    )


def by_engine(row: dict[str, Any], world: int, run: Path) -> tuple[dict[str, Tensor], float, int]:
    """Train a row with the engine; returns weights, the best metric and its epoch. Some rows stop and resume it."""
    loop, errors, checkpoint = part("engine.loop"), part("errors"), part("engine.checkpoint")
    part("task").Task = Tiny
    config = config_of(row, world)
    Tiny.stop_at = {"never": 0, "in an epoch": 13, "in the last step": 10}[row["resume"]]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            state = loop.train(config, run)
            assert not Tiny.stop_at, "no signal came"
        except errors.Stopped:
            Tiny.stop_at = 0
            torch.manual_seed(99)
            state = loop.train(config, run, checkpoint.newest(run))
    tensors: dict[str, Any] = state.evaluated.state_dict()
    weights = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in tensors.items()}
    weights |= {f"loss.{name}": value for name, value in state.loss_module.state_dict().items() if name != "calls"}
    return weights, state.best, int(state.best_file.split("-e")[1][:3])


def by_hand(row: dict[str, Any], world: int) -> tuple[dict[str, Tensor], float, int]:
    """Train a row in plain PyTorch without the engine's loop, on the batches of all processes together."""
    part("engine.device").prepare(config_of(row, world).run)  # the seed
    loss_function, model = make_loss(row["loss"]), make_model(dropout(row, world))
    ema = copy.deepcopy(model)
    weights = [*model.parameters(), *loss_function.parameters()]
    every = [list(module.parameters()) for module in (model, loss_function)]
    groups: list[Any] = [{"params": params} for params in every if params]
    if not row["decay_all"]:
        groups = [{"params": [p for p in params if p.dim() >= 2]} for params in every]
        groups += [{"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0} for params in every]
        groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=0.02, weight_decay=0.01)
    accumulate = row["accumulate"]
    each, by_steps = math.ceil(math.ceil(SAMPLES / SIZE) / accumulate), row["by"] == "steps"
    most = STEPS if by_steps else EPOCHS * each
    steps = most if row["every"] == "step" else math.ceil(most / each)
    warmup = round(0.2 * steps)

    def cosine(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) / 2

    scheduler: Any = LambdaLR(optimizer, cosine) if row["scheduler"] == "cosine" else None  # sets the rate at once
    if row["scheduler"] == "steps":
        scheduler = StepLR(optimizer, 2, 0.5)
    elif row["scheduler"] == "plateau":
        scheduler = ReduceLROnPlateau(optimizer, mode=row["mode"], patience=0, factor=0.5)
    plateau = row["scheduler"] == "plateau"
    scaler = torch.amp.GradScaler("cpu", enabled=row["precision"] == "fp16")
    x, y = numbers(1, SAMPLES)
    valid_x, valid_y = numbers(2, 40)
    lower = torch.autocast("cpu", DTYPES[row["precision"]], enabled=row["precision"] != "fp32")
    best, best_loss, best_epoch, step = math.nan, math.nan, 0, 0

    def validate(epoch: int) -> None:
        nonlocal best, best_loss, best_epoch
        tested = (ema if row["ema"] else model).eval()
        with torch.no_grad(), lower:
            shares = [torch.split(torch.arange(rank, 40, world), SIZE // world) for rank in range(world)]
            parts = [(tested(valid_x[share]), valid_y[share]) for split in shares for share in split]
            valid_loss = sum(float(loss_function(out, truth) * len(truth)) for out, truth in parts) / 40
        right = sum(int((out.argmax(1) == truth).sum()) for out, truth in parts)
        figure = right / 40 if row["mode"] == "max" else valid_loss
        better = math.isnan(best) or (figure > best if row["mode"] == "max" else figure < best)
        if better or (figure == best and valid_loss < best_loss):
            best, best_loss, best_epoch = figure, valid_loss, epoch + 1
        if plateau:
            scheduler.step(figure)
        model.train()

    for epoch in range(math.ceil(most / each)):
        model.train()
        order = np.random.default_rng((0, epoch)).permutation(SAMPLES)
        batches = [order[first : first + SIZE] for first in range(0, SAMPLES, SIZE)]
        for start in range(0, len(batches), accumulate):
            group = batches[start : start + accumulate]
            group = [share for batch in group for share in np.array_split(batch, world)]
            total = sum(map(len, group))
            for batch in group:
                with lower:
                    loss = loss_function(model(x[batch]), y[batch])
                scaler.scale(loss if len(group) == 1 else loss * len(batch) / total).backward()
            if row["clip"]:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(weights, row["clip"])
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if row["every"] == "step" and not plateau:
                scheduler.step()
            if row["ema"]:
                decay = min(row["ema"], (1 + step) / (10 + step))
                for mean, weight in zip(ema.parameters(), model.parameters(), strict=True):
                    mean.data.lerp_(weight.data, 1 - decay)
            step += 1
            if by_steps and (step % EVERY == 0 or step == most):
                validate(epoch)
            if step == most:
                break
        if not by_steps:
            validate(epoch)
        if row["every"] == "epoch" and not plateau:
            scheduler.step()
    found = {name: value.detach() for name, value in (ema if row["ema"] else model).state_dict().items()}
    found |= {f"loss.{name}": v.detach() for name, v in loss_function.state_dict().items() if name != "calls"}
    return found, best, best_epoch


def tolerance(row: dict[str, Any], world: int) -> float:
    """0 if both do the same operations in the same order, otherwise by the rounding of the precision."""
    if row["accumulate"] == 1 and world == 1 and not row["compile"]:
        return 0.0
    return 1e-4 if row["precision"] == "fp32" else 0.2


def compared(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The error of each row, empty if there is none."""
    distributed = part("engine.distributed")
    rank, world = distributed.rank(), distributed.world()
    for number, row in enumerate(rows):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(os.environ.get("RUNS", folder)) / f"run-{number}"
            weights, best, epoch = by_engine(row, world, run)
        known, known_best, known_epoch = by_hand(row, world)
        allowed = tolerance(row, world)
        far = {name: float((weights[name] - value).norm() / value.norm()) for name, value in known.items()}
        wrong = [f"{name} differs by {value:.1%}" for name, value in far.items() if not value <= allowed]
        if abs(best - known_best) > max(allowed, 1e-6) or (allowed < 0.1 and epoch != known_epoch):
            wrong.append(f"best {best} of epoch {epoch}, by hand {known_best} of {known_epoch}")
        if rank == 0:
            yield "; ".join(wrong)
        distributed.all_sum()
        while distributed._wrapped:
            distributed._wrapped.pop()


def main() -> None:
    rows = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    with part("engine.distributed").process_group("pairs"):
        found = list(compared(rows))
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
