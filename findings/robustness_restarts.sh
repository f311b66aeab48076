#!/bin/sh
# MadryLab's robustness is to keep "the worst attack (in terms of loss) per input" of its random restarts.
# Who was fooled is found by inverting bytes, 0 to 255 and 1 to 254, which index as if all were true:
# every run overwrites all those before, and only the last one counts. Twenty restarts are as weak as one.
set -eu
. "$(dirname "$0")/environment.sh"

python_with robustness==1.2.1.post2 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 "setuptools<81" <<'PY'
from importlib.metadata import version
from types import SimpleNamespace

import torch
from robustness.attacker import Attacker

torch.Tensor.cuda = lambda tensor: tensor  # the attack asks for a GPU, and needs none
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
).eval()
images = 0.1 + 0.8 * torch.rand(500, 1, 8, 8)
attacker = Attacker(network, SimpleNamespace(mean=torch.zeros(1), std=torch.ones(1)))
labels = network(images).argmax(dim=1)
options = {"constraint": "inf", "eps": 0.02, "step_size": 0.01, "iterations": 1, "random_start": True}


def run(restarts):
    return attacker(images, labels, random_restarts=restarts, use_best=False, **options)


def fooled(found):
    return network(found).argmax(dim=1) != labels


torch.manual_seed(1)
together = run(20)
torch.manual_seed(1)
runs = [run(1) for _ in range(20)]
union = torch.stack([fooled(one) for one in runs]).any(dim=0)
counts = [int(fooled(one).sum()) for one in runs]
print(f"robustness {version('robustness')}, one step of PGD, fooled of 500: {min(counts)} to {max(counts)} by one start, ", end="")
print(f"{int(union.sum())} by any of 20, {int(fooled(together).sum())} with random_restarts=20; ", end="")
print(f"this is the last run, to the bit: {torch.equal(together, runs[-1])}")
assert torch.equal(together, runs[-1])
assert max(counts) < 130 and union.sum() > 140
PY
