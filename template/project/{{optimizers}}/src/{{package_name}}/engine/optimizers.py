"""Rules for parameters, several optimizers, and a task's own training steps.

The config's `optimizer.groups` and the task's `build_optimizers` and `train_step` use them.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from torch import Tensor, nn

from .. import optim
from ..components import UNSUPPORTED, build, defined_in
from ..config import Section
from ..errors import UserError
from ..options import Component, Config, Optimizer
from . import distributed
from .contract import Batch, batch_size
from .device import autocast
from .session import Session
from .state import end_step, optimizer_step


class Group(Section):
    """A rule of `optimizer.groups`: the options of the parameters that match it."""

    match: str  # a pattern of names, with * and ?; the first rule that a parameter matches counts
    ndim: Annotated[int | None, Field(ge=0)] = None  # only tensors with this number of dimensions
    name: str | None = None  # another optimizer
    lr: Annotated[float | None, Field(gt=0)] = None
    weight_decay: Annotated[float | None, Field(ge=0)] = None
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Optimizers(torch.optim.Optimizer):
    """Several optimizers as one; schedulers and checkpoints see the groups of all."""

    def __init__(self, each: Sequence[torch.optim.Optimizer]) -> None:
        self.each = each
        super().__init__([group for one in each for group in one.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for optimizer in self.each:
            optimizer.step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {"each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.each, state_dict["each"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for one in self.each for group in one.param_groups]


def of_task(task: Any, model: nn.Module) -> torch.optim.Optimizer:
    """What the task's `build_optimizers` returns: an optimizer, or several as one."""
    built = task.build_optimizers(model)
    return Optimizers(list(built)) if isinstance(built, list | tuple) else built


def by_rules(
    config: Optimizer, known: Mapping[str, Any], *modules: nn.Module
) -> torch.optim.Optimizer:
    """The optimizers of a config with `groups`; `known` has those that it can name.

    Raises UserError for a rule that is wrong, or that no parameter matches.
    """
    try:
        rules = TypeAdapter(list[Group]).validate_python(config.groups)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("optimizer.groups", *first["loc"])))
        raise UserError(f"{key}: {first['msg']}") from error
    parts: dict[str, list[Any]] = {config.name: []}  # groups by optimizer
    for rule in rules:
        check_rule(rule, config, known, modules[0])
    used = set[int]()
    for module in modules:
        left = dict(module.named_parameters())
        for number, rule in enumerate([*rules, Group(match="*")]):
            fits = {n: p for n, p in left.items() if fnmatchcase(n, rule.match)}
            fits = {n: p for n, p in fits.items() if rule.ndim in (None, p.dim())}
            left = {name: p for name, p in left.items() if name not in fits}
            used |= {number} if fits else set()
            options = rule.model_dump(include={"lr", "weight_decay"}, exclude_none=True)
            bare = [] if config.decay_all else [p for p in fits.values() if p.dim() < 2]
            rest = [p for p in fits.values() if config.decay_all or p.dim() >= 2]
            found = {"params": rest}, {"params": bare, "weight_decay": 0.0}
            groups = [{**options, **rule.args, **group} for group in found if group["params"]]
            parts.setdefault(rule.name or config.name, []).extend(groups)
    if unused := [rule for number, rule in enumerate(rules) if number not in used]:
        shown = (f"{r.match} (ndim {r.ndim})" if r.ndim is not None else r.match for r in unused)
        left_by = "" if len(rules) == 1 else " that earlier rules leave"
        raise UserError(f"optimizer.groups: no parameter{left_by} fits {', '.join(shown)}")
    built = []
    for name, groups in parts.items():
        if name in UNSUPPORTED.keys() - {"Muon"} - defined_in(optim).keys():
            raise UserError(f"optimizer.groups: {name} cannot be used: {UNSUPPORTED[name]}")
        one = Component(name=name, args=config.args if name == config.name else {})
        given: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        if "fused" not in one.args and all(p.is_cuda for g in groups for p in g["params"]):
            given["fused"] = True  # as `build_optimizer`
        if groups:
            built.append(build("optimizer", known, one, **given, params=groups, model=modules[0]))
    return Optimizers(built) if len(built) > 1 else built[0]


def check_rule(rule: Group, config: Optimizer, known: Mapping[str, Any], model: nn.Module) -> None:
    """Raise UserError if the rule's optimizer refuses its arguments, by building one."""
    name, weight = rule.name or config.name, nn.Parameter(torch.zeros(1, 1))
    args = {**(config.args if name == config.name else {}), **rule.args}
    given: dict[str, Any] = {"lr": rule.lr or config.lr, "weight_decay": 0.0}
    given |= {"params": [weight], "model": model}
    build("optimizer.groups", known, Component(name=name, args=args), **given)


def wrap(model: nn.Module, config: Config, *_: object) -> nn.Module:
    """The model for a task's own steps: not in DDP, whose backward pass needs all parameters."""
    if config.train.accumulate > 1:
        raise UserError("train.accumulate: should be 1 for a task with its own train_step")
    if distributed.world() > 1 and config.distributed.strategy != "ddp":
        raise UserError("distributed.strategy: should be ddp for a task with its own train_step")
    distributed.broadcast(*model.parameters(), *model.buffers())
    return model


def own_step(session: Session, batch: Batch, samples: float) -> float:
    """The task's `train_step` on a batch; returns the samples of all processes together."""
    state, task, config = session.state, session.task, session.config
    count = batch_size(task, batch)
    weight = count * distributed.world() / samples  # in the mean over all samples

    def update(loss: Tensor, optimizer: int = 0) -> None:
        chosen = getattr(state.optimizer, "each", [state.optimizer])[optimizer]
        weights = [p for group in chosen.param_groups for p in group["params"]]
        with torch.autocast(session.device.type, enabled=False):
            state.scaler.scale(loss * weight).backward(inputs=weights)
        distributed.average_gradients(weights)
        optimizer_step(state, config, weights, 1.0, chosen, session.hear)

    train_step: Callable[..., Any] = task.train_step  # type: ignore[attr-defined]
    with autocast(session.device, config.train.precision):
        outputs, loss = train_step(state.net, batch, update)
    state.metrics.update(outputs, batch)
    state.recent.update(loss, count)
    end_step(state, config, 1, int(samples))
    return samples
