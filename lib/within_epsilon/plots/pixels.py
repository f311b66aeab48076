"""Figures made of pictures, pixel for pixel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from within_epsilon.plots.style import STYLE

_SIDE = 448  # pixels a picture is enlarged to, at _DPI: 2.24 inches, three in a row
_DPI = 200
_LETTER = 0.55 * _DPI / 72  # an average letter's width in pixels, per point of font size
_SMALLEST = 8.0  # points


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


def pictures(
    images: Sequence[ArrayLike],
    captions: Sequence[str],
    *,
    columns: int = 3,
    fontsize: float = 13.0,
) -> Figure:
    """Draw pictures in rows, pixel for pixel, each with a caption above it.

    Parameters
    ----------
    images : pictures (C, H, W) in [0, 1], C = 1 or 3, all of one size
    captions : one each; a caption may have several lines
    columns : pictures a row
    fontsize : of the captions, in points: of a figure 7 inches wide a phone of 390 pixels shows 13
        points as 9 pixels, and 16 as 11; smaller if a word does not fit

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
    size = _caption_size(captions, width + 15, fontsize)
    captions = [_wrap(text, (width + 15) / (_LETTER * size)) for text in captions]
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
            _write(figure, text, (left, bottom + height + 10 + round(size)), size)
    plt.close(figure)
    return figure


def _write(figure: Figure, caption: str, place: tuple[float, float], size: float) -> None:
    """Write a caption, the baseline of its last line from a place in pixels."""
    left, last = place
    width, height = figure.get_size_inches() * _DPI
    # Line by line: matplotlib sets a line higher or lower as its own letters reach down.
    for above, line in enumerate(reversed(caption.split("\n"))):
        baseline = last + above * 1.3 * size * _DPI / 72
        figure.text(left / width, baseline / height, line, va="baseline", fontsize=size)


def _caption_size(captions: Sequence[str], width: int, fontsize: float) -> float:
    """Return the font size at which the longest word fits over a picture, or `fontsize`."""
    words = (word for text in captions for word in re.split(r"[ \n]+", _bound(text)))
    longest = max(map(len, words), default=1)
    return min(fontsize, max(_SMALLEST, width / (_LETTER * longest)))


def _wrap(caption: str, letters: float) -> str:
    """Break a caption's lines after so many letters, but not inside "ε = 1/255"."""
    lines = _bound(caption).split("\n")
    wrapped = "\n".join("\n".join(wrap(line, int(letters))) for line in lines)
    return wrapped.replace("\N{NO-BREAK SPACE}", " ")


def _bound(caption: str) -> str:
    """Bind both sides of an equals sign to it, so that no line ends between them."""
    return caption.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


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
