"""What all figures share: colours by meaning, the style file, an empty pair of axes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, by what each colour says in this book.
TRUE = "#0072B2"  # the true class
ADVERSARY = "#D55E00"  # the adversary and what it gains
PROVED = "#009E73"
UNKNOWN = "#E69F00"
DIRECTION = "#CC79A7"  # gradients and directions
NEUTRAL = "#767676"
PALETTE = (TRUE, ADVERSARY, PROVED, UNKNOWN, DIRECTION, NEUTRAL)

STYLE = Path(__file__).with_name("within_epsilon.mplstyle")


def canvas(width: float = 6.0, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes that no notebook shows twice."""
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height))
    plt.close(figure)
    return figure, axes
