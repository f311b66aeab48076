"""Read questions in the VNN-LIB format, 1.0 and 2.0, about one network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from within_epsilon.verification.formats.declared import Declared, Tree, Variable, parse
from within_epsilon.verification.formats.terms import Linear, Place, compare, linear

Ends = list[Fraction | None]
Ends64 = tuple[list[float], list[float]]

# How far inputs without a bound are looked at.
FAR = 100.0
# More ways than these to satisfy a question's "or"s one after the other are not tried.
MOST_CASES = 100_000


class Case(NamedTuple):
    """Conditions that are to hold at once: all of rows @ outputs + inputs @ x + constants <= 0.

    Parameters
    ----------
    rows : Tensor of shape (S, k), float64
        Coefficients of the outputs.
    constants : Tensor of shape (S,), float64
        What is added.
    inputs : Tensor of shape (S, D), float64
        Coefficients of the inputs.
    """

    rows: Tensor
    constants: Tensor
    inputs: Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a question: is there an input in a box with which any of the cases holds.

    Parameters
    ----------
    lower, upper : Tensor of shape (D,), float64
        The box, rounded outwards: it leaves out no input that the question allows.
    least, most : Tensor of shape (D,), float64
        The same, rounded inwards: where inputs are tried.
    cases : list of Case
        One of them will do. What is to be below is allowed to be equal: `Query.holds` knows.
    whole : bool
        Whether the box is all; otherwise an input has no bound, and far ones are left out.
    """

    lower: Tensor
    upper: Tensor
    least: Tensor
    most: Tensor
    cases: list[Case]
    whole: bool = True


@dataclass(frozen=True, eq=False)
class Query:
    """A question: is there an input whose outputs, with it, satisfy what is asserted.

    Parameters
    ----------
    network : str
        The network's name; "N" in files of 1.0, which have none.
    inputs, outputs : Variable
        What the network takes and returns: names, types, shapes.
    assertions : list of Tree
        All are to hold.
    parts : list of Part
        The same in cases; none where no input can satisfy it.
    """

    network: str
    inputs: Variable
    outputs: Variable
    assertions: list[Tree]
    parts: list[Part]

    def holds(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Tell whether an input and its outputs satisfy the question.

        Parameters
        ----------
        inputs : Tensor of D numbers
        outputs : Tensor of k numbers

        Returns
        -------
        bool
            Computed in exact fractions; and where variables are floats in their arithmetic,
            too, which is the standard's own.
        """
        values = {}
        for variable, tensor in ((self.inputs, inputs), (self.outputs, outputs)):
            for i, value in enumerate(tensor.detach().cpu().flatten().tolist()):
                if not math.isfinite(value):
                    return False
                values[Place(variable.name, i)] = Fraction(value)
        places = {self.inputs.name: self.inputs, self.outputs.name: self.outputs}
        kinds = {"real", self.inputs.kind}
        return all(_holds(tree, values, places, kind) for tree in self.assertions for kind in kinds)


def read_vnnlib(path: str | Path) -> Query:
    """Read a file's question.

    Parameters
    ----------
    path : str or Path
        A file in VNN-LIB 1.0 (``X_0``) or 2.0 (``X[0]``), with one network that has one input
        and one output, of real numbers, float32 or float64. Assertions compare linear
        functions of inputs and outputs, under "and" and "or".

    Returns
    -------
    Query
        Constants are exact if the variables are real, and floats of the variables' type if
        they are floats, as the standard has it.

    Raises
    ------
    ValueError
        If the file asks for more than that.

    References
    ----------
    The VNN-LIB standard, 2.0, chapters 3 and 4.
    """
    try:
        declared = parse(Path(path).read_text(encoding="utf-8"))
        return Query(*declared, _parts(declared))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected a VNN-LIB file, received one that is no text"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parts(declared: Declared) -> list[Part]:
    inputs, outputs = declared.inputs, declared.outputs
    places = {inputs.name: inputs, outputs.name: outputs}
    alternatives = [_alternatives(tree, places) for tree in declared.assertions]
    always = [one for some in alternatives if len(some) == 1 for one in some[0]]
    choices = [some for some in alternatives if len(some) != 1]
    if math.prod(map(len, choices)) > MOST_CASES:
        raise ValueError(f"expected at most {MOST_CASES} cases, received more; split the question")
    start = _Corners.around(inputs)
    rest = [one for one in always if not start.cut(one)]
    grouped: dict[tuple[tuple[float, ...], tuple[float, ...]], Part] = {}
    for choice in product(*choices):
        corners = start.copy()
        rows = rest + [one for some in choice for one in some if not corners.cut(one)]
        boxes = corners.boxes()
        if boxes is None:
            continue
        outer, inner, whole = boxes
        lower, upper, least, most = map(_wide, (*outer, *inner))
        empty = Part(lower, upper, least, most, [], whole)
        part = grouped.setdefault((tuple(outer[0]), tuple(outer[1])), empty)
        part.cases.append(_case(rows, inputs, outputs))
    return list(grouped.values())


def _wide(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _case(rows: list[Linear], inputs: Variable, outputs: Variable) -> Case:
    sizes = {inputs.name: inputs.size, outputs.name: outputs.size}
    tables = {name: np.zeros((len(rows), size)) for name, size in sizes.items()}
    for i, row in enumerate(rows):
        for (name, place), slope in row.slopes.items():
            tables[name][i, place] = float(slope)
    constants = _wide([float(row.constant) for row in rows])
    return Case(
        torch.from_numpy(tables[outputs.name]), constants, torch.from_numpy(tables[inputs.name])
    )


class _Corners:
    """Ends of the inputs, and whether what lies on them is allowed."""

    def __init__(
        self, inputs: Variable, lower: list[Fraction | None], upper: list[Fraction | None]
    ):
        self.inputs, self.lower, self.upper = inputs, lower, upper

    @classmethod
    def around(cls, inputs: Variable) -> "_Corners":
        return cls(inputs, [None] * inputs.size, [None] * inputs.size)

    def copy(self) -> "_Corners":
        return _Corners(self.inputs, [*self.lower], [*self.upper])

    def cut(self, row: Linear) -> bool:
        """Put in a comparison that is about one input alone; tell whether it is."""
        if [name for name, _ in row.slopes] != [self.inputs.name]:
            return False
        ((_, place), slope) = next(iter(row.slopes.items()))
        end = -row.constant / slope
        if row.strict and self.inputs.kind != "real":
            # Floats have a next one; between real numbers there is always another.
            end = self.inputs.beyond(end, math.inf if slope < 0 else -math.inf)
        ends, better = (self.upper, min) if slope > 0 else (self.lower, max)
        old = ends[place]
        ends[place] = end if old is None else better(old, end)
        return not row.strict or self.inputs.kind != "real"

    def boxes(self) -> tuple[Ends64, Ends64, bool] | None:
        """Return the box rounded outwards and inwards, and whether it is all; None if empty."""
        outer: Ends64 = ([], [])
        inner: Ends64 = ([], [])
        for low, high in zip(self.lower, self.upper, strict=True):
            first = min(-FAR, FAR if high is None else float(high) - FAR) if low is None else low
            last = max(FAR, float(first) + FAR) if high is None else high
            if first > last:
                return None
            for box, side in ((outer, -1), (inner, 1)):
                box[0].append(_rounded(Fraction(first), side * math.inf))
                box[1].append(_rounded(Fraction(last), -side * math.inf))
        if any(low > high for low, high in zip(*inner, strict=True)):
            inner = outer
        return outer, inner, None not in self.lower and None not in self.upper


def _rounded(end: Fraction, towards: float) -> float:
    """Return the nearest float64 on one side of a number, or the number itself."""
    near = float(end)
    beside = near > end if towards < 0 else near < end
    return math.nextafter(near, towards) if beside else near


def _alternatives(tree: Tree, places: Mapping[str, Variable]) -> list[list[Linear]]:
    """Return lists of comparisons with 0: the assertion holds if all of any list do."""
    if not isinstance(tree, list) or not tree:
        raise ValueError(f"expected a comparison, received {tree}")
    if tree[0] == "or":
        return [some for part in tree[1:] for some in _alternatives(part, places)]
    if tree[0] == "and":
        parts = [_alternatives(part, places) for part in tree[1:]]
        if math.prod(map(len, parts)) > MOST_CASES:
            raise ValueError(f"expected at most {MOST_CASES} cases, received more")
        return [[one for part in choice for one in part] for choice in product(*parts)]
    return compare(tree, places)


def _holds(
    tree: Tree, values: Mapping[Place, Fraction], places: Mapping[str, Variable], kind: str
) -> bool:
    """Tell whether an assertion holds, in exact fractions or in floats of a type."""
    if tree[0] in ("and", "or"):
        parts = (_holds(part, values, places, kind) for part in tree[1:])
        return all(parts) if tree[0] == "and" else any(parts)
    left, right = (linear(side, places).at(values, kind) for side in tree[1:])
    return {
        "<=": left <= right,
        ">=": left >= right,
        "<": left < right,
        ">": left > right,
        "==": left == right,
        "=": left == right,
        "!=": left != right,
    }[str(tree[0])]
