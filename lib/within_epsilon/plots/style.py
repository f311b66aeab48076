"""What all figures share: colours by meaning, the style file, an empty pair of axes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette, by what each colour says in this book.
TRUE = "#0072B2"  # the true class
ADVERSARY = "#D55E00"  # the adversary and what it gains
PROVED = "#009E73"
UNKNOWN = "#E69F00"
DIRECTION = "#CC79A7"  # gradients and directions
NEUTRAL = "#767676"
PALETTE = (TRUE, ADVERSARY, PROVED, UNKNOWN, DIRECTION, NEUTRAL)

STYLE = Path(__file__).with_name("within_epsilon.mplstyle")


_READABLE = 4.5  # contrast of text with its paper, by the Web Content Accessibility Guidelines


def ink(colour: str) -> str:
    """Return a colour in which text can be read on white: the same hue, as dark as it must be."""
    rgb = np.array(to_rgb(colour))
    while _contrast(rgb) < _READABLE:
        rgb *= 0.98
    return to_hex(rgb)


def _contrast(rgb: NDArray[np.float64]) -> float:
    """Return a colour's contrast with white, from 1 to 21."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05))


def canvas(width: float = 6.0, height: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes that no notebook shows twice."""
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height))
    plt.close(figure)
    return figure, axes
