#!/bin/sh
# Where ART's AutoProjectedGradientDescent fools nobody, it returns its random start: not the
# strongest picture that it found, as PGD does. Pictures for a transfer attack, for adversarial
# training, or for a plot of losses are noise wherever the attacked model was right.
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 packaging==26.4 torch==2.13.0 numpy==2.4.6 <<'PY'
import art
import numpy
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
).eval()
images = torch.rand(200, 1, 8, 8).numpy()
classifier = PyTorchClassifier(
    model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu"
)
labels = classifier.predict(images).argmax(axis=1)
settings = {"eps": 0.02, "max_iter": 30, "batch_size": 200, "verbose": False}
attacks = {
    "PGD": ProjectedGradientDescent(classifier, eps_step=0.005, **settings),
    "APGD": AutoProjectedGradientDescent(classifier, eps_step=0.04, nb_random_init=1, **settings),
}
numpy.random.seed(0)
pictures = {name: attack.generate(images, labels) for name, attack in attacks.items()}
right = {name: classifier.predict(x).argmax(axis=1) == labels for name, x in pictures.items()}
both = right["PGD"] & right["APGD"]
before = classifier.compute_loss(images, labels, reduction="none")
risen, border = {}, {}
for name, x in pictures.items():
    rise = classifier.compute_loss(x, labels, reduction="none") - before
    risen[name] = [round(float(rise[rows].mean()), 4) for rows in (~both, both)]
    border[name] = round(float((abs(x - images) > 0.0199)[both].mean()), 2)
print(f"ART {art.__version__}: {(~both).sum()} of 200 fooled; mean rise of the loss of these, ", end="")
print(f"and of the others: {risen}; the others' share of pixels that moved by eps: {border}")
assert (right["PGD"] == right["APGD"]).all()
assert risen["APGD"][0] > 0.95 * risen["PGD"][0]
assert risen["APGD"][1] < 0.1 * risen["PGD"][1]
assert border["PGD"] > 0.9
assert border["APGD"] < 0.05
PY
