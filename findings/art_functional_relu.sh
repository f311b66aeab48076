#!/bin/sh
# ART's interval and zonotope classifiers take a network apart by its child modules. What its forward
# does besides, such as F.relu, a normalisation or a shortcut, is left out without a word (a child that
# is neither Conv2d, Linear nor ReLU is refused): predictions, and certificates, are another network's.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import contextlib
import os

import art
import numpy as np
import torch
import torch.nn.functional as F
from art.estimators.certification.deep_z import PytorchDeepZ
from art.estimators.certification.interval import PyTorchIBPClassifier
from torch import nn


class Network(nn.Module):
    def __init__(self, functional):
        super().__init__()
        self.first, self.second = nn.Linear(64, 50), nn.Linear(50, 3)
        if not functional:
            self.relu = nn.ReLU()
        self.functional = functional
        nn.init.normal_(self.first.weight)
        self.first.bias.data = -self.first.weight.data.sum(dim=1) / 2  # pixels around 1/2

    def forward(self, images):
        hidden = self.first(images)
        return self.second(F.relu(hidden) if self.functional else self.relu(hidden))


epsilon, images = 0.003, 0.1 + 0.8 * torch.rand(300, 64, generator=torch.Generator().manual_seed(1))
settings = {"loss": nn.CrossEntropyLoss(), "input_shape": (64,), "nb_classes": 3, "clip_values": (0, 1)}
seen = {}
for functional in (False, True):
    torch.manual_seed(0)
    network = Network(functional).eval()
    logits = network(images)
    labels = logits.argmax(dim=1)
    leaf = images.clone().requires_grad_()
    F.cross_entropy(network(leaf), labels).backward()
    near = (images + epsilon * leaf.grad.sign()).clamp(0, 1)
    fooled = (network(near).argmax(dim=1) != labels).numpy()
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        ibp = PyTorchIBPClassifier(model=network, **settings)
        zonotopes = PytorchDeepZ(model=network, **settings)
    boxes = ibp.predict_intervals(x=images.numpy(), bounds=epsilon, limits=[0.0, 1.0])
    certified = {"IBP": ibp.certify(preds=boxes, labels=labels.numpy())}
    balls = [zonotopes.pre_process(image.numpy(), epsilon * np.eye(64)) for image in images]
    answers = [
        zonotopes.certify(cent=centre[None], eps=eps, prediction=int(label))
        for (centre, eps), label in zip(balls, labels)
    ]
    certified["DeepZ"] = np.array(answers)
    ibp.model.set_forward_mode("concrete")
    off = np.abs(ibp.predict(images.numpy()) - logits.detach().numpy()).max()
    name = "F.relu" if functional else "nn.ReLU"
    seen[name] = [int((one & fooled).sum()) for one in certified.values()]
    counts = {kind: int(one.sum()) for kind, one in certified.items()}
    print(f"ART {art.__version__}, {name}: logits off by {off:.0e}; certified of 300: {counts}; of these ", end="")
    print(f"one FGSM step fools {seen[name]}")
    assert (off > 0.01) == functional
assert seen["nn.ReLU"] == [0, 0]
assert min(seen["F.relu"]) > 0
PY
python_with adversarial-robustness-toolbox==1.20.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 packaging==26.3 < "$program"
