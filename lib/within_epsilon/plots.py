"""Figures in the book's one visual language: plain arrays in, a matplotlib Figure out.

Colours carry meaning, never alone: a label says the same. Pictures are drawn pixel for pixel,
enlarged by whole factors, so that nothing recolours what an attack has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's palette, by what each colour says in this book.
TRUE = "#0072B2"  # the true class
ADVERSARY = "#D55E00"  # the adversary and what it gains
PROVED = "#009E73"
UNKNOWN = "#E69F00"
DIRECTION = "#CC79A7"  # gradients and directions
NEUTRAL = "#767676"
PALETTE = (TRUE, ADVERSARY, PROVED, UNKNOWN, DIRECTION, NEUTRAL)

STYLE = Path(__file__).with_name("within_epsilon.mplstyle")
_SIDE = 448  # pixels a picture is enlarged to, at _DPI: 2.24 inches, three in a row
_DPI = 200


def _canvas(width: float = 6.0, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes that no notebook shows twice."""
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height))
    plt.close(figure)
    return figure, axes


def _picture(image: ArrayLike) -> NDArray[Any]:
    """Return (C, H, W) or (1, C, H, W) in [0, 1] as (H, W) or (H, W, 3) for drawing."""
    array = np.asarray(image, dtype=float)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(
            f"expected a picture of shape (C, H, W) with C = 1 or 3, got {array.shape}; "
            "draw one picture of a batch at a time: images[0]"
        )
    return array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)


def amplify(delta: ArrayLike, factor: float) -> NDArray[Any]:
    """Return a perturbation as a picture: mid-grey is no change, `factor` times enlarged.

    Parameters
    ----------
    delta : array of shape (..., C, H, W), pixel units
    factor : what to multiply by before adding 0.5; say it in the caption

    Returns
    -------
    array of the same shape, clipped to [0, 1]
    """
    return np.clip(0.5 + factor * np.asarray(delta, dtype=float), 0.0, 1.0)


def pictures(images: Sequence[ArrayLike], captions: Sequence[str], *, columns: int = 3) -> Figure:
    """Draw pictures in rows, pixel for pixel, each with a caption above it.

    Parameters
    ----------
    images : pictures (C, H, W) in [0, 1], C = 1 or 3, all of one size
    captions : one each; a caption may have several lines
    columns : pictures a row

    Returns
    -------
    Figure, every image pixel a square of whole device pixels
    """
    if len(images) != len(captions):
        raise ValueError(f"expected one caption per picture, got {len(captions)} for {len(images)}")
    arrays = [_picture(image) for image in images]
    rows = -(-len(arrays) // columns)
    # Small pictures grow by a whole factor; all fit into 7 inches.
    limit = min(_SIDE, (7 * _DPI - 20 * (columns - 1)) // columns)
    height, width = (
        side * max(1, limit // max(arrays[0].shape[:2])) for side in arrays[0].shape[:2]
    )
    gap = 20
    size = _caption_size(captions, width)
    caption = 26 + round(4 * size) * max(1 + text.count("\n") for text in captions)
    total = (columns * width + (columns - 1) * gap, rows * (height + caption))
    with plt.style.context(STYLE):
        figure: Figure = plt.figure(
            figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI, layout="none"
        )
        for index, (array, text) in enumerate(zip(arrays, captions, strict=True)):
            row, column = divmod(index, columns)
            left, bottom = column * (width + gap), total[1] - row * (height + caption)
            bottom -= height + caption
            axes = figure.add_axes(
                (left / total[0], bottom / total[1], width / total[0], height / total[1])
            )
            axes.imshow(array, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            figure.text(
                left / total[0],
                (bottom + height + 10) / total[1],
                text,
                va="bottom",
                fontsize=size,
                linespacing=1.3,
            )
    plt.close(figure)
    return figure


def _caption_size(captions: Sequence[str], width: int) -> float:
    """Return the font size, 8 to 12 points, at which the longest line fits over a picture."""
    longest = max(len(line) for text in captions for line in (text or " ").split("\n"))
    letter = 0.55 * _DPI / 72  # an average letter's width in pixels, per point of font size
    return min(12.0, max(8.0, (width + 15) / (letter * max(longest, 1))))


def triptych(
    clean: ArrayLike,
    adversarial: ArrayLike,
    captions: tuple[str, str] = ("clean", "adversarial"),
    *,
    amplification: float | None = None,
    name: str = "perturbation",
) -> Figure:
    """Draw clean | perturbation (×k) | adversarial, always in this order.

    Parameters
    ----------
    clean, adversarial : pictures (C, H, W) in [0, 1]
    captions : what the first and the third picture are, a verdict for instance
    amplification : factor for the middle picture; None makes its largest change half the range
    name : what the middle picture is called
    """
    delta = np.asarray(adversarial, dtype=float) - np.asarray(clean, dtype=float)
    if amplification is None:
        largest = float(np.abs(delta).max())
        amplification = max(1.0, float(np.floor(0.5 / largest))) if largest > 0 else 1.0
    middle = f"{name} × {amplification:g}"
    parts = [clean, amplify(delta, amplification), adversarial]
    return pictures(parts, [captions[0], middle, captions[1]])


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
            1, len(panels), figsize=(7, 0.55 + 0.34 * count), squeeze=False, sharex=True
        )
    plt.close(figure)
    for axes, (title, rows) in zip(grid[0], panels.items(), strict=True):
        for place, (category, probability) in enumerate(rows):
            colour = TRUE if category == true else ADVERSARY if place == 0 else "#BBBBBB"
            axes.barh(place, probability, height=0.34, color=colour)
            mark = " (true)" if category == true else ""
            axes.text(0, place - 0.27, f"{category}{mark}", va="bottom", fontsize=9)
            axes.text(1, place - 0.27, f"{probability:.1%}", va="bottom", ha="right", fontsize=9)
        axes.set_title(title, fontsize=10, fontweight="bold", loc="left")
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
    """
    figure, axes = _canvas()
    horizontal = np.asarray(x, dtype=float)
    dashes = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (1, 3))]
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=xscale, yscale=yscale)
    for axis, scale in ((axes.xaxis, xscale), (axes.yaxis, yscale)):
        if scale == "log":  # 100 and 0.01 rather than powers of ten
            axis.set_major_formatter(lambda value, _: f"{value:g}")
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
        last = np.flatnonzero(np.isfinite(vertical))[-1]
        ends.append((name, horizontal[last], vertical[last], colour))
    if points is not None:
        across, up = (np.asarray(values, dtype=float) for values in points)
        axes.scatter(across, up, s=14, color=TRUE, alpha=0.6, linewidths=0, zorder=3)
    _label_ends(figure, axes, ends)
    return figure


def matrix(
    shares: ArrayLike, *, rows: Sequence[str], columns: Sequence[str], xlabel: str, ylabel: str
) -> Figure:
    """Draw a table of shares in squares, the adversary's colour, each with its whole percentage.

    Parameters
    ----------
    shares : (len(rows), len(columns)) in [0, 1]; NaN leaves its square grey and empty
    rows, columns : names, from the top and from the left
    xlabel, ylabel : what columns and rows are
    """
    figure, axes = _canvas(6.4, 6.4 * len(rows) / len(columns))
    gains = LinearSegmentedColormap.from_list("gains", ["#FFFFFF", ADVERSARY]).with_extremes(
        bad="#DDDDDD"
    )
    table = np.asarray(shares, dtype=float)
    axes.imshow(table, cmap=gains, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(table):
        if np.isfinite(share):
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=13)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(range(len(columns)), columns, fontsize=13)
    axes.set_yticks(range(len(rows)), rows, fontsize=13)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _label_ends(figure: Figure, axes: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each curve's name at its right end, moved apart where names would overlap."""
    figure.draw_without_rendering()  # a closed figure's canvas no longer draws
    spacing = 15 * figure.dpi / 100
    placed = sorted((axes.transData.transform(end[1:3])[1], *end) for end in ends)
    height = -np.inf
    for pixel, name, x, y, colour in placed:
        height = max(pixel, height + spacing)
        axes.annotate(
            name,
            (x, y),
            xytext=(8, (height - pixel) * 72 / figure.dpi),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=10,
            annotation_clip=False,
        )
