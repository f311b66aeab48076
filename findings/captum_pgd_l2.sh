#!/bin/sh
# captum's PGD in l2 projects in l2, but steps along the sign of the gradient as in l-infinity. On a
# linear model it ends in the corner's direction: where the gradient is Gaussian it needs 1.27 times
# the least distance, with any number of steps, and more where few pixels matter.
set -eu
. "$(dirname "$0")/environment.sh"

python_with captum==0.9.0 torch==2.13.0 numpy==2.4.6 <<'PY'
import captum
import torch
from captum.robust import PGD

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).double()
with torch.no_grad():
    model[1].weight.normal_()
    slope = model[1].weight[0] - model[1].weight[1]
    model[1].bias.copy_(torch.stack([-slope.sum() / 2, slope.new_zeros(())]))
images = 0.5 + 0.02 * torch.randn(60, 1, 8, 8, dtype=torch.float64)
with torch.no_grad():
    logits = model(images)
labels = logits.argmax(dim=1)
least = (logits[:, 0] - logits[:, 1]).abs() / slope.norm()  # far from black and white
corner = float(slope.norm() * 8 / slope.abs().sum())
loss = torch.nn.CrossEntropyLoss(reduction="none")
fooled = {}
for factor in (1.05, 1.25, 1.3):
    fooled[factor] = 0
    for image, label, distance in zip(images, labels, least):
        radius = factor * float(distance)
        attack = PGD(model, loss, 0, 1)
        found = attack.perturb(image[None], radius, radius / 10, 100, label[None], norm="L2")
        fooled[factor] += int(model(found).argmax(dim=1) != label)
print(f"captum {captum.__version__}: PGD in l2 fools of 60, by radius over the least distance: {fooled}; ", end="")
print(f"the sign's direction needs {corner:.2f}")
assert 1.25 < corner < 1.3
assert fooled == {1.05: 0, 1.25: 0, 1.3: 60}
PY
