#!/bin/sh
# captum's FGSM and PGD leave every pixel whose gradient is below 1e-6 where it is, whatever the
# other pixels' gradients are. On a confident model that is all of them: the attack is undone by
# multiplying the logits, which changes no answer. `fgsm.zero_thresh = 0` mends it.
set -eu
. "$(dirname "$0")/environment.sh"

python_with captum==0.9.0 torch==2.13.0 numpy==2.4.6 <<'PY'
import captum
import torch
from captum.robust import PGD

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
).double()
images = torch.rand(60, 1, 8, 8, dtype=torch.float64)
labels = network(images).argmax(dim=1)
loss = torch.nn.CrossEntropyLoss(reduction="none")
fooled = {}
for scale in (1, 3000):
    for threshold in (1e-6, 0):
        attack = PGD(lambda pixels, by=scale: by * network(pixels), loss, 0, 1)
        assert attack.fgsm.zero_thresh == 1e-6
        attack.fgsm.zero_thresh = threshold
        found = attack.perturb(images, 0.1, 0.01, 20, labels)
        fooled[scale, threshold] = int((network(found).argmax(dim=1) != labels).sum())
print(f"captum {captum.__version__}: PGD fools of 60, by factor on the logits and threshold: {fooled}")
assert min(fooled[1, 1e-6], fooled[1, 0], fooled[3000, 0]) > 50
assert fooled[3000, 1e-6] < 20
PY
