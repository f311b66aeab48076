#!/bin/sh
# interval-py's absolute value of an interval about 0 begins at the nearer end, not at 0. That of a negative
# interval, and the power -1, have their ends the wrong way round, and a negative width, so that sums with
# them are too narrow.
set -eu
. "$(dirname "$0")/environment.sh"

python_with interval-py==1.0.5 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import intervalpy
from intervalpy import Interval

seen = {
    "|[-1, 2]|": intervalpy.abs(Interval([-1.0, 2.0])),
    "|[-2, -1]|": intervalpy.abs(Interval([-2.0, -1.0])),
    "1 / [1, 2]": Interval([1.0, 2.0]) ** -1,
    "[0, 3] + 1 / [1, 2]": Interval([0.0, 3.0]) + Interval([1.0, 2.0]) ** -1,
    "exp(|[-1, 2]|)": intervalpy.exp(intervalpy.abs(Interval([-1.0, 2.0]))),
    "[-1, 2]²": Interval([-1.0, 2.0]) ** 2,
}
seen = {name: [round(float(end), 3) for end in found.x] for name, found in seen.items()}
print(f"interval-py {version('interval-py')}: {seen}")
assert seen["|[-1, 2]|"] == [1, 2] and seen["|[-2, -1]|"] == [2, 1] and seen["1 / [1, 2]"] == [1, 0.5]
assert seen["[0, 3] + 1 / [1, 2]"] == [1, 3.5] and seen["[-1, 2]²"] == [0, 4]
PY
