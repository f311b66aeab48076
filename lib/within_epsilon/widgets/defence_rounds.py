"""Three rounds of the defence explorer, on digits: models trained, attacked and recorded here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, pgd, square
from within_epsilon.data import digits
from within_epsilon.defences import Saturated, k_winners_mlp
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import mlp
from within_epsilon.threat import Ball
from within_epsilon.training import fit, minibatches
from within_epsilon.widgets.defences import Case, record_case


def digit_rounds(n: int = 100, seed: int = 0) -> list[list[Case]]:
    """Train honest and fake models on the digits, and record how plain PGD fares.

    Parameters
    ----------
    n : int
        How many digits of the test split to attack.
    seed : int
        Of trainings and attacks.

    Returns
    -------
    list of lists of Case
        A saturated softmax, a network trained against one step, and k winners, each among
        honest models: given away by the curve over epsilon, over steps and over restarts.
        Takes some ten seconds on one thread.
    """
    data = digits().test[:n]
    record = partial(record_case, data=data, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        standard = _fitted(mlp(64, 100, 10), seed)
        short = partial(pgd, steps=4)
        robust = _against(mlp(64, 100, 10), short, Ball("linf", 0.15), seed, epochs=12)
        long = partial(pgd, steps=7)
        stronger = _against(mlp(64, 200, 10), long, Ball("linf", 0.3), seed, epochs=15)
        one_step = _against(mlp(64, 200, 10), fgsm, Ball("linf", 0.3), seed, epochs=40)
        winners = _fitted(k_winners_mlp(64, 400, 10), seed, step_size=0.05)
    plain = record("a standard network", standard)
    trained = record("a network trained against PGD", robust)
    return [
        [plain, record("a saturated softmax", Saturated(standard), **_SATURATED), trained],
        [
            record("a network trained against FGSM", one_step, epsilon=0.3, **_ONE_STEP),
            record("a network trained against PGD, at ε = 0.3", stronger, epsilon=0.3),
            record("a standard network", standard, epsilon=0.3),
        ],
        [plain, trained, record("k winners take all", winners, **_K_WINNERS)],
    ]


_SATURATED: dict[str, Any] = {
    "tool": partial(pgd, steps=20, loss=margin_loss),
    "called": "PGD on the margin",
    "why": "PGD fails on it even at ε = 1, where any image is allowed: the attack is broken, not "
    "the adversary. A curve that is merely low may be honest.",
}
_ONE_STEP: dict[str, Any] = {
    "tool": partial(pgd, steps=100, restarts=5),
    "called": "PGD with 100 steps and 5 restarts",
    "why": "Its curve over steps climbs where the others are level: it was made to stand one step, "
    "and one step is what it stands.",
}
_K_WINNERS: dict[str, Any] = {
    "tool": partial(square, queries=500),
    "called": "Square, which sees scores alone,",
    "why": "Restarts keep finding more: where an attack ends is chance. Its other curves look "
    "honest, so that good curves acquit nobody.",
}


def _fitted(model: nn.Module, seed: int, *, epochs: int = 12, step_size: float = 0.1) -> nn.Module:
    fit(
        model,
        digits().train,
        epochs=epochs,
        batch_size=32,
        step_size=step_size,
        momentum=0.9,
        seed=seed,
        progress=False,
    )
    return model


def _against(
    model: nn.Module, attack: Callable[..., Tensor], ball: Ball, seed: int, *, epochs: int
) -> nn.Module:
    """Train on what an attack makes of each minibatch."""
    train, generator = digits().train, torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in minibatches(len(train), 64, generator):
            images, labels = train[rows]
            images = attack(model, images, labels, ball)
            optimiser.zero_grad()
            cross_entropy(model(images), labels).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model.eval()
