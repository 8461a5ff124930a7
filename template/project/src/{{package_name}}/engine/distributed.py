"""Several processes, as torchrun starts them: each has its share of every batch.

All that is here also serves a process on its own, which is rank 0 of 1.
"""

import atexit
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
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
_DEFAULTS = Distributed()


def rank() -> int:
    """The number of this process: 0 is the one that prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(name: str, options: Distributed = _DEFAULTS) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; they all get the name that rank 0 has.

    What fails in one of them is said once, by that one, and ends them all.
    """
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
        agree()  # nobody leaves before all are done: torchrun ends the others
    except Stopped:
        raise  # all of them do, having agreed on it
    except Exception as error:
        waited = f"waited {options.timeout_minutes:g} minutes for another process"
        reasons = {
            "by peer": "another process is gone; was it killed?",  # closed, or reset
            "timed out waiting": f"{waited} (distributed.timeout_minutes)",
            "finished reduction": "parameters without a gradient, which ddp does not allow",
        }
        text = str(error).lower() if isinstance(error, RuntimeError) else ""
        known = next((reason for part, reason in reasons.items() if part in text), None)
        mendable = known or isinstance(error, UserError | OSError)
        if store.add("failures", 1) > 1:  # another says why; torchrun ends it after this one
            sys.stdout.flush()
            patience = time.monotonic() + 10
            while not store.check(["said"]) and time.monotonic() < patience:
                time.sleep(0.02)
            os._exit(int(store.get("status")))
        store.set("status", "2" if mendable else "1")
        atexit.register(store.set, "said", "")
        if mendable:
            raise UserError(f"rank {me}: {known or error}") from error
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
    units = [unit for unit in _units(model) if any(True for _ in unit.parameters())]
    uses = Counter(p for unit in units for p in unit.parameters())
    for unit in units:
        if all(uses[p] == 1 for p in unit.parameters()):  # tied weights are the root's
            fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks in lists of modules, however deep, and what is beside these lists."""
    lists = (nn.ModuleList, nn.ModuleDict)  # without a `forward` of their own
    for child in module.children():
        split = isinstance(module, lists) or not any(isinstance(m, lists) for m in child.modules())
        if split and not isinstance(child, lists):
            yield child
        else:
            yield from _units(child)


def accumulating(net: Any, more: bool) -> AbstractContextManager[None]:
    """While `more` batches of a step are to come, gradients need not be exchanged."""
    if hasattr(net, "set_requires_gradient_sync"):  # split by FSDP
        net.set_requires_gradient_sync(not more)
        net.set_is_last_backward(not more)
    return net.no_sync() if more and hasattr(net, "no_sync") else nullcontext()


def same_tensors(*tensors: torch.Tensor) -> None:
    """Rank 0's values for all: running means of batch norm, say."""
    for tensor in tensors if world() > 1 else ():
        dist.broadcast(tensor.detach(), 0)


def finish_gradients(model: nn.Module, loss: nn.Module) -> None:
    """Average the gradients of the loss, which `wrap` does not; refuse those that DDP can't."""
    if world() == 1:
        return
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if _wrapped and (names := [name for name, p in trained if p.grad is None]):
        do = "use them in `forward`, or set their requires_grad to False"
        raise UserError(f"model: no gradient for {', '.join(names)}; with ddp, {do}")
    for p in loss.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            p.grad /= world()


def mixed_tensors() -> AbstractContextManager[None]:
    """Within it, an optimizer may have the whole tensors of a loss beside a model's shards."""
    from torch.distributed.tensor.experimental import implicit_replication

    return implicit_replication() if world() > 1 and not _wrapped else nullcontext()


def in_step(batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Each batch, and whether it counts: processes with fewer batches repeat their last one.

    A model that is split over processes must be called as often in each of them.
    """
    iterator, last = iter(batches), None
    while agree((batch := next(iterator, None)) is not None) != [0]:
        last = last if batch is None else batch
        if last is None:
            raise UserError("a split has fewer samples than there are processes")
        yield last, batch is not None
