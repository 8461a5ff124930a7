"""The device, its memory, seeds and precision; and how batches move to the device."""

import gc
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..options import Run
from .signals import signals_blocked

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device; `auto` prefers CUDA, then MPS. UserError if this machine lacks it."""
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next((kind for kind, count in there.items() if count), "cpu")
    if name == "cuda":  # torch.cuda.set_device needs an index
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = torch.device(name)
    if (device.index or 0) >= there.get(device.type, 1):
        raise UserError(f"run.device: there is no {name} on this machine; try auto or cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def seed_all(seed: int) -> None:
    """Seed torch on all devices, NumPy's global generator and Python's `random`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, third-party code draws from it
    random.seed(seed)


def derived_seed(*numbers: int) -> int:
    """A seed of 32 bits from several numbers; torch on the CPU ignores higher bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seeded(loader: Any, seed: int, skip: int = 0) -> Iterator[Any]:
    """The batches after the first `skip`; `seed` fixes what the loader draws when it starts.

    Loaders and samplers without a generator draw from the global one: a resume could not repeat it.
    """
    with torch.random.fork_rng(devices=[]):
        for own in filter(None, (torch.default_generator, getattr(loader, "generator", None))):
            own.manual_seed(seed)
        with signals_blocked():
            batches = iter(loader)
        first = deque(islice(batches, skip or 1), maxlen=0 if skip else 1)  # samplers draw here
    yield from chain(first, batches)


def prepare(options: Run) -> None:
    """Set the seeds and torch's debug modes in this process."""
    seed_all(options.seed)
    torch.autograd.set_detect_anomaly(options.detect_anomaly)
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it for this
    collects = gc.isenabled()
    gc.disable()  # the next line imports torch's compiler: a million objects, which all stay
    torch.use_deterministic_algorithms(options.deterministic)
    if collects:
        gc.enable()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """torch.autocast at `bf16` or `fp16`; for `fp32`, a context that does nothing."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def map_tensors(batch: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Apply a function to each tensor of a batch: in dicts, lists and tuples, at any depth."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(value, function) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        mapped = [map_tensors(value, function) for value in batch]
        return type(batch)(*mapped) if hasattr(batch, "_fields") else type(batch)(mapped)
    return batch


def to_device(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """Move a batch's tensors to the device; those with 4 dimensions in `channels_last` if set."""
    layouts = {4: torch.channels_last} if channels_last else {}
    ordered = device.type == "cuda"  # streams are in order; the CPU would read too early

    def move(tensor: torch.Tensor) -> torch.Tensor:
        layout = layouts.get(tensor.dim(), torch.preserve_format)
        return tensor.to(device, non_blocking=ordered, memory_format=layout)

    return map_tensors(batch, move)


def prefetch(batches: Iterable[Any], device: torch.device, channels_last: bool) -> Iterator[Any]:
    """Batches on the device; CUDA copies the next batch while it computes this one."""
    if device.type != "cuda":
        there = device.type == "cpu" and not channels_last  # nothing to copy
        yield from batches if there else (to_device(b, device, channels_last) for b in batches)
        return
    copies, compute = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    ready: list[Any] = []
    for batch in batches:
        copies.wait_stream(compute)  # it may still compute a batch that is made on the GPU
        with torch.cuda.stream(copies):
            ready.append(to_device(batch, device, channels_last))
            copied = copies.record_event()
        if len(ready) > 1:
            yield ready.pop(0)
        compute.wait_event(copied)
        map_tensors(ready[0], lambda tensor: tensor.record_stream(compute))  # keeps its memory
    yield from ready


def peak_memory(device: torch.device) -> int:
    """The peak memory in bytes: of tensors on the GPU, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # on Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
