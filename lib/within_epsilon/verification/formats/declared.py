"""The outer form of VNN-LIB files: brackets, declarations, assertions."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

_TOKEN = re.compile(r"\(|\)|\"[^\"]*\"|\[[^\]]*\]|[^\s()\[\]\"]+")
_OLD = re.compile(r"^([XY])_(\d+)$")

Tree = str | list["Tree"]

_FLOATS: dict[str, type[np.float32] | type[np.float64]] = {
    "float32": np.float32,
    "float64": np.float64,
}


@dataclass(frozen=True)
class Variable:
    """What a network takes or returns.

    Parameters
    ----------
    name : str
        In the file.
    kind : {"real", "float32", "float64"}
        The type of its numbers.
    shape : tuple of int
        Theirs; () for a single number.
    old : bool
        Whether the file is of version 1.0, where each number has a name of its own.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    old: bool = False

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def place(self, indices: str) -> int:
        """Return where a number stands when all are laid in one line.

        Raises
        ------
        ValueError
            If there is no such number.
        """
        found = [int(k) for k in indices.split(",")] if indices.strip() else []
        if len(found) != len(self.shape) or any(
            not 0 <= k < size for k, size in zip(found, self.shape, strict=False)
        ):
            raise ValueError(
                f"expected indices of {self.name} of shape {list(self.shape)}, received [{indices}]"
            )
        return int(np.ravel_multi_index(found, self.shape)) if found else 0

    def constant(self, value: Fraction) -> Fraction:
        """Return a constant as this variable's type has it."""
        return value if self.kind == "real" else Fraction(float(_FLOATS[self.kind](float(value))))

    def beyond(self, end: Fraction, towards: float) -> Fraction:
        """Return the first float on that side of a number."""
        kind = _FLOATS[self.kind]
        near = kind(float(end))
        passed = Fraction(float(near)) > end if towards > 0 else Fraction(float(near)) < end
        return Fraction(float(near if passed else np.nextafter(near, kind(towards))))


class Declared(NamedTuple):
    """What a file declares, and what it asserts."""

    network: str
    inputs: Variable
    outputs: Variable
    assertions: list[Tree]


def parse(text: str) -> Declared:
    """Read a file's declarations and assertions.

    Raises
    ------
    ValueError
        If it has others than one network with one input and one output.
    """
    trees = _trees(re.sub(r";[^\n]*", "", text))
    kinds = [tree[0] for tree in trees if isinstance(tree, list) and tree]
    if len(kinds) != len(trees):
        raise ValueError("expected lists in brackets, received text outside of them")
    assertions: list[Tree] = []
    for tree in trees:
        if tree[0] == "assert":
            if len(tree) != 2:
                raise ValueError(f"expected one condition to assert, received {len(tree) - 1}")
            assertions.append(tree[1])
    networks = [tree for tree in trees if tree[0] == "declare-network"]
    old = [tree for tree in trees if tree[0] == "declare-const"]
    others = set(map(str, kinds)) - {
        "assert", "declare-network", "declare-const", "vnnlib-version"}  # fmt: skip
    if others:
        raise ValueError(f"expected declarations and assertions, received {sorted(others)}")
    if old and not networks:
        return Declared("N", _numbered(old, "X"), _numbered(old, "Y"), assertions)
    if len(networks) != 1 or old:
        raise ValueError(f"expected one network, received {len(networks)}")
    return Declared(*_network(networks[0]), assertions)


def _network(tree: Tree) -> tuple[str, Variable, Variable]:
    found = []
    for kind in ("declare-input", "declare-output"):
        parts = [part for part in tree[2:] if part[0] == kind]
        if len(parts) != 1 or len(parts[0]) != 4:
            word = kind.removeprefix("declare-")
            raise ValueError(f"expected a network with one {word}, received {len(parts)}")
        found.append(_variable(*map(str, parts[0][1:])))
    if len(tree) != 4:
        raise ValueError(
            "expected a network with one input and one output, received hidden nodes or relations "
            "to other networks"
        )
    if found[0].kind != found[1].kind:
        raise ValueError(
            f"expected inputs and outputs of one type, received {found[0].kind} and {found[1].kind}"
        )
    return str(tree[1]), found[0], found[1]


def _variable(name: str, kind: str, shape: str) -> Variable:
    kind = "real" if kind == "Real" else kind
    if kind not in ("real", *_FLOATS):
        raise ValueError(f"{name}: expected real, float32 or float64, received {kind}")
    sizes = shape.strip("[]").split(",") if shape.strip("[] ") else []
    if not shape.startswith("[") or not all(size.strip().isdigit() for size in sizes):
        raise ValueError(f"{name}: expected a shape, received {shape}")
    return Variable(name, kind, tuple(map(int, sizes)))


def _numbered(trees: list[Tree], letter: str) -> Variable:
    """Return the variable whose numbers are declared one by one, as in version 1.0."""
    found = [_OLD.match(str(tree[1])) for tree in trees]
    places = sorted(int(one[2]) for one in found if one is not None and one[1] == letter)
    if not places or places != list(range(len(places))) or None in found:
        word = "input" if letter == "X" else "output"
        raise ValueError(
            f"expected one {word}, {letter}_0, {letter}_1 and so on, received {len(places)} of them"
        )
    return Variable(letter, "real", (len(places),), old=True)


def _trees(text: str) -> list[Tree]:
    stack: list[list[Tree]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise ValueError("expected balanced brackets, received one ) too many")
            stack[-2].append(stack.pop())
        elif token.startswith("[") and stack[-1] and isinstance(stack[-1][-1], str):
            # Indices belong to their variable; a shape stands alone, behind a type.
            declared = stack[-1][0] in ("declare-input", "declare-output", "declare-hidden")
            squeezed = "".join(token.split())
            if declared:
                stack[-1].append(squeezed)
            else:
                stack[-1][-1] += squeezed
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise ValueError("expected balanced brackets, received one ( too many")
    return stack[0]
