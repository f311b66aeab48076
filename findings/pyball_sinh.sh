#!/bin/sh
# The hyperbolic sine of pyball-arithmetic, whose enclosures are "verified", takes the slope at the upper end
# for the largest, which it is not where the ball is mostly negative: sinh on [-2, 0] is said to be in
# [-2.2, -0.2], and is -3.6 at -2 and 0 at 0. tanh, which it does not have, is made of it. Its cosine, cosh,
# exponential, logarithm, root, sine, tangent and arctangent hold.
set -eu
. "$(dirname "$0")/environment.sh"

python_with pyball-arithmetic==0.1.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
from pyball import Ball

draws = np.random.default_rng(0)
seen = {}
for name in ("sinh", "cosh", "exp", "log", "sqrt", "sin", "cos", "atan"):
    function = getattr(np, {"atan": "arctan"}.get(name, name))
    wrong = 0
    for middle, radius in draws.uniform((-3, 0.1), (3, 1.5), (100, 2)):
        middle = abs(middle) + radius + 0.1 if name in ("log", "sqrt") else middle
        found = getattr(Ball(middle, radius), name)()
        values = function(np.linspace(middle - radius, middle + radius, 101)[1:-1])
        wrong += bool(values.min() < found.lo - 1e-9 or values.max() > found.hi + 1e-9)
    seen[name] = wrong
on = Ball(-1.0, 1.0).sinh()
print(f"pyball-arithmetic {version('pyball-arithmetic')}, balls of 100 whose enclosure a value is outside of: {seen}; ", end="")
print(f"sinh on [-2, 0]: {on.lo:.3f} to {on.hi:.3f}, and sinh(-2) is {np.sinh(-2):.3f}")
assert seen.pop("sinh") > 20 and not any(seen.values())
assert on.lo > -2.2 and on.hi < -0.1
PY
