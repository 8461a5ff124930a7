"""Architectures of Hugging Face transformers: their weights, their tokenizers, and LoRA.

A run keeps the configuration and the tokenizer as JSON in the task's `info`, so that a checkpoint
needs neither the folder that they are from nor the Hub. No code of a model's folder is run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import torch
from torch import nn

from ..config import locate
from ..errors import UserError
from .distributed import log

NAME = "model.args.name"
SAFE = {"trust_remote_code": False}
DOWNLOAD = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token"}
SHOWN = 5  # names in a message


def library(name: str = "transformers") -> Any:
    """A library, without its own progress bars and reports; UserError if it is missing."""
    try:
        found: Any = import_module(name)  # slow to import
    except ImportError as error:
        todo = "run pip install -e '.[transformers]'"
        raise UserError(f"model.name=transformers: {error}; {todo}") from error
    if name == "transformers":
        found.logging.set_verbosity_error()
        found.logging.disable_progress_bar()
    return found


def vocabulary() -> Any:
    """The class that cuts texts into subwords, in the form that this kind of data needs."""
    return import_module(f"{__package__}.subwords").Subwords


def read(name: Any, load: Callable[..., Any], **args: Any) -> Any:
    """What `load` makes of a folder, or of a model of the Hub; or UserError."""
    if not isinstance(name, str):
        raise UserError(f"{NAME}: should be a folder, or ORG/NAME of a model on the Hub; set it")
    folder = locate(name)
    local = name.count("/") > 1 or ("/" in name and folder.parent.is_dir())  # not ORG/NAME
    if local and not folder.is_dir():
        raise UserError(f"{NAME}: {folder}: no such folder; set a folder, or ORG/NAME of the Hub")
    try:
        return load(str(folder) if folder.is_dir() else name, **SAFE, **args)
    except UserError:
        raise
    except Exception as error:  # of the network, of each format: each library raises its own
        reason = " ".join(str(error).split())[:300]
        if "ignore_mismatched_sizes" in reason:  # it points to a report that is not printed
            reason = "its weights have other shapes than model.args says; remove these"
        if folder.is_dir():
            raise UserError(f"{NAME}: {folder}: not loaded: {reason}") from error
        place = f"checkpoints/{Path(name).name}"
        todo = f"run `hf download {name} --local-dir {place}`, and set {NAME}={place}"
        missing = f"no such folder, and not downloaded from the Hub ({type(error).__name__})"
        raise UserError(f"{NAME}: {name}: {missing}; where there is a network, {todo}") from error


def read_tokenizer(name: Any) -> tuple[str, str | None]:
    """The contents of `tokenizer.json`, and the token that ends a text; or UserError.

    It is that of transformers, which adds what `tokenizer_config.json` says.
    """
    tokenizer = read(name, library().AutoTokenizer.from_pretrained)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError(f"{NAME}: {name}: its tokenizer cannot be saved as tokenizer.json")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes an empty one
        raise UserError(f"{NAME}: {name}: has no tokenizer; add its tokenizer.json")
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend.to_str(), tokenizer.eos_token


def create(
    kind: str,
    info: dict[str, Any] | None,
    name: str,
    pretrained: bool,
    lora: Mapping[str, Any] | None,
    **args: Any,
) -> nn.Module:
    """An architecture by the class `kind`, such as AutoModel, with weights if `pretrained`.

    Its configuration is that of `info`, or of `name`, then kept in `info`; `args` change it.
    """
    if info is None:
        docs = "see 'Projects of earlier versions' in docs/transformers.md"
        raise UserError(f"model.name=transformers: task.py passes no `info` to the model; {docs}")
    if pretrained not in (True, False, None):  # text would mean true
        raise UserError(f"model.args.pretrained: should be true or false; {NAME} has the weights")
    auto = library()
    if "architecture" in info:
        args = {key: args[key] for key in args.keys() - DOWNLOAD}  # v0.12.0 accepted them
        before = json.loads(info["architecture"])
        known = type(auto.AutoConfig.for_model(before["model_type"]))
        config, unknown = known.from_dict(before, return_unused_kwargs=True, **args)
    elif given := sorted(args.keys() & DOWNLOAD):
        todo = f"download it with `hf download`, and set {NAME} to the folder"
        raise UserError(f"model.args.{given[0]}: would be for config.json, not for weights; {todo}")
    else:
        found = read(name, auto.AutoConfig.from_pretrained, return_unused_kwargs=True, **args)
        config, unknown = found
    unknown = [each for each in unknown if each in args]
    if unknown:
        raise UserError(f"model.args: {config.model_type} has no {', '.join(unknown)}")
    if config.is_encoder_decoder:
        raise UserError(f"{NAME}: {name}: {config.model_type} has an encoder and a decoder")
    info["architecture"] = config.to_json_string(use_diff=False)
    built: Any = getattr(auto, kind)
    options = {"dtype": torch.float32, **SAFE}  # whatever the weights were saved as
    model = _load(built, name, config) if pretrained else built.from_config(config, **options)
    model.pooler = None  # unused, so that it would get no gradient
    if lora is not None:
        add_lora(model, lora)
    return model


def _load(built: Any, name: str, config: Any) -> nn.Module:
    """A model with the weights of safetensors; logs what is new, UserError if all of it is."""
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "use_safetensors": True}
    model, about = read(name, built.from_pretrained, output_loading_info=True, **options)
    own = [key for key in model.state_dict() if not key.startswith("pooler.")]
    new = [key for key in own if key in about["missing_keys"]]
    if len(new) == len(own):
        unused = sorted(about["unexpected_keys"])
        names = f"it has {_few(unused)}; needed: {_few(new)}"
        raise UserError(f"{NAME}: {name}: nothing fits {type(model).__name__}: {names}")
    log(f"{NAME}: {len(own) - len(new)} of {len(own)} tensors are from {name}")
    if new:
        log(f"  new in this model: {_few(new)}")
    return model


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)


def check_sizes(model: Any, tokens: int, key: str, length: int) -> None:
    """UserError if a model has too few tokens for a tokenizer, or positions for texts."""
    config = model.config
    if tokens > config.vocab_size:
        sizes = f"the tokenizer has {tokens:,} tokens, the model {config.vocab_size:,}"
        raise UserError(f"{NAME}: {sizes}; use the tokenizer of the model")
    longest = getattr(config, "max_position_embeddings", None) or length
    for part in model.modules():  # RoBERTa's positions begin after that of padding
        if isinstance(part, nn.Embedding) and part.num_embeddings == longest and part.padding_idx:
            longest -= part.padding_idx + 1
    if length > longest:
        raise UserError(f"{key}: the model reads {longest} tokens at most; set {longest}")


# --- LoRA ---
def add_lora(model: Any, options: Mapping[str, Any]) -> None:
    """Freeze a model, and put adapters of low rank (Hu et al., 2021) beside its layers."""
    if not isinstance(options, Mapping):
        raise UserError("model.args.lora: should be a map, such as {r: 8}, or null; set it")
    peft, kind = library("peft"), getattr(model.config, "model_type", "")
    names = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
    names["target_modules"] = "target_modules"
    defaults = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    if not (options.get("target_modules") or kind in defaults):
        todo = "set names of layers, or all-linear"
        raise UserError(f"model.args.lora.target_modules: {kind} has no default; {todo}")
    if unknown := options.keys() - names.keys():
        least = f"it takes {', '.join(names)}"
        raise UserError(f"model.args.lora: unknown: {', '.join(sorted(unknown))}; {least}")
    try:
        given = {names[key]: value for key, value in options.items()}
        with catch_warnings(action="ignore"):  # of layers that store their weights transposed
            peft.inject_adapter_in_model(peft.LoraConfig(**given), model)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.args.lora: {' '.join(str(error).split())}") from error


def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the weights beside them, and remove them: for an export."""
    for name, module in [*model.named_modules()]:
        if hasattr(module, "get_base_layer"):
            layer: Any = module
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
