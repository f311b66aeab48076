"""Several counts of the same thing: a row a thing, a mark a count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from within_epsilon.plots.style import ADVERSARY, NEUTRAL, canvas, ink

_SHAPES = ("o", "s", "^", "D")
_RING = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2.2}


def dumbbells(
    rows: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str,
    ringed: str,
    level: tuple[float, int] | None = None,
) -> Figure:
    """Draw a row a thing, a mark a count, and in each row a line from the least to the greatest.

    Parameters
    ----------
    rows : name → (kind of count → number), from the top; a row may lack some
    xlabel : what is counted, with the threat model
    ringed : the kind in a ring of the adversary's colour, its number above it; all other kinds
        are grey, each in a shape of its own, and beside a row's greatest stands its number
    level : (number, rows), a dashed line through the first rows, its number on its left

    Raises
    ------
    ValueError
        If there are more than four kinds beside the ringed one.
    """
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row if kind != ringed))
    if len(kinds) > len(_SHAPES):
        raise ValueError(f"rows: expected at most 4 kinds beside {ringed!r}, received {kinds}")
    looks: dict[str, dict[str, Any]] = {
        kind: {"marker": shape, "markersize": 7, "color": NEUTRAL}
        for kind, shape in zip(kinds, _SHAPES, strict=False)
    }
    looks[ringed] = {**_RING, "color": ADVERSARY}
    figure, axes = canvas(6.0, 1.3 + 0.46 * len(rows))
    for place, row in enumerate(rows.values()):
        axes.hlines(place, min(row.values()), max(row.values()), color="#C4C4C4", linewidth=3)
        for kind, look in looks.items():
            if kind in row:
                axes.plot(row[kind], place, linestyle="", **look)
        _number(axes, max(row.values()), place, (12, 0), NEUTRAL)
        if ringed in row:
            _number(axes, row[ringed], place, (0, 14), ADVERSARY)
    if level is not None:
        value, last = level
        axes.vlines(value, -0.6, last - 0.5, color="#333333", linestyle=(0, (4, 3)), linewidth=1)
        _number(axes, value, 0, (-9, 0), NEUTRAL)
    for kind, look in looks.items():
        axes.plot([], [], linestyle="", label=kind, **look)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=len(looks), columnspacing=1.0,
        handletextpad=0.2, borderaxespad=0, frameon=False,
    )  # fmt: skip
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.75))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(axis="y", length=0)
    return figure


def _number(axes: Axes, value: float, place: int, shift: tuple[float, float], colour: str) -> None:
    """Write a number on the side of its mark to which it is shifted."""
    side = "center" if shift[0] == 0 else "left" if shift[0] > 0 else "right"
    axes.annotate(
        f"{value:g}", (value, place), xytext=shift, textcoords="offset points",
        color=ink(colour), ha=side, va="center",
        annotation_clip=False,
    )  # fmt: skip
