"""What explorers of a loss surface share: a grid's contours, and a random generator of the page."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from within_epsilon import plots


def contour_figure(
    x: ArrayLike,
    y: ArrayLike,
    losses: ArrayLike,
    *,
    side: float | None = None,
    power: float = 2.5,
) -> tuple[Figure, Axes]:
    """Draw contours of a loss.

    Parameters
    ----------
    x, y : (n,) and (m,) places of the grid
    losses : (m, n)
    side : width and height in inches; None for the usual figure
    power : 1 for evenly spaced levels; the larger, the closer together where the loss is low
    """
    values: NDArray[np.float64] = np.asarray(losses, dtype=float)
    with plt.style.context(plots.STYLE):
        figure, axes = plt.subplots(figsize=None if side is None else (side, side))
    plt.close(figure)
    levels = values.min() + np.ptp(values) * ((np.arange(16) + 0.6) / 16) ** power
    axes.contour(x, y, values, levels=levels, colors="#bbbbbb", linewidths=1)
    return figure, axes


def mulberry32(seed: int) -> Iterator[float]:
    """Yield numbers in [0, 1) as the front end's generator does (Tommy Ettinger's mulberry32)."""
    mask = 0xFFFFFFFF
    a = seed & mask
    while True:
        a = (a + 0x6D2B79F5) & mask
        t = ((a ^ (a >> 15)) * (a | 1)) & mask
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask
        yield (t ^ (t >> 14)) / 2**32
