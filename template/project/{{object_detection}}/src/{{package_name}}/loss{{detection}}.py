"""Custom losses: any class or function here can be named as `loss.name`.

A class is built with `loss.args`. It is called with a model's scores (N, L, C), boxes (N, L, 4) and
points (L, 3), as `boxes.py` describes them, and a list of N targets: dicts of `boxes` (n, 4) and
`labels` (n,). It returns a scalar. A function is called with `loss.args` too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


class FocalGIoU(nn.Module):
    """Focal loss for scores, and generalized intersection over union (GIoU) for boxes.

    The target score of a point in the middle of an object is the overlap of its box with the
    object's; all others are 0. Easy scores get less weight (Lin et al., 2017; Li et al., 2020, for
    such soft targets). Its box should be the object's (Rezatofighi et al., 2019). The sum over an
    image is divided by the number of its points on objects; then all images are averaged.

    Args:
        gamma: how much less weight easy scores get; 0 is cross-entropy.
        box: the weight of the boxes' loss; that of the scores is 1.
        radius: the largest distance of points from an object's middle, in strides of their grid.
    """

    def __init__(self, gamma: float = 2.0, box: float = 2.0, radius: float = 1.5) -> None:
        super().__init__()
        if gamma < 0 or box <= 0 or radius < 0.5:
            raise ValueError("gamma should be 0 or more, box more than 0, radius 0.5 or more")
        self.gamma, self.box, self.radius = gamma, box, radius

    def forward(
        self, predictions: tuple[Tensor, Tensor, Tensor], targets: Sequence[dict[str, Tensor]]
    ) -> Tensor:
        scores, boxes, points = predictions
        truth, labels, on_object = _owners(points, targets, self.radius)
        iou, giou = _overlaps(boxes, truth)
        quality = (iou.detach() * on_object)[..., None]
        goal = torch.zeros_like(scores).scatter(2, labels[..., None], quality)
        entropy = F.binary_cross_entropy_with_logits(scores, goal, reduction="none")
        score_loss = ((scores.sigmoid() - goal).abs() ** self.gamma * entropy).sum(dim=(1, 2))
        box_loss = ((1 - giou) * on_object).sum(dim=1)
        count = on_object.sum(dim=1).clamp(min=1)
        return ((score_loss + self.box * box_loss) / count).mean()


def _owners(
    points: Tensor, targets: Sequence[dict[str, Tensor]], radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The object of each point in each image: its box (N, L, 4), label (N, L), and if it exists.

    An object belongs to the grid whose stride is closest to a sixth of its size. It gets the points
    of that grid that are within it and near its middle, and the nearest one in any case. If two
    objects would get the same point, the smaller object does.
    """
    none = targets[0]["boxes"].new_zeros(1, 4)  # so that `min` always has an object to choose
    boxes = pad_sequence([torch.cat([none, t["boxes"]]) for t in targets], batch_first=True)
    first = targets[0]["labels"].new_zeros(1)
    labels = pad_sequence([torch.cat([first, t["labels"]]) for t in targets], batch_first=True)
    xy, stride = points[:, :2], points[:, 2]
    sides = boxes[..., 2:] - boxes[..., :2]
    size = sides.clamp(min=1e-3).prod(dim=-1).sqrt()[..., None]  # (N, M, 1)
    misfit = (size / (6 * stride)).log().abs()
    right_grid = misfit <= misfit.amin(dim=-1, keepdim=True) + 1e-4
    away = (xy - (boxes[..., None, :2] + boxes[..., None, 2:]) / 2).abs()  # (N, M, L, 2)
    reach = torch.minimum(sides[..., None, :] / 2, radius * stride[:, None])
    reach = torch.maximum(reach, stride[:, None] / 2)
    takes = (away <= reach).all(dim=-1) & right_grid & (sides[..., :1] > 0)
    smallest, owner = size.expand_as(takes).masked_fill(~takes, torch.inf).min(dim=1)
    chosen = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    return chosen, labels.gather(1, owner), smallest.isfinite()


def _overlaps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The intersection over union of pairs of boxes (..., 4), and the generalized one (GIoU)."""
    low, high = torch.maximum(one, other), torch.minimum(one, other)
    inside = (high[..., 2:] - low[..., :2]).clamp(min=0).prod(dim=-1)
    around = torch.maximum(one, other)[..., 2:] - torch.minimum(one, other)[..., :2]
    hull = around.prod(dim=-1).clamp(min=1e-6)
    areas = [(box[..., 2:] - box[..., :2]).prod(dim=-1) for box in (one, other)]
    union = (areas[0] + areas[1] - inside).clamp(min=1e-6)
    iou = inside / union
    return iou, iou - (hull - union) / hull
