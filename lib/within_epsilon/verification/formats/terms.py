"""Terms of VNN-LIB: linear functions of inputs and outputs, and comparisons of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from within_epsilon.verification.formats.declared import Tree, Variable

_OLD = re.compile(r"^([XY])_(\d+)$")
_NEW = re.compile(r"^([A-Za-z]\w*)(?:\[([\d,]*)\])?$")
_NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class Place(NamedTuple):
    """One number of a variable."""

    name: str
    place: int


@dataclass(frozen=True)
class Linear:
    """A linear function of variables' numbers, which as a comparison is to be <= 0, or < 0.

    Parameters
    ----------
    slopes : dict from Place to Fraction
        None is 0.
    constant : Fraction
        What is added.
    strict : bool
        Whether 0 itself is not allowed.
    """

    slopes: dict[Place, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)
    strict: bool = False

    def __add__(self, other: "Linear") -> "Linear":
        slopes = dict(self.slopes)
        for place, slope in other.slopes.items():
            slopes[place] = slopes.get(place, Fraction(0)) + slope
        kept = {place: slope for place, slope in slopes.items() if slope}
        return Linear(kept, self.constant + other.constant)

    def times(self, factor: Fraction) -> "Linear":
        """Return a multiple."""
        slopes = {place: slope * factor for place, slope in self.slopes.items() if factor}
        return Linear(slopes, self.constant * factor)

    def at(self, values: Mapping[Place, Fraction], kind: str) -> Fraction:
        """Return its value, exactly, or as floats of a type have it, term by term."""
        if kind == "real":
            terms = (slope * values[place] for place, slope in self.slopes.items())
            return sum(terms, self.constant)
        number = np.float32 if kind == "float32" else np.float64
        total = number(0)
        for place, slope in self.slopes.items():
            total = number(total + number(float(slope)) * number(float(values[place])))
        return Fraction(float(number(total + number(float(self.constant)))))


def compare(tree: Tree, places: Mapping[str, Variable]) -> list[list[Linear]]:
    """Return a comparison as alternatives, in each of which all is to be <= 0 or < 0.

    Raises
    ------
    ValueError
        If it is none, or not of linear functions.
    """
    kinds = ("<=", ">=", "<", ">", "==", "=", "!=")
    if len(tree) != 3 or tree[0] not in kinds:
        raise ValueError(f"expected one of {', '.join(kinds)} of two terms, received {_text(tree)}")
    left, right = (linear(side, places) for side in tree[1:])
    less = left + right.times(Fraction(-1))
    if not less.slopes and not (left.slopes or right.slopes):
        raise ValueError(f"expected inputs or outputs in a comparison, received {_text(tree)}")
    more = less.times(Fraction(-1))
    strict = tree[0] in ("<", ">", "!=")
    one, other = (Linear(side.slopes, side.constant, strict) for side in (less, more))
    return {
        "<": [[one]], "<=": [[one]], ">": [[other]], ">=": [[other]],
        "==": [[one, other]], "=": [[one, other]], "!=": [[one], [other]],
    }[str(tree[0])]  # fmt: skip


def linear(tree: Tree, places: Mapping[str, Variable]) -> Linear:
    """Read a term.

    Raises
    ------
    ValueError
        If it is not linear, or has a variable that nothing declares.
    """
    if isinstance(tree, str):
        return _leaf(tree, places)
    if len(tree) < 2 or tree[0] not in ("+", "-", "*"):
        raise ValueError(f"expected a sum, difference or product, received {_text(tree)}")
    first, *others = (linear(part, places) for part in tree[1:])
    if tree[0] == "-" and not others:
        return first.times(Fraction(-1))
    for other in others:
        if tree[0] != "*":
            first = first + (other if tree[0] == "+" else other.times(Fraction(-1)))
        elif first.slopes and other.slopes:
            raise ValueError(
                f"expected linear terms, received a product of variables, {_text(tree)}"
            )
        else:
            number, term = (other, first) if first.slopes else (first, other)
            first = term.times(number.constant)
    return first


def _leaf(text: str, places: Mapping[str, Variable]) -> Linear:
    some = next(iter(places.values()))
    if _NUMBER.match(text):
        return Linear({}, some.constant(Fraction(text)))
    found = (_OLD if some.old else _NEW).match(text)
    if found is None or found[1] not in places:
        raise ValueError(f"expected inputs, outputs or numbers, received {text}")
    return Linear({Place(found[1], places[found[1]].place(found[2] or "")): Fraction(1)})


def _text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(map(_text, tree))})"
