"""Data-parallel training on the processes that torchrun starts: DDP, or FSDP2 with an extra.

Every function also works in a single process, which is rank 0 of 1.
"""

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from operator import length_hint
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # early: its default arguments would keep a group alive
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..errors import Stopped, UserError
from ..options import Config, Distributed

logs: list[Any] = []  # open files: train.log of the run
_wrapped: list[nn.parallel.DistributedDataParallel] = []
_DEFAULTS = Distributed()
# The extra `fsdp` replaces these once it has split a model.
mixed_tensors: Callable[[], AbstractContextManager[None]] = nullcontext  # mixes DTensor and Tensor
take: Callable[[Iterator[Any], int], Iterator[Any]] = islice  # the next batches, up to a number


def rank() -> int:
    """The rank of this process; rank 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The world size: how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def log(text: str) -> None:
    """Print a line, on rank 0 only, and append it to the files in `logs`."""
    if rank() == 0:
        for file in [None, *logs]:  # None is standard output
            print(text, file=file, flush=True)


@contextmanager
def process_group(name: str, options: Distributed = _DEFAULTS) -> Iterator[str]:
    """Join torchrun's group, if any; yields rank 0's `name`. An error ends all processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield name
        return
    shared, me, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    wait = timedelta(minutes=options.timeout_minutes)
    dist.init_process_group(backend, timeout=wait, store=shared, rank=me, world_size=count)
    store = PrefixStore("run", shared)
    if me == 0:
        store.set("name", name)
    try:
        yield store.get("name").decode()
        all_sum()  # a barrier: when one process exits, torchrun ends the others
    except Stopped:
        raise  # in all processes
    except Exception as error:
        waited = f"waited {options.timeout_minutes:g} minutes for another process"
        reasons = {
            "by peer": "another process is gone; was it killed?",  # closed, or reset
            "timed out waiting": f"{waited} (distributed.timeout_minutes)",
            "finished reduction": "parameters without a gradient, which ddp does not allow",
        }
        text = str(error).lower() if isinstance(error, RuntimeError) else ""
        known = next((reason for part, reason in reasons.items() if part in text), None)
        by_user = known or isinstance(error, UserError | OSError)
        if store.add("failures", 1) > 1:  # the first one prints why, before torchrun ends it
            sys.stdout.flush()
            deadline = time.monotonic() + 10
            while not store.check(["printed"]) and time.monotonic() < deadline:
                time.sleep(0.02)
            os._exit(int(store.get("status")))
        store.set("status", "2" if by_user else "1")
        atexit.register(store.set, "printed", "")
        if by_user:
            raise UserError(f"rank {me}: {known or error}") from error
        raise
    finally:
        # If DDP's reducer freed the group, it would hold the GIL while it waits for gloo's threads,
        # which may need the GIL: a deadlock. Freed at exit, the group aborts the process.
        while _wrapped:
            net = _wrapped.pop()
            del net.reducer, net.logger, net.process_group
        dist.destroy_process_group()
        time.sleep(0.2)  # the threads of FSDP's group still free tensors


def all_sum(*values: float) -> list[float]:
    """The sum of each value over all processes: a barrier, on the CPU even with GPUs."""
    if world() == 1:
        return list(values)
    sums = torch.tensor(values or (0.0,), dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(value: Any) -> list[Any]:
    """The value of each process, by rank; tensors have to be on the CPU."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block before the others, which find the files that it made."""
    if rank() > 0:
        all_sum()
    yield
    if rank() == 0:
        all_sum()


def fsdp(use: str = "") -> Any:
    """The module `sharded` of the extra `fsdp`; without it None, or UserError if `use` needs it."""
    name = f"{__package__}.sharded"
    if use and not find_spec(name):
        raise UserError(f"{use} needs extras=fsdp (docs/updating.md)")
    return import_module(name) if find_spec(name) else None


def sharding(model: nn.Module, saved: Any = ()) -> Any:
    """The module `sharded` if it has split a model, or the contents of a checkpoint; or None."""
    split = "shards" in saved or any(hasattr(p, "device_mesh") for p in model.parameters())
    return fsdp() if split else None


def wrap(model: nn.Module, config: Config, device: torch.device, ema: Any) -> nn.Module:
    """The model in DDP, or split by FSDP2 like its EMA: gradients are means over all processes."""
    options = config.distributed
    if options.strategy == "fsdp":
        fsdp("distributed.strategy: fsdp").split(model, options, device, ema)
    if world() == 1 or options.strategy == "fsdp":
        return model
    devices = [device] if device.type == "cuda" else None
    _wrapped.append(nn.parallel.DistributedDataParallel(model, devices))
    return _wrapped[-1]


def accumulating(net: Any, more: bool) -> AbstractContextManager[None]:
    """Exchange gradients only in the last batch of a step, when no `more` follow."""
    return net.no_sync() if more and hasattr(net, "no_sync") else nullcontext()


def broadcast(*tensors: torch.Tensor) -> None:
    """Copy rank 0's values to all processes: the buffers of batch norm, for example."""
    for tensor in tensors if world() > 1 else ():
        dist.broadcast(tensor.detach(), 0)


def finish_gradients(model: nn.Module, loss: nn.Module) -> None:
    """Average a loss's gradients; UserError if a parameter in DDP has none."""
    if world() == 1:
        return
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if _wrapped and (names := [name for name, p in trained if p.grad is None]):
        do = "use them in `forward`, or set their requires_grad to False"
        raise UserError(f"model: no gradient for {', '.join(names)}; with ddp, {do}")
    average_gradients(loss.parameters())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes; a missing gradient counts as zero."""
    for p in parameters if world() > 1 else ():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            p.grad /= world()


def even_batches(batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether metrics should count it: always, unless FSDP repeats a batch."""
    return ((batch, True) for batch in batches)


def shortest_epoch(limit: int, loader: Any) -> tuple[int, int]:
    """The maximum of batches per process in an epoch, and the fewest; no length means endless."""
    counts = gather(min(limit, length_hint(loader, sys.maxsize)))
    if min(counts) < max(counts):  # no EpochSampler: the others would wait for a batch
        limit = min(counts)
        log(f"processes have {counts} batches; each takes {limit} per epoch")
    return limit, min(counts)
