#!/bin/sh
# DeepRobust's PGD in l2 measures gradient and perturbation over the whole batch: epsilon is what all pictures
# together may spend, and no picture gets near it. Its FGSM in l2 measures each picture, and is the stronger one.
set -eu
. "$(dirname "$0")/environment.sh"

python_with deeprobust==0.2.11 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 scikit-learn==1.9.1 <<'PY'
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from sklearn.datasets import load_digits

# The packages' own beginnings import a name that SciPy has withdrawn; the attacks need none of that.
root = Path(importlib.util.find_spec("deeprobust").origin).parent
for name in ("image", "image/attack"):
    package = ModuleType(f"deeprobust.{name.replace('/', '.')}")
    package.__path__ = [str(root / name)]
    sys.modules[package.__name__] = package
from deeprobust.image.attack.fgsm import FGSM  # noqa: E402
from deeprobust.image.attack.pgd import PGD  # noqa: E402

pixels, classes = load_digits(return_X_y=True)
images, labels = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(classes)
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
)
optimizer = torch.optim.Adam(network.parameters(), 0.01)
for _ in range(200):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(images[:1200]), labels[:1200]).backward()
    optimizer.step()
right = (network(images).argmax(dim=1) == labels) & (torch.arange(len(labels)) >= 1200)
images, labels = images[right][:100], labels[right][:100]
shared = {"epsilon": 0.5, "clip_min": 0.0, "clip_max": 1.0}
steps = {"num_steps": 40, "step_size": 0.05, "bound": "l2"}


def fooled(images_adv):
    return int((network(images_adv).argmax(dim=1) != labels).sum())


def longest(images_adv):
    return (images_adv - images).flatten(1).norm(dim=1).max().item()


def pgd(images, labels):
    np.random.seed(0)
    return PGD(network, "cpu").generate(images.clone(), labels, **shared, **steps).detach()


together = pgd(images, labels)
alone = torch.cat([pgd(images[i : i + 1], labels[i : i + 1]) for i in range(100)])
one_step = FGSM(network, "cpu").generate(images.clone(), labels, order=2, **shared).detach()
print(f"DeepRobust {version('deeprobust')}, l2, epsilon 0.5, fooled of 100: FGSM {fooled(one_step)}, ", end="")
print(f"PGD one by one {fooled(alone)} (longest change {longest(alone):.2f}), ", end="")
print(f"PGD in one batch {fooled(together)} (longest change {longest(together):.2f})")
assert fooled(together) < 25 < 35 < fooled(one_step) < fooled(alone)
assert longest(together) < 0.25 and 0.49 < longest(alone) < 0.501
PY
