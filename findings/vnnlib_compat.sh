#!/bin/sh
# vnnlib, the parser of the VNN-LIB standard, has a converter for verifiers that want boxes and
# matrices. Assertions hold together; of two that are conjunctions or disjunctions (a box, then a choice
# of outputs, as in every question of robustness) it makes alternatives: all inputs with the choice, or
# the box with any output at all, `sat` whatever the network. And of `==` it keeps `<=` alone.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
from importlib.metadata import version

from vnnlib import parse_query_string
from vnnlib.compat import transform

HEAD = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1]) (declare-output Y real [2]))
"""
BOX = "(assert (and (>= X[0] 0.25) (<= X[0] 0.75)))"
APART = "(assert (>= X[0] 0.25)) (assert (<= X[0] 0.75))"
CHOICE = "(assert (or (>= Y[0] 1.0) (>= Y[1] 1.0)))"
LOW = "(assert (<= Y[0] 1.0))"


def meets(case, x, y):
    """Whether a case has the input x with the outputs y."""
    inside = all(low <= x <= high for low, high in case.input_box)
    tests = []
    for one in case.output_constraints:
        rows = [sum(a * b for a, b in zip(row, y)) for row in one.coeff_matrix]
        tests.append(all(value <= end for value, end in zip(rows, one.rhs)))
    return inside and (any(tests) or not tests)


def says(query, x, y):
    return any(meets(case, x, y) for case in transform(parse_query_string(HEAD + query)))


# A query, an input and outputs that are no solution of it.
rows = {
    "bounds apart, outputs fail": (APART + CHOICE, 0.5, (0, 0)),
    "bounds apart, input outside": (APART + CHOICE, 9.0, (2, 0)),
    "box in one, outputs fail": (BOX + CHOICE, 0.5, (0, 0)),
    "box in one, input outside": (BOX + CHOICE, 9.0, (2, 0)),
    "two choices, one fails": (APART + CHOICE + CHOICE.replace("1.0", "5.0"), 0.5, (2, 0)),
    "Y[0] == 1, Y[0] is 0": (APART + "(assert (== Y[0] 1.0))", 0.5, (0, 0)),
    "X[0] == 0.5, X[0] is 0.3": (APART + "(assert (== X[0] 0.5))" + LOW, 0.3, (0, 0)),
}
seen = {name: says(*row) for name, row in rows.items()}
print(f"vnnlib {version('vnnlib')}, is it a solution, where none is: {seen}")
assert list(seen.values()) == [False] * 2 + [True] * 5
assert says(APART + CHOICE, 0.5, (2, 0)) and says(BOX + CHOICE, 0.5, (2, 0))
PY
python_with vnnlib==1.0.2 < "$program"
