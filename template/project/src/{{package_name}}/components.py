"""Build models, losses, optimizers, schedulers, transforms and hooks by the names in the config.

Names are looked up in `model/`, `loss`, `optim`, `scheduler`, `transforms` and `hooks` (each a
file, or a folder of files), then in torch. There is no registry.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from . import loss, model, optim, scheduler, transforms
from .config import did_you_mean
from .errors import UserError
from .options import Component, Config, Model, Optimizer, Scheduler

Factory = Callable[..., Any]
UNSUPPORTED = {  # classes of torch.optim
    "LBFGS": "it needs the loss several times a step; the training loop computes it once",
    "Muon": "it takes only matrices: use it in optimizer.groups, with ndim: 2 (docs/recipes.md)",
    "SparseAdam": "it takes only sparse gradients",
}


def defined_in(module: ModuleType) -> dict[str, Factory]:
    """The public functions and classes of a module, or of a package except its file `utils`."""
    found: dict[str, Factory] = {}
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    files = [importlib.import_module(f"{module.__name__}.{n}") for n in names if n != "utils"]
    for file in [module, *files]:
        items = vars(file).items()
        own = {k: v for k, v in items if getattr(v, "__module__", None) == file.__name__}
        found |= {name: value for name, value in own.items() if name[0] != "_"}
    return found


def bind(key: str, known: Mapping[str, Factory], name: str, args: Any, **given: Any) -> Factory:
    """Bind `args`, and what it accepts of `given`, to a component; UserError for wrong names."""
    if name not in known:
        raise UserError(f"{key}: unknown name {name!r}{did_you_mean(name, known)}")
    parameters = inspect.signature(known[name]).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for arg in args:
        if arg in given:
            raise UserError(f"{key}.args.{arg}: is set by {key}.{arg} or the data; remove it")
        if arg not in parameters and not takes_any:
            hint = did_you_mean(arg, parameters)
            raise UserError(f"{key}: {name} takes no argument {arg!r}{hint}")
    return partial(known[name], **{k: v for k, v in given.items() if k in parameters}, **args)


def build(key: str, known: Mapping[str, Factory], config: Component, **given: Any) -> Any:
    """A new component; UserError for an unknown name, or arguments that it refuses."""
    factory = bind(key, known, config.name, config.args, **given)
    try:
        return factory()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{key}: {error}") from error


def build_model(config: Component, **given: Any) -> nn.Module:
    """A model of `model/`; `given` are arguments from the data (num_classes). Errors as `build`."""
    own = {name: f for name, f in defined_in(model).items() if inspect.isfunction(f)}
    built: nn.Module = build("model", own, config, **given)
    if isinstance(config, Model) and (config.weights or config.freeze):
        pretrained = extra("pretrained", "model: weights and freeze need")
        pretrained.fine_tune(built, config.weights, config.freeze)
    return built


def without_pretrained(config: Config) -> Config:
    """The config without pretrained weights, which a model from a checkpoint does not need."""
    factory, args = defined_in(model).get(config.model.name), config.model.args
    known = inspect.signature(factory).parameters if factory else {}
    if "pretrained" in known:
        before = args.get("pretrained", known["pretrained"].default)
        args = {**args, "pretrained": False if isinstance(before, bool) else None}
    own = config.model.model_copy(update={"args": args, "weights": None})
    return config.model_copy(update={"model": own})


def build_loss(config: Component, counts: Factory | None = None) -> Callable[..., Tensor]:
    """A loss of yours or of torch.nn; UserError if it cannot be built.

    Numbers and lists become float32 tensors where the argument is annotated as a Tensor. There,
    `balanced` becomes the weight of each class: samples / (classes * its samples), by `counts()`.
    """
    known = {name: c for name, c in vars(nn).items() if name.endswith("Loss")} | defined_in(loss)
    built: Any = bind("loss", known, config.name, config.args)
    tensors = _tensors(known[config.name], config.args, counts)
    if not inspect.isfunction(known[config.name]):
        args = {**config.args, **tensors}
        built = build("loss", known, config.model_copy(update={"args": args}))
    elif tensors:  # buffers of a module, to move to the device with it
        function, built = built, nn.Module()
        for name, tensor in tensors.items():
            built.register_buffer(name, tensor)
        built.forward = lambda *inputs: function(*inputs, **dict(built.named_buffers()))
    if tensors:
        built.forward = partial(_checked, built.forward, " and ".join(tensors))
    return built


def _tensors(factory: Factory, args: Mapping[str, Any], counts: Any) -> dict[str, Tensor]:
    try:
        hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
        wanted = [name for name in args if hints.get(name) in (Tensor, Tensor | None)]
        given = {name: args[name] for name in wanted if args[name] is not None}
        for name in (name for name, value in given.items() if value == "balanced"):
            if not counts:
                raise UserError(f"loss.args.{name}: the task has no class counts; set a list")
            given[name] = [sum(counts()) / (len(counts()) * count) for count in counts()]
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in given.items()}
    except NameError:  # an annotation that only type checkers can resolve
        return {}
    except (TypeError, ValueError) as error:
        raise UserError(f"loss.args: should be numbers: {error}") from error


def _checked(forward: Factory, names: str, *inputs: Any) -> Tensor:
    try:
        return forward(*inputs)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"loss.args: {names} does not fit: {error}") from error


def build_optimizer(config: Optimizer, *modules: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of yours or of torch.optim, for a model and a loss that is trained.

    Tensors below two dimensions get no weight decay unless `decay_all`. UserError as `build`.
    """
    own = defined_in(optim)
    if config.name in UNSUPPORTED and config.name not in own:
        raise UserError(f"optimizer: {config.name} cannot be used: {UNSUPPORTED[config.name]}")
    known = _classes(torch.optim, torch.optim.Optimizer) | own
    given: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.groups:
        return extra("optimizers", "optimizer.groups: needs").by_rules(config, known, *modules)
    groups: list[Any] = []
    for module in modules:
        whole = [p for p in module.parameters() if config.decay_all or p.dim() >= 2]
        bare = [p for p in module.parameters() if not config.decay_all and p.dim() < 2]
        groups += [{"params": whole}, {"params": bare, "weight_decay": 0.0}]
    if "fused" not in config.args and all(p.is_cuda for g in groups for p in g["params"]):
        given["fused"] = True  # one kernel for all parameters; with fp16, no wait for the GPU
    given |= {"params": [group for group in groups if group["params"]], "model": modules[0]}
    return build("optimizer", known, config, **given)


def extra(name: str, needs: str) -> Any:
    """The engine's module of an extra; UserError if the project does not have it."""
    module = f"{__package__}.engine.{name}"
    if not find_spec(module):
        raise UserError(f"{needs} extras={name} (docs/updating.md)")
    return importlib.import_module(module)


def build_hooks(config: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Your hooks with their arguments, in the order of the config; UserError as `build`."""
    file = f"{__package__}.hooks"
    if config and not find_spec(file):
        raise UserError("train.hooks: the package has no hooks.py; docs/recipes.md shows one")
    known = defined_in(importlib.import_module(file)) if config else {}
    parts = [Component(name=name, args=dict(args)) for name, args in config.items()]
    return [build("train.hooks", known, part) for part in parts]


def build_scheduler(
    config: Scheduler, optimizer: Any, total_steps: int, mode: str = "min"
) -> LRScheduler:
    """A scheduler of yours or of torch; `mode` is for ReduceLROnPlateau. UserError as `build`."""
    known = _classes(torch.optim.lr_scheduler, LRScheduler) | defined_in(scheduler)
    given: dict[str, Any] = {"optimizer": optimizer, "total_steps": total_steps}
    if known.get(config.name) is ReduceLROnPlateau and "mode" not in config.args:
        given["mode"] = mode
    return build("scheduler", known, config, **given)


def _classes(module: ModuleType, base: type) -> dict[str, Factory]:
    found = {name: c for name, c in vars(module).items() if inspect.isclass(c) and name[0] != "_"}
    return {name: c for name, c in found.items() if issubclass(c, base) and c is not base}


def build_transforms(config: Mapping[str, Mapping[str, Any]]) -> list[Factory]:
    """Your transforms with their arguments, in the order of the config; UserError as `bind`."""
    known = defined_in(transforms)
    return [bind("data.transforms", known, name, args) for name, args in config.items()]
