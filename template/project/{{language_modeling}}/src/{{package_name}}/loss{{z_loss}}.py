"""Custom losses: any class or function here can be named as `loss.name`.

A class is built with `loss.args`; called with the logits (N, C) of all tokens of a batch and
targets (N,), it returns a scalar. A function is called with `loss.args` too.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class ZLoss(nn.Module):
    """Cross-entropy that keeps logits from drifting (PaLM: Chowdhery et al., 2022, section 5).

    It adds the square of log Z, where Z is the denominator of softmax.

    Args:
        weight: of the added term; 0 is plain cross-entropy.
        label_smoothing: the share of the target that is spread evenly over all tokens.
    """

    def __init__(self, weight: float = 1e-4, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if weight < 0 or not 0 <= label_smoothing < 1:
            raise ValueError("weight should be 0 or more, label_smoothing from 0 to below 1")
        self.weight, self.label_smoothing = weight, label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return loss + self.weight * logits.float().logsumexp(dim=1).square().mean()
