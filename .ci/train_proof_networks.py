"""Train the two small networks that explorers prove things about: half a minute on one core.

    python .ci/train_proof_networks.py

writes proof_networks.json into the library.
"""

import json
from functools import partial

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from within_epsilon.attacks import pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import accuracy
from within_epsilon.models import Classifier, mlp
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, fit
from within_epsilon.widgets.proof_networks import NETWORKS, pack

EPOCHS = 60


def train_digits() -> nn.Sequential:
    """Train against PGD on the training digits."""
    seed_everything(0)
    layers = mlp(64, 20, 20, 10)
    data = digits()
    fit(
        Classifier(layers, categories="0123456789"),
        data.train,
        Adversarial(partial(pgd, steps=7), Ball("linf", 0.1)),
        epochs=EPOCHS,
        batch_size=64,
        optimizer=partial(Adam, lr=4e-3, weight_decay=1e-3),
        schedule=partial(CosineAnnealingLR, T_max=EPOCHS),
    )
    model = Classifier(layers, categories="0123456789").eval()
    print(f"digits: {accuracy(model, *data.validation[:]):.1%} of the validation digits")
    return layers


def train_disc() -> nn.Sequential:
    """Train on random points of a square: class 1 is a disc around the middle."""
    seed_everything(2)
    inputs = 2 * torch.rand(600, 2) - 1
    labels = (inputs.square().sum(dim=1) < 0.55).long()
    layers = mlp(2, 6, 2)
    adam = Adam(layers.parameters(), lr=0.02)
    for _ in range(EPOCHS * 10):
        adam.zero_grad()
        sizes = sum(weights.square().sum() for weights in layers.parameters())
        loss = nn.functional.cross_entropy(layers(inputs), labels) + 1e-3 * sizes
        loss.backward()
        adam.step()
    with torch.no_grad():
        for weights in layers.parameters():
            weights.copy_((100 * weights).round() / 100)
    right = (layers(inputs).argmax(dim=1) == labels).double().mean().item()
    print(f"disc: {right:.1%} of its points")
    return layers


def main() -> None:
    """Train both and write them."""
    torch.set_num_threads(1)  # with more, sums round differently
    networks = {"digits": pack(train_digits()), "disc": pack(train_disc())}
    NETWORKS.write_text(json.dumps(networks, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
