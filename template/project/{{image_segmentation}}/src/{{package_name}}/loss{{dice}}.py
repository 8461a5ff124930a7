"""Custom losses: any class or function here can be named as `loss.name`.

A class is built with `loss.args`; called with logits (N, C, H, W) and targets (N, H, W), it returns
a scalar. A function is called with `loss.args` too. Pixels of the target -100 have no class.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class DiceCrossEntropy(nn.Module):
    """Cross-entropy of pixels, plus 1 - Dice: areas that overlap (Milletari et al., 2016).

    Cross-entropy alone neglects small classes, Dice alone learns slowly at first. Both are means
    over each image, then over the batch, so that padding and batch size change nothing.

    Args:
        weight: of the Dice part; 0 leaves plain cross-entropy.
        smooth: is added to overlaps and areas, for classes that an image lacks.
        ignore_index: the target of pixels that don't count.
    """

    def __init__(self, weight: float = 1.0, smooth: float = 1.0, ignore_index: int = -100) -> None:
        super().__init__()
        if weight < 0 or smooth <= 0:
            raise ValueError(f"weight should be 0 or more, smooth above 0; got {weight}, {smooth}")
        self.weight, self.smooth, self.ignore_index = weight, smooth, ignore_index

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = (targets != self.ignore_index)[:, None]
        classes = targets.where(known[:, 0], 0)
        truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1) * known
        log_p = logits.float().log_softmax(dim=1)
        pixels = known.sum(dim=(1, 2, 3)).clamp(min=1)
        cross_entropy = -(truth * log_p).sum(dim=(1, 2, 3)) / pixels
        p = log_p.exp() * known
        overlap = 2 * (p * truth).sum(dim=(2, 3)) + self.smooth
        areas = (p.square() + truth).sum(dim=(2, 3)) + self.smooth
        return (cross_entropy + self.weight * (1 - (overlap / areas).mean(dim=1))).mean()
