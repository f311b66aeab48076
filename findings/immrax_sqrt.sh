#!/bin/sh
# Of an interval that begins below 0, immrax's square root and logarithm end at minus infinity, so what is
# to be a "guaranteed" enclosure has no value of the function in it. Such intervals come of x * x, taken for
# a product of two, of which neither knows the other: the norm of a vector is enclosed by nothing.
set -eu
. "$(dirname "$0")/environment.sh"

python_with immrax==0.3.8 jax==0.10.2 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import immrax
import jax.numpy as jnp
import numpy as np

draws = np.random.default_rng(0)


def norm(x):
    return jnp.sqrt(jnp.sum(x * x))


def square_norm(x):
    return jnp.sum(x * x)


seen, missed = {}, {}
for name, function in (("sum of x * x", square_norm), ("its square root", norm)):
    missed[name] = 0
    for _ in range(20):
        centre = draws.normal(size=2)
        low, high = jnp.asarray(centre - 1), jnp.asarray(centre + 1)
        ends = immrax.natif(function)(immrax.interval(low, high))
        value = float(function(jnp.asarray(centre)))
        missed[name] += not float(ends.lower) - 1e-5 <= value <= float(ends.upper) + 1e-5
for name, function in (("sqrt", jnp.sqrt), ("log", jnp.log)):
    ends = immrax.natif(function)(immrax.interval(jnp.array(-1.0), jnp.array(4.0)))
    seen[name] = float(ends.lower), float(ends.upper)
print(f"immrax {version('immrax')}: of 20 boxes, enclosures without the value at the centre: {missed}; on [-1, 4]: {seen}")
assert missed["sum of x * x"] == 0 and missed["its square root"] >= 5
assert seen == {"sqrt": (-np.inf, -np.inf), "log": (-np.inf, -np.inf)}
PY
