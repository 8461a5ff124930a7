"""Pictures of this kind of data."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .charts import BLUE, INK, ORANGE, curves, write

__all__ = ["curves", "scatter"]


def scatter(
    points: ArrayLike, targets: ArrayLike, path: Path, probabilities: ArrayLike | None = None
) -> None:
    """Save points (N, 2), coloured by their class.

    If given, the probabilities of class 1 (N,) colour the background, interpolated between the
    points. A line shows where they are 0.5, and mistakes are ringed.

    Yours: draw what shows at a glance the model's inputs, and where it is wrong.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    places, classes = np.asarray(points), np.asarray(targets)
    x, y = places.T
    figure = Figure((6.6, 5.6), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlabel="x", ylabel="y", aspect="equal")
    axes.set_title(f"{len(classes)} points")
    axes.use_sticky_edges = False  # a margin around the background
    if probabilities is not None:
        shares = np.asarray(probabilities)
        wrong = (shares > 0.5) != classes
        axes.set_title(f"{wrong.sum()} of {len(classes)} are wrong (ringed)")
        if np.linalg.matrix_rank(places - places[0]) == 2:  # not all on one line
            colours = LinearSegmentedColormap.from_list("", [BLUE, "white", ORANGE])
            levels = np.linspace(0, 1, 11)
            ground = axes.tricontourf(x, y, shares, levels, cmap=colours, alpha=0.5)
            figure.colorbar(ground, label="probability of class 1", shrink=0.8)
            if shares.min() < 0.5 < shares.max():
                axes.tricontour(x, y, shares, [0.5], colors=INK, linewidths=1)
        axes.scatter(x[wrong], y[wrong], s=90, facecolors="none", edgecolors=INK, linewidths=1.5)
    for number, colour in enumerate((BLUE, ORANGE)):
        own = classes == number
        axes.scatter(x[own], y[own], s=14, color=colour, label=f"class {number}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    write(path, figure.savefig)
