"""Several processes, as torchrun starts them: each has its share of every batch.

All that is here also serves a process on its own, which is rank 0 of 1.
"""

import atexit
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: its functions' defaults would keep it
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ..errors import Stopped, UserError
from ..options import Distributed

_wrapped: list[nn.parallel.DistributedDataParallel] = []


def rank() -> int:
    """The number of this process: 0 is the one that prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(name: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; they all get the name that rank 0 has.

    What fails in one of them is said once, by that one, and ends them all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield name
        return
    shared, me, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=shared, rank=me, world_size=count)
    store = PrefixStore("run", shared)
    if me == 0:
        store.set("name", name)
    try:
        yield store.get("name").decode()
        agree()  # nobody leaves before all are done: torchrun ends the others
    except Stopped:
        raise  # all of them do, having agreed on it
    except Exception as error:
        mendable = isinstance(error, UserError | OSError)
        if store.add("failures", 1) > 1:  # another says why; torchrun ends it after this one
            sys.stdout.flush()
            patience = time.monotonic() + 10
            while not store.check(["said"]) and time.monotonic() < patience:
                time.sleep(0.02)
            os._exit(int(store.get("status")))
        store.set("status", "2" if mendable else "1")
        atexit.register(store.set, "said", "")
        if mendable:
            raise UserError(f"rank {me}: {error}") from error
        if isinstance(error, RuntimeError) and "by peer" in str(error):  # closed, or reset
            raise UserError(f"rank {me}: another process is gone; was it killed?") from error
        raise
    finally:
        # The group must end here. Freed by a reducer, it waits for gloo's threads with Python's
        # lock held, which they may wait for; freed at the exit, they abort the process.
        while _wrapped:
            net = _wrapped.pop()
            del net.reducer, net.logger, net.process_group
        dist.destroy_process_group()
        time.sleep(0.2)  # FSDP's group outlives this, and its threads have tensors to free


def agree(*values: float) -> list[float]:
    """Each value's sum over all processes, which wait for each other, but for no GPU."""
    if world() == 1:
        return list(values)
    sums = torch.tensor(values or (0.0,), dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(value: Any) -> list[Any]:
    """What each process has, by rank: tensors on the CPU and plain values."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 does it before the others do, so that they find what it made."""
    if rank() > 0:
        agree()
    yield
    if rank() == 0:
        agree()


def wrap(model: nn.Module, options: Distributed, device: torch.device) -> nn.Module:
    """The model as one of several processes calls it: gradients are means over all of them."""
    if world() == 1:
        return model
    if options.strategy == "fsdp":
        shard(model, device)
        return model
    devices = [device] if device.type == "cuda" else None
    _wrapped.append(nn.parallel.DistributedDataParallel(model, devices))
    return _wrapped[-1]


def shard(model: nn.Module, device: torch.device) -> None:
    """Split each weight over all processes; a child of the model is gathered when it is called."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world(),))
    for child in model.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def accumulating(net: nn.Module, more: bool) -> AbstractContextManager[None]:
    """While `more` batches of a step are to come, gradients need not be exchanged."""
    skip: Any = getattr(net, "no_sync", None) if more else None
    return skip() if skip else nullcontext()


def same_buffers(model: nn.Module) -> None:
    """Rank 0's running means and the like, for all; no weight is touched."""
    for buffer in list(model.buffers()) if world() > 1 else ():
        dist.broadcast(buffer, 0)


def in_step(batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it counts: processes with fewer batches repeat their last one.

    A model that is split over processes must be called as often in each of them.
    """
    last, counts = None, True
    iterator = iter(batches)
    while True:
        batch = next(iterator, None)
        last, counts = (last, False) if batch is None else (batch, True)
        if agree(counts) == [0]:
            return
        if last is None:
            raise UserError("a split has fewer samples than there are processes")
        yield last, counts
