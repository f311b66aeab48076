"""Figures made of numbers: bars, curves, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from within_epsilon.plots.style import ADVERSARY, PALETTE, STYLE, TRUE, canvas, ink
from within_epsilon.wording import percent, tenths

_CLOUD = 100  # single observations, more than which are small


def probability_bars(
    panels: Mapping[str, Sequence[tuple[str, float]]], *, true: str | None = None
) -> Figure:
    """Draw top-k probabilities, a panel a picture, with names and percentages on the bars.

    Parameters
    ----------
    panels : title → (category, probability) pairs, most probable first
    true : the true category: blue and starred; in any other panel's first place stands the
        adversary's vermilion
    """
    count = max(len(rows) for rows in panels.values())
    with plt.style.context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(
            1, len(panels), figsize=(7, 0.6 + 0.38 * count), squeeze=False, sharex=True
        )
    plt.close(figure)
    for axes, (title, rows) in zip(grid[0], panels.items(), strict=True):
        for place, (category, probability) in enumerate(rows):
            colour = TRUE if category == true else ADVERSARY if place == 0 else "#BBBBBB"
            axes.barh(place, probability, height=0.34, color=colour)
            mark = " (true)" if category == true else ""
            axes.text(0, place - 0.27, f"{category}{mark}", va="bottom")
            axes.text(1, place - 0.27, tenths(float(probability)), va="bottom", ha="right")
        axes.set_title(title, fontweight="bold", loc="left")
        axes.set(xlim=(0, 1), ylim=(count - 0.4, -0.85))
        axes.set_axis_off()
    return figure


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    colours: Mapping[str, str] | None = None,
    intervals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    points: tuple[ArrayLike, ArrayLike] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    xticks: Sequence[float] | None = None,
    whole: bool = False,
) -> Figure:
    """Draw named curves over one x, each labelled at its right end.

    Parameters
    ----------
    x : (n,)
    series : name → (n,) values; NaN where there is none
    xlabel, ylabel : with units
    colours : name → colour, else the palette in order
    intervals : name → (lower, upper), drawn as a band
    points : (x, y) of single observations, drawn as dots; the title says what they are
    xscale, yscale : matplotlib scales, "log" for instance
    xticks : the only values of x that are marked
    whole : y is a count, marked at whole numbers only
    """
    figure, axes = canvas()
    horizontal = np.asarray(x, dtype=float)
    dashes = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (1, 3))]
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=xscale, yscale=yscale)
    _mark_axes(axes, xticks, whole=whole)
    ends = []
    for index, (name, values) in enumerate(series.items()):
        vertical = np.asarray(values, dtype=float)
        colour = (colours or {}).get(name, PALETTE[index % len(PALETTE)])
        axes.plot(
            horizontal, vertical, color=colour, linestyle=dashes[index % len(dashes)], linewidth=2
        )
        if intervals and name in intervals:
            low, high = (np.asarray(bound, dtype=float) for bound in intervals[name])
            axes.fill_between(horizontal, low, high, color=colour, alpha=0.18, lw=0)
        finite = np.flatnonzero(np.isfinite(vertical))
        if len(finite):  # else there is no curve to name
            ends.append((name, horizontal[finite[-1]], vertical[finite[-1]], colour))
    if points is not None:
        across, up = (np.asarray(values, dtype=float) for values in points)
        # A few would be lost on the curves; a cloud of large ones would bury the curves.
        size, alpha, edge = (34, 0.8, 0.7) if across.size <= _CLOUD else (14, 0.6, 0)
        axes.scatter(
            across, up, size, TRUE, alpha=alpha, edgecolors="white", linewidths=edge, zorder=4
        )
    _label_ends(figure, axes, ends)
    return figure


def matrix(
    shares: ArrayLike, *, rows: Sequence[str], columns: Sequence[str], xlabel: str, ylabel: str
) -> Figure:
    """Draw a table of shares in squares, the adversary's colour, each with its percentage.

    Parameters
    ----------
    shares : (len(rows), len(columns)) in [0, 1]; NaN leaves its square grey and empty
    rows, columns : names, from the top and from the left
    xlabel, ylabel : what columns and rows are
    """
    figure, axes = canvas(6.4, 6.4 * len(rows) / len(columns))
    gains = LinearSegmentedColormap.from_list("gains", ["#FFFFFF", ADVERSARY]).with_extremes(
        bad="#DDDDDD"
    )
    table = np.asarray(shares, dtype=float)
    axes.imshow(table, cmap=gains, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(table):
        if np.isfinite(share):
            axes.text(
                column,
                row,
                percent(float(share)).removesuffix("%"),
                ha="center",
                va="center",
                fontsize=13,
            )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(range(len(columns)), columns, fontsize=13)
    axes.set_yticks(range(len(rows)), rows, fontsize=13)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _mark_axes(axes: Axes, xticks: Sequence[float] | None, *, whole: bool) -> None:
    """Choose what stands beside the axes: 100 and not a power of ten, and no half digits."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    if xticks is not None:
        axes.set_xticks(xticks)
        axes.xaxis.set_minor_locator(NullLocator())
    if whole:
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _label_ends(figure: Figure, axes: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each curve's name at its right end, moved apart where names would overlap."""
    figure.draw_without_rendering()  # a closed figure's canvas no longer draws
    spacing = 17 * figure.dpi / 100
    placed = sorted((axes.transData.transform(end[1:3])[1], *end) for end in ends)
    height = -np.inf
    for pixel, name, x, y, colour in placed:
        height = max(pixel, height + spacing)
        axes.annotate(
            name,
            (x, y),
            xytext=(8, (height - pixel) * 72 / figure.dpi),
            textcoords="offset points",
            color=ink(colour),
            va="center",
            annotation_clip=False,
        )
