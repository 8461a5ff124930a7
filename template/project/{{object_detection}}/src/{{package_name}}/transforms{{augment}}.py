"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes an image, its target and a random generator, and returns image and target. If it
moves the image, it must move the boxes too. Images are float32 tensors (channels, height, width)
from 0 to 1, targets dicts of `boxes` (n, 4: left, top, right, bottom in pixels), `labels` (n,) and
`size` (2,: how much of the width and height is image, not margin). Change nothing in place. For
reproducible runs, draw random numbers only from `rng`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Target = dict[str, Tensor]


def random_flip(
    image: Tensor,
    target: Target,
    rng: np.random.Generator,
    horizontal: float = 0.5,
    vertical: float = 0.0,
) -> tuple[Tensor, Target]:
    """Mirror left and right, and top and bottom, each with its probability."""
    height, width = image.shape[1:]
    left, top, right, bottom = target["boxes"].unbind(dim=1)
    if rng.random() < horizontal:
        image, left, right = image.flip(2), width - right, width - left
    if rng.random() < vertical:
        image, top, bottom = image.flip(1), height - bottom, height - top
    boxes = torch.stack([left, top, right, bottom], dim=1)
    return image, {"boxes": boxes, "labels": target["labels"], "size": _whole(image)}


def random_zoom(
    image: Tensor,
    target: Target,
    rng: np.random.Generator,
    scale: float = 0.25,
    stretch: float = 0.1,
    keep: float = 0.3,
) -> tuple[Tensor, Target]:
    """Zoom in or out by up to `scale`, each side by up to `stretch` more, around a random place.

    What leaves the image is cut off. An object is dropped if less than the fraction `keep` of it
    stays; the rest of it then looks like background, so `keep` should be small.
    """
    height, width = image.shape[1:]
    zoom, wider, higher = rng.uniform(-1, 1, size=3)
    across, down = ((1 + scale) ** zoom * (1 + stretch) ** side for side in (wider, higher))
    # How far the image's corner moves right and down: negative if the image is enlarged.
    x, y = rng.random() * (1 - across) * width, rng.random() * (1 - down) * height
    middle = (width - 2 * x) / (across * width) - 1, (height - 2 * y) / (down * height) - 1
    matrix = torch.tensor([[1 / across, 0, middle[0]], [0, 1 / down, middle[1]]])
    grid = F.affine_grid(matrix[None].float(), [1, *image.shape], align_corners=False)
    image = F.grid_sample(image[None], grid, align_corners=False)[0]
    factors, corner = torch.tensor([across, down] * 2).float(), torch.tensor([x, y] * 2).float()
    moved, whole = target["boxes"] * factors + corner, _whole(image)
    boxes = torch.minimum(moved.clamp(min=0), whole.repeat(2))
    before, after = ((b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (moved, boxes))
    stays = after > keep * before
    return image, {"boxes": boxes[stays], "labels": target["labels"][stays], "size": whole}


def random_light(
    image: Tensor,
    target: Target,
    rng: np.random.Generator,
    brightness: float = 0.1,
    contrast: float = 0.2,
) -> tuple[Tensor, Target]:
    """Add up to `brightness`, and stretch the values around their mean by up to `contrast`."""
    more, wider = rng.uniform(-1, 1, size=2)
    mean = image.mean()
    return ((image - mean) * (1 + wider * contrast) + mean + more * brightness).clamp(0, 1), target


def _whole(image: Tensor) -> Tensor:
    """Width and height of an image that has no margin."""
    return torch.tensor([image.shape[2], image.shape[1]], dtype=torch.float32)
