"""Custom schedulers: any function or class here can be named as `scheduler.name`.

It is called with `optimizer`, `total_steps` if it takes that, and `scheduler.args`.
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.1, final: float = 0.01
) -> LambdaLR:
    """Linear warm-up, then half a cosine down (Loshchilov and Hutter, 2017).

    `warmup` is a fraction of the steps; `final`, the last learning rate, is one of the peak.
    """
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup should be a share from 0 to 1, got {warmup}")
    warmup_steps = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    return LambdaLR(optimizer, factor)
