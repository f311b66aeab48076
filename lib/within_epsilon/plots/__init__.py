"""Figures in the book's one visual language: plain arrays in, a matplotlib Figure out.

Colours carry meaning, never alone: a label says the same. Pictures are drawn pixel for pixel,
enlarged by whole factors, so that nothing recolours what an attack has changed.
"""

from within_epsilon.plots.bounds import marks, partitions
from within_epsilon.plots.charts import lines, matrix, probability_bars
from within_epsilon.plots.dumbbells import dumbbells
from within_epsilon.plots.pixels import amplify, pictures, triptych
from within_epsilon.plots.style import (
    ADVERSARY,
    DIRECTION,
    NEUTRAL,
    PALETTE,
    PROVED,
    STYLE,
    TRUE,
    UNKNOWN,
)
from within_epsilon.plots.surfaces import surfaces

__all__ = [
    "ADVERSARY",
    "DIRECTION",
    "NEUTRAL",
    "PALETTE",
    "PROVED",
    "STYLE",
    "TRUE",
    "UNKNOWN",
    "amplify",
    "dumbbells",
    "lines",
    "marks",
    "matrix",
    "partitions",
    "pictures",
    "probability_bars",
    "surfaces",
    "triptych",
]
