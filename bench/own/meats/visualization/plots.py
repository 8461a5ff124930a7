"""Plots of this kind of data."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .charts import BLUE, GREY, curves, write

__all__ = ["agreement", "curves", "spectra"]


def spectra(values: ArrayLike, path: Path) -> None:
    """Save a plot of the spectra (N, 100) of a batch."""
    from matplotlib.figure import Figure

    figure = Figure((6, 4), layout="constrained", dpi=90)
    axes = figure.add_subplot(xlabel="channel", ylabel="absorbance")
    axes.plot(np.asarray(values).T, color=BLUE, linewidth=0.7)
    write(path, figure.savefig)


def agreement(true: ArrayLike, predicted: ArrayLike, names: list[str], path: Path) -> None:
    """Save a plot of predicted against true values (N, targets); on the line they are equal."""
    from matplotlib.figure import Figure

    figure = Figure((9, 3.4), layout="constrained", dpi=90)
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1, title=name, xlabel="true")
        axes.plot(np.asarray(true)[:, number], np.asarray(predicted)[:, number], ".", color=BLUE)
        axes.axline((10, 10), slope=1, color=GREY)
    write(path, figure.savefig)
