"""From a name in the config to a function or class: your own first, then torch's.

Yours are what `loss`, `optim`, `scheduler`, `transforms` (each a file, or a folder of files) and
`model/` define. There is nothing to register.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from . import loss, model, optim, scheduler, transforms
from .config import did_you_mean
from .errors import UserError
from .options import Component, Optimizer, Scheduler

Factory = Callable[..., Any]


def defined_in(module: ModuleType) -> dict[str, Factory]:
    """The public functions and classes of a module, or of all files of a package but `utils`."""
    found: dict[str, Factory] = {}
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    files = [importlib.import_module(f"{module.__name__}.{n}") for n in names if n != "utils"]
    for file in [module, *files]:
        items = vars(file).items()
        own = {k: v for k, v in items if getattr(v, "__module__", None) == file.__name__}
        found |= {name: value for name, value in own.items() if name[0] != "_"}
    return found


def bind(key: str, known: Mapping[str, Factory], name: str, args: Any, **given: Any) -> Factory:
    """The component called `name`, with its `args` and with those of `given` that it takes.

    Raises UserError, with the config key, where there is no such component or argument.
    """
    if name not in known:
        raise UserError(f"{key}: nothing is called {name!r}{did_you_mean(name, known)}")
    parameters = inspect.signature(known[name]).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for arg in args:
        if arg in given:
            raise UserError(f"{key}.args.{arg}: comes from {key}.{arg} or the data; remove it")
        if arg not in parameters and not takes_any:
            hint = did_you_mean(arg, parameters)
            raise UserError(f"{key}: {name} takes no argument {arg!r}{hint}")
    given = {arg: value for arg, value in given.items() if arg in parameters}
    return partial(known[name], **{**given, **args})


def build(key: str, known: Mapping[str, Factory], config: Component, **given: Any) -> Any:
    """A new component; UserError if there is no such one, or it refuses its arguments."""
    factory = bind(key, known, config.name, config.args, **given)
    try:
        return factory()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{key}: {error}") from error


def build_model(config: Component, **given: Any) -> nn.Module:
    """A model of `model/`; `given` is what the data say of it (num_classes, ...)."""
    own = {name: f for name, f in defined_in(model).items() if inspect.isfunction(f)}
    return build("model", own, config, **given)


def build_loss(config: Component) -> Callable[..., torch.Tensor]:
    """A loss of yours or of torch.nn: a class is built, a function is called as it is."""
    known = {name: c for name, c in vars(nn).items() if name.endswith("Loss")} | defined_in(loss)
    if inspect.isfunction(known.get(config.name)):
        return bind("loss", known, config.name, config.args)
    return build("loss", known, config)


def build_optimizer(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of yours or of torch.optim, for all parameters of the model."""
    known = _classes(torch.optim, torch.optim.Optimizer) | defined_in(optim)
    params: list[Any] = list(model.parameters())
    given: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if "fused" not in config.args and all(p.is_cuda for p in params):
        given["fused"] = True  # one kernel for all parameters, and fp16 waits for no GPU
    if not config.decay_all:
        bare = [p for p in params if p.dim() < 2]
        params = [{"params": [p for p in params if p.dim() >= 2]}]
        params += [{"params": bare, "weight_decay": 0.0}] if bare else []
    return build("optimizer", known, config, params=params, **given)


def build_scheduler(
    config: Scheduler, optimizer: Any, total_steps: int, mode: str = "min"
) -> LRScheduler:
    """A scheduler of yours or of torch.optim.lr_scheduler.

    `mode` tells ReduceLROnPlateau whether a lower ("min") or a higher ("max") figure is better.
    """
    known = _classes(torch.optim.lr_scheduler, LRScheduler) | defined_in(scheduler)
    given: dict[str, Any] = {"optimizer": optimizer, "total_steps": total_steps}
    plateau = known.get(config.name) is torch.optim.lr_scheduler.ReduceLROnPlateau
    if plateau and "mode" not in config.args:
        given["mode"] = mode
    return build("scheduler", known, config, **given)


def _classes(module: ModuleType, base: type) -> dict[str, Factory]:
    found = {name: c for name, c in vars(module).items() if inspect.isclass(c) and name[0] != "_"}
    return {name: c for name, c in found.items() if issubclass(c, base) and c is not base}


def build_transforms(config: Mapping[str, Mapping[str, Any]]) -> list[Factory]:
    """Transforms of yours, in the order of the config."""
    known = defined_in(transforms)
    return [bind("data.transforms", known, name, args) for name, args in config.items()]
