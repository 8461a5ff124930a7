"""Where it runs and how exactly: device, seeds, precision, and batches on their way there."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..options import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """`auto` is the best there is, and each process of torchrun takes a GPU of its own."""
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next((kind for kind, count in there.items() if count), "cpu")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = torch.device(name)
    if (device.index or 0) >= there.get(device.type, 1):
        raise UserError(f"run.device: there is no {name} on this machine; try auto or cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def seed_all(seed: int) -> None:
    """Seed torch on all devices, NumPy's global generator and Python's `random`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, whoever calls np.random draws from this one
    random.seed(seed)


def derived_seed(*numbers: int) -> int:
    """A seed from several numbers; of 32 bits, of which torch on a CPU takes no more."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def prepare(options: Run) -> None:
    """Seed and modes of this process."""
    seed_all(options.seed)
    torch.autograd.set_detect_anomaly(options.detect_anomaly)
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for then
    torch.use_deterministic_algorithms(options.deterministic)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Lower precision where it is safe, as torch decides; for fp32 nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


def to_device(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """Move every tensor of a batch, in lists and dicts too; images to channels-last if asked."""
    if isinstance(batch, torch.Tensor):
        images = channels_last and batch.dim() == 4
        layout = torch.channels_last if images else torch.preserve_format
        # Only what a GPU's queue reads later may still be on its way; the CPU would read garbage.
        return batch.to(device, non_blocking=device.type == "cuda", memory_format=layout)
    if isinstance(batch, dict):
        return {key: to_device(value, device, channels_last) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [to_device(value, device, channels_last) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch


def on_device(batches: Iterable[Any], device: torch.device, channels_last: bool) -> Iterator[Any]:
    """Batches on the device; a GPU gets the next one while it works on this one."""
    if device.type != "cuda":
        yield from (to_device(batch, device, channels_last) for batch in batches)
        return
    copies, compute = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    ready: list[Any] = []
    for batch in batches:
        copies.wait_stream(compute)  # which may still be making a batch that is on the GPU already
        with torch.cuda.stream(copies):
            ready.append(to_device(batch, device, channels_last))
            copied = copies.record_event()
        if len(ready) > 1:
            yield ready.pop(0)
        compute.wait_event(copied)
        _used_by(ready[0], compute)
    yield from ready


def _used_by(batch: Any, stream: torch.cuda.Stream) -> None:
    """Memory that `stream` reads is not given away before it has."""
    if isinstance(batch, torch.Tensor):
        batch.record_stream(stream)
    elif isinstance(batch, dict | list | tuple):
        for value in batch.values() if isinstance(batch, dict) else batch:
            _used_by(value, stream)
