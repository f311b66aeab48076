#!/bin/sh
# ART's AutoConjugateGradient takes the sign of its direction in l-infinity, and then steps along
# the direction itself, the gradient of the batch's mean loss. So its steps shrink with the size
# of the batch and with the model's confidence. In l2 the direction is normalised, and right.
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 packaging==26.4 torch==2.13.0 numpy==2.4.6 <<'PY'
import art
import numpy
import torch
from art.attacks.evasion import AutoConjugateGradient, AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
).eval()
images = torch.rand(128, 1, 8, 8).numpy()
classifier = PyTorchClassifier(
    model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu"
)
labels = classifier.predict(images).argmax(axis=1)
fooled = {}
for name, attack in (("APGD", AutoProjectedGradientDescent), ("ACG", AutoConjugateGradient)):
    for norm, eps in ((numpy.inf, 0.15), (2, 1.2)):
        found = []
        for size in (1, 128):
            numpy.random.seed(0)
            settings = {"eps": eps, "eps_step": 2 * eps, "max_iter": 30, "nb_random_init": 1}
            one = attack(classifier, norm=norm, batch_size=size, verbose=False, **settings)
            answers = classifier.predict(one.generate(images, labels)).argmax(axis=1)
            found.append(int((answers != labels).sum()))
        fooled[f"{name} l{norm}"] = found
print(f"ART {art.__version__}: fooled of 128, one by one and in one batch: {fooled}")
assert all(both[0] > 120 for both in fooled.values())
assert all((both[1] < 40) == (name == "ACG linf") for name, both in fooled.items())
PY
