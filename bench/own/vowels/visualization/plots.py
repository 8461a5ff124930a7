"""Plots of this kind of data."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .charts import curves, write

__all__ = ["confusion", "curves", "sequences"]


def sequences(steps: ArrayLike, speakers: ArrayLike, path: Path) -> None:
    """Save a plot of the first four sequences (N, T, C) of a batch, with their speakers."""
    from matplotlib.figure import Figure

    figure = Figure((6, 6), layout="constrained", dpi=90)
    pairs = zip(np.asarray(steps)[:4], np.asarray(speakers)[:4], strict=True)
    for number, (values, speaker) in enumerate(pairs, 1):
        axes = figure.add_subplot(2, 2, number, title=f"speaker {speaker}", xlabel="step")
        axes.plot(values)
    write(path, figure.savefig)


def confusion(matrix: ArrayLike, path: Path) -> None:
    """Save a picture of a confusion matrix (C, C); rows are the true classes."""
    from matplotlib.figure import Figure

    figure = Figure((5, 5), layout="constrained", dpi=90)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    axes.imshow(np.asarray(matrix), cmap="Blues")
    write(path, figure.savefig)
