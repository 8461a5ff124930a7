"""Custom losses: any class or function here can be named as `loss.name`.

Yours: whatever the task's `loss` calls. A class is built with `loss.args`; called with outputs and
targets, it returns a scalar, the mean over the batch. A function is called with `loss.args` too.
"""

from torch import Tensor
from torch.nn import functional as F


def brier(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared distance between probabilities of logits (N, C) and targets (N,) (Brier, 1950)."""
    truth = F.one_hot(targets, logits.shape[1])
    return (logits.softmax(dim=1) - truth).square().sum(dim=1).mean()
