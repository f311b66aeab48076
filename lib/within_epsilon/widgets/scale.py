"""Sizes of ε to stop at, and what a slider's scale calls them."""

from __future__ import annotations

from collections.abc import Sequence

# Logarithmic, from a sixteenth of a level to sixteen levels; and coarser for small pictures.
PHOTO_EPSILONS = tuple(
    level / 255
    for level in (
        *(0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8),
        *(1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16),
    )
)
# Finer, where a network answers while one drags: eight stops from one power of two to the next, all
# of them sixteenths of a level.
LAB_EPSILONS = tuple(
    sixteenths / 16 / 255
    for sixteenths in (
        *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14),
        *(step * 2**octave for octave in (1, 2, 3, 4) for step in range(8, 16)),
        256,
    )
)
DIGIT_EPSILONS = (
    *(0.0, 0.01, 0.0125, 0.015, 0.0175, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06, 0.07, 0.08),
    *(0.1, 0.12, 0.14, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
)
_LEVELS = ("¼", "1", "4", "16/255")


def readout(epsilon: float) -> str:
    """Return epsilon as a decimal and in 255ths, the natural one first."""
    decimal, levels = f"{epsilon:.2g}", f"{epsilon * 255:.5g}/255"
    if float(decimal) == epsilon:
        return f"ε = {decimal} = {levels}" if epsilon else "ε = 0"
    return f"ε = {levels} ≈ {decimal}"


def ticks(stops: Sequence[float]) -> list[tuple[int, str]]:
    """Return [place, text] for the stops that the slider's scale names."""
    names = {level / 255: text for level, text in zip((0.25, 1, 4, 16), _LEVELS, strict=True)}
    names |= {stop: f"{stop:g}" for stop in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)}
    named = [(i, names[stop]) for i, stop in enumerate(stops) if stop in names]
    if len(named) > 2:
        return named
    return [(i, f"{stops[i]:.3g}") for i in sorted({0, len(stops) // 2, len(stops) - 1})]
