"""Custom optimizers: any class here can be named as `optimizer.name`.

It is built with the model's parameters, `lr`, `weight_decay` and `optimizer.args`.
"""

from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """Steps by the sign of the momentum (Chen et al., 2023); use a third of AdamW's `lr`."""

    def __init__(
        self, params: Any, lr: float = 0.0003, betas: Any = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = torch.enable_grad()(closure)() if closure else None
        for group in self.param_groups:
            fast, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(momentum.lerp(p.grad, 1 - fast).sign_(), alpha=group["lr"])
                momentum.lerp_(p.grad, 1 - slow)
        return loss
