"""Functions of two numbers, drawn as surfaces that can be compared."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from within_epsilon.plots.style import STYLE


def surfaces(
    x: ArrayLike,
    y: ArrayLike,
    heights: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    zlabel: str,
) -> Figure:
    """Draw named surfaces one below the other, all in grey and on one vertical scale.

    Parameters
    ----------
    x : (n,), across
    y : (m,), into the page
    heights : name → (m, n) values
    xlabel, ylabel, zlabel : with units
    """
    tables = {name: np.asarray(table, dtype=float) for name, table in heights.items()}
    across, into = np.meshgrid(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    lowest = min(table.min() for table in tables.values())
    highest = max(table.max() for table in tables.values())
    with plt.style.context(STYLE):
        figure: Figure = plt.figure(figsize=(4.6, 3.6 * len(tables)))
        for place, (name, table) in enumerate(tables.items(), start=1):
            axes = figure.add_subplot(len(tables), 1, place, projection="3d")
            axes.plot_surface(across, into, table, color="#B4B4B4", linewidth=0)
            axes.set(zlim=(lowest, highest), title=name)
            axes.set_xlabel(xlabel, labelpad=8)
            axes.set_ylabel(ylabel, labelpad=8)
            axes.set_zlabel(zlabel, rotation=90)
            axes.set_box_aspect(None, zoom=0.82)
            axes.locator_params(nbins=3)
            axes.view_init(elev=24, azim=-60)
    plt.close(figure)
    return figure
