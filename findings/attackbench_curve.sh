#!/bin/sh
# attackbenchlib's area under the robust accuracy, where a strong attack leaves less, begins at the least
# distance that the attack found, not at 0. An attack that finds everybody at 0.7 leaves nothing, and one
# that needs 0.9 to 1 less than one that needs 0.1 to 0.5. Its optimality is computed apart, from 0 on.
set -eu
. "$(dirname "$0")/environment.sh"

python_with attackbenchlib==2.0.2 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
from attackbench import get_stats

draws = np.random.default_rng(0)
attacks = {"0.1 to 0.5": draws.uniform(0.1, 0.5, 100), "0.9 to 1": draws.uniform(0.9, 1, 100), "0.7": np.full(100, 0.7)}
areas, from_0 = {}, {}
for name, distances in attacks.items():
    results = {"distances": {"l2": distances.tolist()}, "adv_success": [True] * 100}
    results |= {"ori_success": [False] * 100, "correct": [True] * 100}
    areas[name] = round(get_stats(results, "l2", include_optimality=False)["robust_accuracy_auc"], 3)
    from_0[name] = round(float(distances.mean()), 3)
print(f"attackbenchlib {version('attackbenchlib')}, area under the robust accuracy by the distances found: {areas}; ", end="")
print(f"from 0 on, which is the mean distance: {from_0}")
assert areas["0.7"] == 0 and areas["0.9 to 1"] < 0.1 < areas["0.1 to 0.5"] < from_0["0.1 to 0.5"] < 0.4
PY
