"""From a name in the config to a function or class: your own first, then torch's.

A component is any public function or class that `loss.py`, `optim.py`, `scheduler.py` or
`transforms.py` defines, or any file of a folder of that name; a model is any function of `model/`.
There is nothing to register.
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
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    files = [importlib.import_module(f"{module.__name__}.{n}") for n in names if n != "utils"]
    return {
        name: value
        for file in [module, *files]
        for name, value in vars(file).items()
        if getattr(value, "__module__", None) == file.__name__ and not name.startswith("_")
    }


def bind(key: str, known: Mapping[str, Factory], name: str, args: Any, **given: Any) -> Factory:
    """The component called `name`, with its `args` and with those of `given` that it takes.

    Raises UserError, with the config key, where there is no such component or argument.
    """
    if name not in known:
        raise UserError(f"{key}: nothing is called {name!r}{did_you_mean(name, known)}")
    parameters = inspect.signature(known[name]).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for arg in args:
        if arg not in parameters and not takes_any:
            hint = did_you_mean(arg, parameters)
            raise UserError(f"{key}: {name} takes no argument {arg!r}{hint}")
    given = {arg: value for arg, value in given.items() if arg in parameters}
    return partial(known[name], **{**given, **args})


def _build(key: str, factory: Factory) -> Any:
    try:
        return factory()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{key}: {error}") from error


def build_model(config: Component, **given: Any) -> nn.Module:
    """A model of `model/`; `given` is what the data say of it (num_classes, ...)."""
    own = {name: f for name, f in defined_in(model).items() if inspect.isfunction(f)}
    return _build("model", bind("model", own, config.name, config.args, **given))


def build_loss(config: Component) -> Callable[..., torch.Tensor]:
    """A loss of yours or of torch.nn: a class is built, a function is called as it is."""
    known = {name: c for name, c in vars(nn).items() if name.endswith("Loss")} | defined_in(loss)
    bound = bind("loss", known, config.name, config.args)
    return bound if inspect.isfunction(known[config.name]) else _build("loss", bound)


def build_optimizer(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of yours or of torch.optim, for all parameters of the model."""
    known = _classes(torch.optim, torch.optim.Optimizer) | defined_in(optim)
    given: dict[str, Any] = {"params": list(model.parameters()), "lr": config.lr}
    given["weight_decay"] = config.weight_decay
    return _build("optimizer", bind("optimizer", known, config.name, config.args, **given))


def build_scheduler(config: Scheduler, optimizer: Any, total_steps: int) -> LRScheduler:
    """A scheduler of yours or of torch.optim.lr_scheduler."""
    known = _classes(torch.optim.lr_scheduler, LRScheduler) | defined_in(scheduler)
    given = {"optimizer": optimizer, "total_steps": total_steps}
    return _build("scheduler", bind("scheduler", known, config.name, config.args, **given))


def _classes(module: ModuleType, base: type) -> dict[str, Factory]:
    found = {name: c for name, c in vars(module).items() if inspect.isclass(c) and name[0] != "_"}
    return {name: c for name, c in found.items() if issubclass(c, base) and c is not base}


def build_transforms(config: Mapping[str, Mapping[str, Any]]) -> list[Factory]:
    """Transforms of yours, in the order of the config."""
    known = defined_in(transforms)
    return [bind("data.transforms", known, name, args) for name, args in config.items()]
