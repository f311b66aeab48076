"""Read questions in the VNN-LIB format, 1.0 and 2.0, of one network with real inputs."""

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_VARIABLE = re.compile(r"^([XY])(?:_(\d+)|\[([\d, ]+)\])$")

Tree = str | list["Tree"]


@dataclass(frozen=True, eq=False)
class Query:
    """A question: is there an input in a box whose outputs satisfy inequalities.

    Parameters
    ----------
    lower, upper : Tensor of shape (D,), float64
        The box.
    cases : list of (Tensor of shape (S, K), Tensor of shape (S,)), float64
        Any of these will do: all of rows @ outputs + constants <= 0.
    """

    lower: Tensor
    upper: Tensor
    cases: list[tuple[Tensor, Tensor]]


def read_vnnlib(path: str | Path, outputs: int | None = None) -> list[Query]:
    """Read a file's question as boxes with conditions: the answer is "sat" if one of them has one.

    Parameters
    ----------
    path : str or Path
        A file in VNN-LIB 1.0 (``X_0``) or 2.0 (``X[0]``), with one network, whose assertions
        compare an input with a number, or outputs with numbers or with each other, under "and"
        and "or".
    outputs : int, optional
        K; by default as many as are declared.

    Returns
    -------
    list of Query
        One for each case that bounds inputs in another way.

    Raises
    ------
    ValueError
        If the file asks for more than that, or an input has no bound.
    """
    text = re.sub(r";[^\n]*", "", Path(path).read_text(encoding="utf-8"))
    trees = _trees(text)
    sizes = _declared(text)
    sizes["Y"] = outputs or sizes["Y"]
    alternatives: list[list[list[Tree]]] = [
        _alternatives(tree[1]) for tree in trees if isinstance(tree, list) and tree[0] == "assert"
    ]
    grouped: dict[tuple[tuple[float, ...], tuple[float, ...]], Query] = {}
    for choice in product(*alternatives):
        lower = torch.full((sizes["X"],), -torch.inf, dtype=torch.float64)
        upper = torch.full((sizes["X"],), torch.inf, dtype=torch.float64)
        rows, constants = [], []
        for comparison in (one for part in choice for one in part):
            row, constant, letter = _halfspace(comparison, sizes)
            if letter == "Y":
                rows.append(row)
                constants.append(constant)
                continue
            (place,) = row.nonzero()[:, 0].tolist()
            end = -constant / row[place].item()
            if row[place] > 0:
                upper[place] = min(upper[place].item(), end)
            else:
                lower[place] = max(lower[place].item(), end)
        if not (lower.isfinite() & upper.isfinite()).all():
            raise ValueError(f"{path}: expected bounds for every input, received some without")
        if not rows:
            raise ValueError(f"{path}: expected a condition on outputs in every case")
        key = tuple(lower.tolist()), tuple(upper.tolist())
        query = grouped.setdefault(key, Query(lower, upper, []))
        query.cases.append((torch.stack(rows), torch.tensor(constants, dtype=torch.float64)))
    return list(grouped.values())


def _declared(text: str) -> dict[str, int]:
    found = {}
    for letter, kind in (("X", "input"), ("Y", "output")):
        old = re.findall(rf"declare-const\s+{letter}_(\d+)\s+Real", text)
        new = re.findall(rf"declare-{kind}\s+{letter}\s+\w+\s+\[([\d, ]*)\]", text)
        if len(new) > 1 or bool(old) == bool(new):
            raise ValueError(f"expected one {kind}, {letter}, received {len(old) or len(new)}")
        sizes = [int(size) for size in new[0].split(",")] if new else [1 + max(map(int, old))]
        if sum(size > 1 for size in sizes) > 1:
            raise ValueError(f"{letter}: expected numbers in one line, received shape {sizes}")
        found[letter] = max(sizes)
    return found


def _trees(text: str) -> list[Tree]:
    stack: list[list[Tree]] = [[]]
    for token in _TOKEN.findall(re.sub(r"\[([\d, ]+)\]", lambda m: m[0].replace(" ", ""), text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) < 2:
                raise ValueError("expected balanced brackets, received one ) too many")
            stack[-2].append(stack.pop())
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise ValueError("expected balanced brackets, received one ( too many")
    return stack[0]


def _alternatives(tree: Tree) -> list[list[Tree]]:
    """Return lists of comparisons: the assertion holds if all of any list do."""
    if not isinstance(tree, list):
        raise ValueError(f"expected a comparison, received {tree}")
    if tree[0] == "or":
        return [some for part in tree[1:] for some in _alternatives(part)]
    if tree[0] == "and":
        chosen = product(*(_alternatives(part) for part in tree[1:]))
        return [[one for part in choice for one in part] for choice in chosen]
    return [[tree]]


def _halfspace(tree: Tree, sizes: dict[str, int]) -> tuple[Tensor, float, str]:
    """Return a comparison as row @ variables + constant <= 0, and which variables these are."""
    if not isinstance(tree, list) or len(tree) != 3 or tree[0] not in ("<=", ">="):
        raise ValueError(f"expected <= or >= of two terms, received {tree}")
    left, right = tree[1:] if tree[0] == "<=" else tree[:0:-1]
    letters, row, constant = set(), None, 0.0
    for sign, term in ((1.0, left), (-1.0, right)):
        found = _VARIABLE.match(term) if isinstance(term, str) else None
        if found is None:
            if not isinstance(term, str):
                raise ValueError(f"expected a variable or a number, received {term}")
            constant += sign * float(Decimal(term))
            continue
        letters.add(found[1])
        row = torch.zeros(sizes[found[1]], dtype=torch.float64) if row is None else row
        places = [int(k) for k in (found[2] or found[3]).split(",")]
        row[max(places)] += sign
    if row is None or len(letters) != 1:
        raise ValueError(f"expected inputs or outputs in a comparison, received {tree}")
    return row, constant, letters.pop()
