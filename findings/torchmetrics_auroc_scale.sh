#!/bin/sh
# torchmetrics' AUROC and average precision, which are of ranks, are not the same on another scale: scores
# outside [0, 1] are taken for logits, and their sigmoid is 1 in float32 from 17 on. A detector that says a
# distance is judged by the unit of the distance: with an AUROC of 0.95 by scikit-learn it has 0.95, 0.7 or
# 0.5. No warning is given.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchmetrics==1.9.0 torch==2.15.0 scikit-learn==1.9.1 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

pictures, labels = map(torch.as_tensor, load_digits(return_X_y=True))
known, strange = pictures[labels < 8][:1000].float(), pictures[labels >= 8].float()
asked = torch.cat([pictures[labels < 8][1000:].float(), strange])  # the classes 8 and 9 are to be found
found = torch.cat([torch.zeros(len(asked) - len(strange)), torch.ones(len(strange))]).long()
distances = torch.cdist(asked, known).min(dim=1).values  # to the nearest known picture, of 8 x 8 levels up to 16

seen = {}
for name, scores in (("levels", distances), ("levels / 16", distances / 16), ("levels x 10", 10 * distances)):
    seen[name] = {
        "from, to": (round(float(scores.min()), 1), round(float(scores.max()), 1)),
        "AUROC": (round(float(binary_auroc(scores, found)), 3), round(roc_auc_score(found, scores), 3)),
        "AP": (
            round(float(binary_average_precision(scores, found)), 3),
            round(float(average_precision_score(found, scores)), 3),
        ),
    }
print(f"torchmetrics {version('torchmetrics')}, scikit-learn {version('scikit-learn')}, distances in {seen}")
assert seen["levels / 16"]["AUROC"][0] == seen["levels / 16"]["AUROC"][1] > 0.9
assert seen["levels"]["AUROC"][0] < 0.8 and seen["levels x 10"]["AUROC"][0] == 0.5
assert {one["AUROC"][1] for one in seen.values()} == {seen["levels"]["AUROC"][1]}
PY
