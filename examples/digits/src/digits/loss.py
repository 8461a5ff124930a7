"""Custom losses: any class or function here can be named as `loss.name`.

A class is built with `loss.args`; called with logits (N, C) and targets (N,), it returns a scalar.
A function is called with `loss.args` too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FocalLoss(nn.Module):
    """Cross-entropy with less weight for easy samples (Lin et al., 2017); none if `gamma` is 0."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma should be 0 or more, got {gamma}")
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = -F.cross_entropy(logits, targets, reduction="none")
        return torch.mean(-((1 - log_p.exp()) ** self.gamma) * log_p)
