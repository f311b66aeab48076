#!/bin/sh
# torchao's layers of 8-bit weights and activations that are quantised on the fly have no gradient. A
# network that is all made of them says so; one with skip connections does not: its gradient is that of the
# skip connections alone. PGD on it is weak, as is no attack on the weight-only kind, nor one made on the
# network before it was quantised, whose answers are the same.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchao==0.18.0 torch==2.15.0 numpy==2.4.6 scikit-learn==1.9.1 <<'PY'
import copy
import logging

import torch
from sklearn.datasets import load_digits
from torch.nn import Linear, ModuleList, ReLU, Sequential
from torch.nn.functional import cross_entropy

logging.disable(logging.WARNING)
import torchao
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = Linear(64, 64), Linear(64, 10)
        self.blocks = ModuleList(Sequential(Linear(64, 64), ReLU(), Linear(64, 64)) for _ in range(3))

    def forward(self, images):
        features = self.stem(images)
        for block in self.blocks:
            features = features + block(features)
        return self.head(features)


def pgd(model, images, labels):
    start, images_adv = images, images
    for _ in range(20):
        leaf = images_adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(leaf), labels), leaf)
        moved = images_adv + 0.01 * gradient.sign()
        images_adv = torch.minimum(torch.maximum(moved, start - 0.1), start + 0.1).clamp(0, 1)
    return images_adv


torch.manual_seed(0)
torch.set_num_threads(1)
pixels, classes = load_digits(return_X_y=True)
images, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(classes)
network = Residual()
optimiser = torch.optim.Adam(network.parameters(), 2e-3)
for _ in range(40):
    for rows in torch.randperm(1200).split(64):
        optimiser.zero_grad()
        cross_entropy(network(images[rows]), labels[rows]).backward()
        optimiser.step()
network.requires_grad_(False)
models = {"float32": network}
for way in (Int8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig):
    model = copy.deepcopy(network)
    quantize_(model.blocks, way())
    models[way.__name__.removesuffix("Config")] = model
images, labels = images[1200:1500], labels[1200:1500]
transferred = pgd(network, images, labels)
seen = {}
for name, model in models.items():
    three = images, pgd(model, images, labels), transferred
    seen[name] = tuple(int((model(one).argmax(dim=1) == labels).sum()) for one in three)
print(f"torchao {torchao.__version__}: right of 300 before, after PGD, after PGD on the float32 network: {seen}")
clean, own, other = seen["Int8DynamicActivationInt8Weight"]
assert clean > 270 and own > other + 25 and abs(seen["Int8WeightOnly"][1] - other) < 10
everything = copy.deepcopy(network)
quantize_(everything, Int8DynamicActivationInt8WeightConfig())
try:
    pgd(everything, images, labels)
except RuntimeError as error:
    print("with the first and the last layer quantised, too:", str(error)[:70])
else:
    raise AssertionError("a network without a gradient said nothing")
PY
