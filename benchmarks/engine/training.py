"""Time a training that shows the collapse: in the page, and with torch, one thread each."""

import json
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from tables import Row
from torch import nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy
from within_epsilon.models import small_cnn
from within_epsilon.threat import Ball

# What the training explorer opens with; FGSM collapses within these epochs.
EPOCHS, BATCH, STEP_SIZE, EPSILON = 60, 64, 2e-3, 0.3
OPTIONS = {"epsilon": EPSILON, "steps": 1, "start": "clean", "epochs": EPOCHS}
ROUNDS = 5


def with_torch(seed: int) -> list[int]:
    """Train and measure as the page does; return how many held-out digits are read right.

    Returns
    -------
    list of int
        As they are, after FGSM and after PGD with 20 steps.
    """
    torch.manual_seed(seed)
    model, ball = small_cnn(), Ball("linf", EPSILON)
    train, held_out, _ = digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=STEP_SIZE)
    found = measure(model, held_out, ball)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(BATCH):
            images_adv = fgsm(model.eval(), train.images[rows], train.labels[rows], ball)
            optimizer.zero_grad()
            cross_entropy(model(images_adv), train.labels[rows]).mean().backward()
            optimizer.step()
        found = measure(model, held_out, ball)
    return found


def measure(model: nn.Module, held_out: Any, ball: Ball) -> list[int]:
    """Count who is read right as is, after FGSM and after PGD."""
    images, labels = held_out.images, held_out.labels
    with torch.no_grad():
        right = model.eval()(images).argmax(dim=1) == labels
    images, labels = images[right], labels[right]
    counts = [len(images)]
    for attack in (fgsm, partial(pgd, steps=20)):
        images_adv = attack(model, images, labels, ball)
        with torch.no_grad():
            counts.append(int((model(images_adv).argmax(dim=1) == labels).sum()))
    return counts


def rows(in_page: Any) -> Iterator[Row]:
    """Compare the two, each once in every round.

    Parameters
    ----------
    in_page : callable
        ``in_page(call)`` returns what a call of compare.js gives in a fresh page.
    """
    seconds: list[tuple[float, float]] = []
    for seed in range(ROUNDS):
        options = json.dumps(OPTIONS | {"seed": seed})
        ours, last = in_page(f"train({options})")
        begun = time.perf_counter()
        theirs = with_torch(seed)
        seconds.append((ours / 1000, time.perf_counter() - begun))
    ratios = [one / two for one, two in seconds]
    page, torchs = zip(*seconds, strict=True)
    yield {
        "what": f"FGSM, {EPOCHS} epochs",
        "page": median(page),
        "torch": median(torchs),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "rounds": ROUNDS,
        "right in the page": last,
        "right with torch": theirs,
    }
