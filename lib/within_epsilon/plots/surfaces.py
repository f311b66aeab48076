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
    zlim: tuple[float, float] | None = None,
    marked: bool = False,
) -> Figure:
    """Draw named surfaces one below the other, all in grey and on one vertical scale.

    Parameters
    ----------
    x : (n,), across
    y : (m,), into the page
    heights : name → (m, n) values
    xlabel, ylabel, zlabel : with units
    zlim : the ends of the vertical scale, for figures of their own that are to be compared
    marked : put a dot on the middle of each surface, at the middle x and the middle y
    """
    tables = {name: np.asarray(table, dtype=float) for name, table in heights.items()}
    across, into = np.meshgrid(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    lowest = min(table.min() for table in tables.values())
    highest = max(table.max() for table in tables.values())
    middle = (across.shape[0] // 2, across.shape[1] // 2)
    with plt.style.context(STYLE):
        figure: Figure = plt.figure(figsize=(4.6, 3.6 * len(tables)))
        for place, (name, table) in enumerate(tables.items(), start=1):
            axes = figure.add_subplot(len(tables), 1, place, projection="3d", computed_zorder=False)
            axes.plot_surface(across, into, table, color="#B4B4B4", linewidth=0, zorder=1)
            if marked:  # above the surface, which would hide it
                dot = (across[middle], into[middle], table[middle])
                axes.plot(*([end] for end in dot), "o", color="#222222", zorder=2)
            axes.set(zlim=zlim or (lowest, highest), title=name)
            axes.set_xlabel(xlabel, labelpad=8)
            axes.set_ylabel(ylabel, labelpad=8)
            axes.set_zlabel(zlabel, rotation=90)
            axes.set_box_aspect(None, zoom=0.82)
            axes.locator_params(nbins=3)
            axes.view_init(elev=24, azim=-60)
    plt.close(figure)
    return figure
