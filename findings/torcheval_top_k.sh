#!/bin/sh
# torcheval's top-k accuracy, for k from 2 on, counts how many logits are above the label's: of logits
# that are NaN none is, so a network that answers NaN is right on all images, whatever their labels, and so
# is one whose logits are all equal. Its top-1 accuracy says class 0, torchmetrics' top-5 five of ten classes.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torcheval==0.0.7 torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from torcheval.metrics import MulticlassAccuracy
from torchmetrics.functional import accuracy

torch.manual_seed(0)
labels = torch.arange(1000) % 10
logits = {
    "random": torch.randn(1000, 10),
    "NaN": torch.full((1000, 10), torch.nan),
    "all equal": torch.zeros(1000, 10),
}
seen = {}
for name, one in logits.items():
    for k in (1, 5):
        metric = MulticlassAccuracy(k=k)
        metric.update(one, labels)
        other = accuracy(one, labels, "multiclass", num_classes=10, top_k=k, average="micro")
        seen[f"{name}, top {k}"] = round(float(metric.compute()), 2), round(float(other), 2)
print(f"torcheval {version('torcheval')}, torchmetrics {version('torchmetrics')}, accuracies of logits that are {seen}")
assert seen["NaN, top 5"][0] == seen["all equal, top 5"][0] == 1
assert max(seen["NaN, top 1"]) <= 0.1 and max(seen["all equal, top 1"]) <= 0.1
assert max(seen["NaN, top 5"][1], seen["all equal, top 5"][1]) <= 0.5
PY
