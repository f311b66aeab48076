#!/bin/sh
# The default loss of captum's FGSM and PGD is minus the logarithm of the model's output. Where an
# output is negative that is NaN, but its gradient is not, and has the wrong sign: on a model that
# ends in log_softmax the attack raises the class that it should lower, and the other way round.
set -eu
. "$(dirname "$0")/environment.sh"

python_with captum==0.9.0 torch==2.13.0 numpy==2.4.6 <<'PY'
import captum
import torch
from captum.robust import PGD

torch.manual_seed(0)
images, labels = torch.rand(200, 1, 8, 8), torch.arange(200) % 10
layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
network = torch.nn.Sequential(*layers)
optimizer = torch.optim.Adam(network.parameters(), 1e-3)
while (network(images).argmax(dim=1) == labels).float().mean() < 0.7:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
right = {}
for name, last in (("softmax", torch.nn.Softmax(1)), ("log_softmax", torch.nn.LogSoftmax(1))):
    attack = PGD(torch.nn.Sequential(network, last), lower_bound=0, upper_bound=1)
    found = images, *(attack.perturb(images, 0.02, 0.005, 10, labels, targeted=t) for t in (False, True))
    right[name] = [int((network(x).argmax(dim=1) == labels).sum()) for x in found]
print(f"captum {captum.__version__}: right of 200, before, after PGD against the label, and after PGD ", end="")
print(f"towards it: {right}")
before, against, towards = right["softmax"]
assert against < before - 20
assert towards > before + 20
assert right["log_softmax"] == [before, towards, against]
PY
