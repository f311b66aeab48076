#!/bin/sh
# Balls of python-flint are rigorous and, about 0, of little use: x ** 2 is nan for a ball whose
# midpoint is 0 (any other midpoint will do, and so will x * x), and tanh, whose values lie between
# -1 and 1, is bounded by -6e8 on [-10, 10]. A box of perturbations is just such a ball.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import flint
from flint import arb

about_0, about_a_billionth = arb(0, 1), arb(1e-9, 1)
squares = {"0 ± 1": about_0**2, "1e-9 ± 1": about_a_billionth**2, "x * x": about_0 * about_0}
tanh = [float(arb(0, radius).tanh().lower()) for radius in (1, 10)]
print(f"python-flint {flint.__version__}: squares of {squares}; ", end="")
print(f"tanh is at least {tanh[0]:.1f} on 0 ± 1, {tanh[1]:.0e} on 0 ± 10")
assert squares["0 ± 1"].is_nan() and squares["1e-9 ± 1"].is_finite() and squares["x * x"].is_finite()
assert tanh[0] < -5 and tanh[1] < -1e8
PY
python_with python-flint==0.9.0 < "$program"
