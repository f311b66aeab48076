#!/bin/sh
# Asked for one side, "larger", statsmodels' proportion_confint gives the upper end, (0, upper). SciPy's
# binomtest gives the lower one for "greater", and statsmodels' own test with "larger" is the one that
# belongs to the lower end. A smoothed classifier that certifies by it abstains always.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
from scipy.stats import binomtest
from statsmodels import __version__ as version
from statsmodels.stats.proportion import binom_test, proportion_confint

votes, of, alpha = 990, 1000, 0.001
theirs = binomtest(votes, of, alternative="greater").proportion_ci(1 - alpha)
ends = {side: proportion_confint(votes, of, alpha, "beta", side) for side in ("larger", "smaller")}
p_value = binom_test(votes, of, 0.5, "larger")
print(f"{votes} of {of} votes: SciPy's greater ({theirs.low:.4f}, {theirs.high:.4f}); statsmodels {version}: ", end="")
print(", ".join(f"{side} ({low:.4f}, {high:.4f})" for side, (low, high) in ends.items()), end="")
print(f"; but the p-value of its test with larger is {p_value:.0e}")
assert theirs.high == 1 and abs(ends["smaller"][0] - theirs.low) < 1e-9 and ends["smaller"][1] == 1
assert ends["larger"][0] == 0 and ends["larger"][1] > votes / of
assert p_value < 1e-100
PY
python_with statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6 < "$program"
