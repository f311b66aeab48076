#!/bin/sh
# A classifier of SecML-Torch has a place for the normalisation of its inputs. An attack with the backend
# of foolbox, which is FGSM's default, attacks the network behind it without the normalisation, another
# function, and so is weak; SecML-Torch's own attacks the classifier, and so is right.
set -eu
. "$(dirname "$0")/environment.sh"

python_with secml-torch==1.5 foolbox==3.3.4 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 "setuptools<81" <<'PY'
from importlib.metadata import version

import torch
from secmlt.adv.backends import Backends
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.data_processing.mean_std_normalization import MeanStdNormalization
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
layers = torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
network = torch.nn.Sequential(*layers).eval()
images = torch.rand(200, 1, 8, 8)


def normalised(pixels):
    return (pixels - 0.5) / 0.1


labels = network(normalised(images)).argmax(dim=1)
loader = DataLoader(TensorDataset(images, labels), batch_size=200)
ways = {
    "a preprocessing": BasePyTorchClassifier(network, preprocessing=MeanStdNormalization([0.5], [0.1])),
    "a first layer": torch.nn.Sequential(torch.nn.BatchNorm2d(1, eps=0, affine=False), network).eval(),
}
ways["a first layer"][0].running_mean[:], ways["a first layer"][0].running_var[:] = 0.5, 0.01
right = {}
for way, model in ways.items():
    for backend in (Backends.FOOLBOX, Backends.NATIVE):
        options = {"num_steps": 20, "step_size": 0.005, "random_start": False, "y_target": None}
        attack = PGD(perturbation_model="linf", epsilon=0.02, backend=backend, **options)
        found = torch.cat([batch for batch, _ in attack(model, loader)])
        assert (found - images).abs().max() < 0.02001
        right.setdefault(way, {})[backend] = int((network(normalised(found)).argmax(dim=1) == labels).sum())
print(f"secml-torch {version('secml-torch')}: right of 200 after PGD, by the backend, with the normalisation as {right}")
kept = right["a preprocessing"]
assert max(right["a first layer"].values()) < 100 and kept["native"] < 100
assert kept["foolbox"] > 120
PY
