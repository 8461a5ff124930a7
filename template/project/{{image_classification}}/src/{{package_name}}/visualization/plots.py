"""Pictures of this kind of data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .charts import confusion_matrix, curves
from .grid import batch_grid

__all__ = ["batch_grid", "confusion_matrix", "curves", "worst_mistakes"]


def worst_mistakes(mistakes: Sequence[tuple[ArrayLike, str, str, float]], path: Path) -> None:
    """Save images (C, H, W), each with its class, the predicted class, and the confidence."""
    titles = [f"{truth}\n→ {taken}\n{share:.0%}" for _, truth, taken, share in mistakes]
    images = np.array([np.asarray(image) for image, _, _, _ in mistakes] or np.ones((1, 1, 1, 1)))
    batch_grid(images, titles or ["no mistakes"], path)
