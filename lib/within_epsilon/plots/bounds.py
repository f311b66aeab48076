"""Figures of proofs: bounds on one axis, and regions cut into parts."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from within_epsilon.plots.style import NEUTRAL, PROVED, STYLE, UNKNOWN, canvas, ink


def marks(
    values: Mapping[str, float], *, xlabel: str, colours: Mapping[str, str] | None = None
) -> Figure:
    """Draw one mark a row on a common axis, each with its name and its number.

    The axis is even between -1 and 1 and logarithmic beyond, so that a bound which is far off
    leaves room for those that are near; a line marks 0.

    Parameters
    ----------
    values : name → number, from the top
    xlabel : what they are, with the threat model
    colours : name → colour, grey by default
    """
    figure, axes = canvas(6.0, 0.9 + 0.32 * len(values))
    axes.axvline(0, color="#222222", linewidth=1)
    for row, (name, value) in enumerate(values.items()):
        colour = (colours or {}).get(name, NEUTRAL)
        axes.plot(value, row, "D", color=colour, markersize=7)
        axes.annotate(
            f"{value:.3f}".replace("-", "−"),
            (value, row),
            xytext=(9 if value > 0 else -9, 0),
            textcoords="offset points",
            color=ink(colour),
            va="center",
            ha="left" if value > 0 else "right",
        )
    low, high = (pick([*values.values(), end]) for pick, end in ((min, -1.0), (max, 1.0)))
    axes.set(xlabel=xlabel, xscale="symlog", xlim=(8 * low, 4 * high))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    return figure


def partitions(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]], *, labels: tuple[str, str]
) -> Figure:
    """Draw rectangles of a plane: green what is proved, amber and hatched what is open.

    Parameters
    ----------
    panels : title → (proved, open), each (n, 2, 2): n boxes, lower and upper ends, two inputs
    labels : what the two kinds are called
    """
    with plt.style.context(STYLE):
        figure: Figure
        figure, grid = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.7), squeeze=False)
    plt.close(figure)
    kinds = ((PROVED, ""), (UNKNOWN, "////"))
    for axes, (title, parts) in zip(grid[0], panels.items(), strict=True):
        whole = np.concatenate([np.asarray(part, dtype=float).reshape(-1, 2, 2) for part in parts])
        for boxes, (colour, hatch), label in zip(parts, kinds, labels, strict=True):
            for lower, upper in np.asarray(boxes, dtype=float).reshape(-1, 2, 2):
                axes.add_patch(
                    Rectangle(
                        tuple(lower),
                        *(upper - lower),
                        facecolor=f"{colour}66",
                        edgecolor=ink(colour),
                        linewidth=0.8,
                        hatch=hatch,
                        label=label,
                    )
                )
        axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        axes.set_title(title, loc="left")
        axes.set(xlim=(whole[..., 0].min(), whole[..., 0].max()))
        axes.set(ylim=(whole[..., 1].min(), whole[..., 1].max()))
        named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        axes.legend(
            named.values(), named, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2,
            frameon=False,
        )  # fmt: skip
    return figure
