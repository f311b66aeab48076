"""Comparisons in pairs: two attacks on the same examples."""

from collections.abc import Sequence
from math import comb, inf
from typing import NamedTuple


class Paired(NamedTuple):
    """How two attacks compare, example by example.

    Attributes
    ----------
    ahead, behind : int
        On how many examples ours did better, and worse.
    p : float
        Probability of a division at least as uneven if both were equally good.
    """

    ahead: int
    behind: int
    p: float


def sign_test(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Paired:
    """Compare two attacks by a two-sided sign test; ties say nothing. Smaller is better.

    For one verdict an example, standing or fallen, that is McNemar's exact test.

    Parameters
    ----------
    ours, theirs : sequence of float or None
        What each example came to: a distance, or in how many runs it stood. None is
        infinitely far.
    """
    values = [[inf if value is None else value for value in side] for side in (ours, theirs)]
    ahead = sum(one < other for one, other in zip(*values, strict=True))
    behind = sum(one > other for one, other in zip(*values, strict=True))
    both = ahead + behind
    tail: float = sum(comb(both, k) for k in range(max(ahead, behind), both + 1)) / 2**both
    return Paired(ahead, behind, min(1.0, 2 * tail))


def standing(outcomes: Sequence[str]) -> list[int]:
    """Return in how many runs each example stood, from one string of 0 and 1 a run."""
    return [sum(map(int, runs)) for runs in zip(*outcomes, strict=True)]
