#!/bin/sh
# captum's AttackComparator gives every batch the same weight, whatever its size, also where the metric
# says of each example whether it is right: the accuracy of 90 right and 10 wrong is 0.9 in one batch, and
# 0.5 in batches of 90 and 10. With the usual last batch that is smaller than the others, it is off.
set -eu
. "$(dirname "$0")/environment.sh"

python_with captum==0.9.0 torch==2.13.0 numpy==2.4.6 <<'PY'
import captum
import torch
from captum.robust import AttackComparator

torch.manual_seed(0)
network = torch.nn.Linear(4, 3)
inputs = torch.randn(100, 4)
labels = network(inputs).argmax(dim=1)
labels[90:] = (labels[90:] + 1) % 3


def is_right(logits, labels):
    return (logits.argmax(dim=1) == labels).float()


means = {}
for size in (100, 90, 64, 10):
    comparator = AttackComparator(network, is_right)
    comparator.add_attack(lambda pictures: pictures, "none")
    for some, theirs in zip(inputs.split(size), labels.split(size)):
        comparator.evaluate(some, labels=theirs)
    means[size] = round(float(comparator.summary()["none"]["mean"]), 3)
print(f"captum {captum.__version__}: 90 of 100 are right; accuracy by the size of the batches: {means}")
assert means == {100: 0.9, 90: 0.5, 64: 0.861, 10: 0.9}
PY
