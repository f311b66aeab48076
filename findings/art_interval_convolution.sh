#!/bin/sh
# ART's interval classifier gives a convolution that has no bias a random one, another in each classifier that is
# made of the same network, and takes padding that reflects for zeros: bounds, and certificates, are another
# network's. (Its DeepZ raises without a bias, and takes reflecting padding for zeros too.)
set -eu
. "$(dirname "$0")/environment.sh"

python_with adversarial-robustness-toolbox==1.20.1 torch==2.13.0 numpy==2.4.6 scikit-learn==1.9.1 \
    packaging==26.3 <<'PY'
import contextlib
import os

import art
import numpy as np
import torch
from art.estimators.certification.interval import PyTorchIBPClassifier
from sklearn.datasets import load_digits
from torch import nn

EPSILON = 0.02
torch.set_num_threads(1)
pixels, classes = load_digits(return_X_y=True)
pictures, targets = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(classes)
images = pictures[1200:]


class Network(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.first, self.relu = nn.Conv2d(1, 4, 3, padding=1, **options), nn.ReLU()
        self.second = nn.Linear(256, 10)

    def forward(self, images):
        return self.second(self.relu(self.first(images)).flatten(1))


def trained(**options):
    torch.manual_seed(0)
    network = Network(**options)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pictures[:1200]), targets[:1200]).backward()
        optimizer.step()
    return network.eval()


def intervals_of(network):
    """The bounds of all logits, and what the classifier itself answers."""
    settings = {"loss": nn.CrossEntropyLoss(), "input_shape": (1, 8, 8), "nb_classes": 10, "clip_values": (0, 1)}
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        classifier = PyTorchIBPClassifier(model=network, device_type="cpu", **settings)
    boxes = classifier.predict_intervals(x=images.numpy(), bounds=EPSILON, limits=[0.0, 1.0])
    classifier.model.set_forward_mode("concrete")
    return boxes, classifier.predict(images.numpy()).argmax(axis=1)


seen = {}
for name, options in {"bias": {}, "no bias": {"bias": False}, "reflecting": {"padding_mode": "reflect"}}.items():
    network = trained(**options)
    with torch.no_grad():
        logits = network(images).numpy()
    boxes, answers = intervals_of(network)
    _, again = intervals_of(network)
    outside = (logits < boxes[:, 0] - 1e-3) | (logits > boxes[:, 1] + 1e-3)
    seen[name] = {
        "images with a logit out of its bounds": int(outside.any(axis=1).sum()),
        "with another answer": int((answers != logits.argmax(axis=1)).sum()),
        "with another answer by a second classifier": int((answers != again).sum()),
    }
print(f"ART {art.__version__}, of {len(images)} digits, by convolution: {seen}")
none, invented, reflecting = (tuple(one.values()) for one in seen.values())
assert none == (0, 0, 0)
assert invented[0] > 400 and invented[1] > 100 and invented[2] > 50
assert reflecting[0] > 100 and reflecting[1] > 10 and reflecting[2] == 0
PY
