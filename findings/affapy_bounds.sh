#!/bin/sh
# AffaPy's affine forms (exp, log, abs, sinh, cosh) and its intervals (sin, cos) leave out values of the
# function, and not by rounding: |x| on [-1, 1] is said to be at most 1/2, log on [1, 2] to be negative,
# the cosine on [-1, 1] to be 0.54 everywhere. Its documentation prints some of these as examples. A ReLU
# made of the absolute value, (x + |x|) / 2, is at most 3/4 on [-1, 1].
set -eu
. "$(dirname "$0")/environment.sh"

python_with affapy==0.1 mpmath==1.3.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
from affapy.aa import Affine
from affapy.ia import Interval


def outside(kind, name, low, high):
    """Whether a value of the function between the ends is not in what the library says, and what that is."""
    form = Affine([low, high]) if kind == "affine form" else Interval(low, high)
    found = abs(form) if name == "abs" else form**2 if name == "square" else getattr(form, name)()
    found = found.interval if kind == "affine form" else found
    values = getattr(np, name)(np.linspace(low, high, 101))
    ends = float(found.inf), float(found.sup)
    return bool(values.min() < ends[0] - 1e-6 or values.max() > ends[1] + 1e-6), ends


draws = np.random.default_rng(0)
boxes = [tuple(np.sort(draws.uniform(-4, 4, 2)).tolist()) for _ in range(30)]
positive = [(abs(low) + 0.01, abs(low) + abs(high) + 0.02) for low, high in boxes]
names = "exp", "log", "sqrt", "abs", "square", "sin", "cos", "tanh", "sinh", "cosh"
seen = {}
for kind in ("affine form", "interval"):
    seen[kind] = {}
    for name in names:
        if (kind, name) == ("affine form", "tanh"):
            continue  # it raises
        some = positive if name in ("log", "sqrt") else boxes
        seen[kind][name] = sum(outside(kind, name, *box)[0] for box in some)
print(f"affapy {version('affapy')}, bounds of 30 that a value of the function is outside of: {seen}")
relu = ((Affine([-1, 1]) + abs(Affine([-1, 1]))) / 2).interval
examples = {
    "|x| on [-1, 1]": outside("affine form", "abs", -1, 1),
    "log on [1, 2]": outside("affine form", "log", 1, 2),
    "cos on [-1, 1]": outside("interval", "cos", -1, 1),
}
print({name: tuple(round(end, 2) for end in ends) for name, (_, ends) in examples.items()}, "ReLU up to", relu.sup)
assert all(wrong for wrong, _ in examples.values())
assert seen["affine form"]["log"] == 30 and min(seen["affine form"][name] for name in ("exp", "abs")) >= 10
assert min(seen["interval"][name] for name in ("sin", "cos")) >= 8
assert seen["affine form"]["sqrt"] == seen["affine form"]["square"] == seen["interval"]["exp"] == 0
PY
