#!/bin/sh
# SecML-Torch's MinDistanceEnsemble is to keep the nearest of several attacks' adversarial pictures. It
# begins with the clean ones, at distance 0, which nothing undercuts: whatever the attacks found, it
# returns the clean pictures, and the model is right on all of them.
set -eu
. "$(dirname "$0")/environment.sh"

python_with secml-torch==1.5 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from secmlt.adv.backends import Backends
from secmlt.adv.evasion.aggregators.ensemble import MinDistanceEnsemble
from secmlt.adv.evasion.ddn import DDN
from secmlt.adv.evasion.fmn import FMN
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
images = 0.3 + 0.4 * torch.rand(64, 1, 8, 8)
labels = network(images).argmax(dim=1)
model = BasePyTorchClassifier(network)
loader = DataLoader(TensorDataset(images, labels), batch_size=16)
attacks = {
    "DDN": DDN(num_steps=100, eps_init=0.2, backend=Backends.NATIVE),
    "FMN": FMN(perturbation_model="l2", num_steps=100, step_size=0.5, backend=Backends.NATIVE),
}
loaders = {name: attack(model, loader) for name, attack in attacks.items()}
loaders["the nearest of both"] = MinDistanceEnsemble("l2")(model, loader, list(loaders.values()))
right, far = {}, {}
for name, one in loaders.items():
    pictures = torch.cat([batch for batch, _ in one])
    right[name] = int((network(pictures).argmax(dim=1) == labels).sum())
    far[name] = round(float((pictures - images).flatten(1).norm(dim=1).median()), 3)
print(f"secml-torch {version('secml-torch')}: right of 64: {right}; median distance: {far}")
assert right == {"DDN": 0, "FMN": 0, "the nearest of both": 64}
assert far["DDN"] > 0 and far["FMN"] > 0 and far["the nearest of both"] == 0
PY
