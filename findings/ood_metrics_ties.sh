#!/bin/sh
# ood-metrics draws straight lines between the thresholds that there are. A detector that says the same of
# every input has an area under precision and recall of 0.75, where half of the inputs are to be found, and
# one that finds 94 of 100 and says the same of all others a false positive rate of 0.17 at 95% found: to find
# one more it has to suspect everybody, and the rate is 1. Scores that saturate are tied. (Python 3.11.)
set -eu
. "$(dirname "$0")/environment.sh"

python_with ood-metrics==1.1.2 scikit-learn==1.7.2 numpy==1.26.4 <<'PY'
from importlib.metadata import version

import numpy as np
from ood_metrics import aupr, auroc, fpr_at_95_tpr
from sklearn.metrics import average_precision_score

wanted = np.repeat([0, 1], 100)
scores = {
    "the same of all": np.zeros(200),
    "94 of 100 found": np.concatenate([np.zeros(100), np.ones(94), np.zeros(6)]),
    "at random": np.random.default_rng(0).random(200),
}


def least_rate(found):
    """The least false positive rate of a threshold that finds 95% of those that are wanted."""
    rates = [(np.mean(found[:100] >= at), np.mean(found[100:] >= at)) for at in np.unique(found)]
    return min(false for false, true in rates if true >= 0.95)


seen = {}
for name, found in scores.items():
    rate, area = fpr_at_95_tpr(found, wanted), aupr(found, wanted)
    numbers = auroc(found, wanted), area, average_precision_score(wanted, found), rate, least_rate(found)
    seen[name] = tuple(round(float(one), 2) for one in numbers)
print(f"ood-metrics {version('ood-metrics')}: its AUROC, its AUPR and scikit-learn's average precision, ", end="")
print(f"its rate at 95% found and the least of a threshold: {seen}")
assert seen["the same of all"] == (0.5, 0.75, 0.5, 0.95, 1.0)
assert seen["94 of 100 found"][3:] == (0.17, 1.0)
assert abs(seen["at random"][1] - seen["at random"][2]) < 0.02 and abs(seen["at random"][3] - seen["at random"][4]) < 0.02
PY
