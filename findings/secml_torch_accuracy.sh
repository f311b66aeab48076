#!/bin/sh
# A metric of SecML-Torch remembers: asked about clean images and then about adversarial ones, the second
# number is the accuracy over both together. A model that keeps no right answer is said to keep half.
set -eu
. "$(dirname "$0")/environment.sh"

python_with secml-torch==1.5 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from secmlt.metrics.classification import Accuracy, AttackSuccessRate
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
images = torch.rand(64, 1, 8, 8)
labels = network(images).argmax(dim=1)
leaf = images.clone().requires_grad_()
torch.nn.functional.cross_entropy(network(leaf), labels).backward()
sets = {"clean": images, "adversarial": (images + 0.3 * leaf.grad.sign()).clamp(0, 1)}
model = BasePyTorchClassifier(network)
true = {name: float((network(x).argmax(dim=1) == labels).float().mean()) for name, x in sets.items()}
loaders = {name: DataLoader(TensorDataset(x, labels), batch_size=16) for name, x in sets.items()}
accuracy, rate = Accuracy(), AttackSuccessRate()
said = {name: float(accuracy(model, loader)) for name, loader in loaders.items()}
again = float(accuracy(model, loaders["adversarial"]))
rates = {name: float(rate(model, loader)) for name, loader in loaders.items()}
print(f"secml-torch {version('secml-torch')}: accuracies {true}; by one Accuracy {said}, and asked again {again:.2f}; ", end="")
print(f"success rates by one AttackSuccessRate {rates}")
assert true == {"clean": 1, "adversarial": 0}
assert said == {"clean": 1, "adversarial": 0.5} and abs(again - 1 / 3) < 1e-6
assert rates == {"clean": 0, "adversarial": 0.5}
PY
