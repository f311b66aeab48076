"""Three rounds of the defence explorer, on digits: models trained, attacked and recorded here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
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

ROUNDS = Path(__file__).with_name("defence_rounds.json")


def recorded_rounds() -> list[list[Case]]:
    """Return what `digit_rounds` has recorded, without training or attacking anything.

    Returns
    -------
    list of lists of Case
        The rounds of ``digit_rounds(100, seed=0)``, as they were found on one thread.
    """
    return [
        [_case(**case) for case in cases]
        for cases in json.loads(ROUNDS.read_text(encoding="utf-8"))
    ]


def _case(
    *, lost: dict[str, list[int]], broken: list[int], by_autoattack: list[int], **others: Any
) -> Case:
    """Return a case from what JSON keeps of it, which has no tuples."""
    curves = {view: tuple(counts) for view, counts in lost.items()}
    return Case(lost=curves, broken=tuple(broken), by_autoattack=tuple(by_autoattack), **others)


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
        honest models: given away by the curve over epsilon, over steps and over restarts. The
        second round is shown as its authors would, by a single step. AutoAttack judges all.
        Takes a minute or two on one thread; `recorded_rounds` has them at once.
    """
    data = digits().test[:n]
    found: dict[str, tuple[int, ...]] = {}

    def record(name: str, model: nn.Module, **options: Any) -> Case:
        known = found.get(name, ())  # by AutoAttack, which is slow: each model once
        case = record_case(name, model, data, thorough=not known, seed=seed, **options)
        found[name] = known or case.by_autoattack
        return replace(case, by_autoattack=found[name])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        standard = _fitted(mlp(64, 100, 10), seed)
        seven = partial(pgd, steps=7)
        robust = _against(mlp(64, 200, 10), seven, Ball("linf", 0.15), seed, epochs=15)
        one_step = _against(mlp(64, 200, 10), fgsm, Ball("linf", 0.3), seed, epochs=40)
        torch.manual_seed(seed)  # as the chapter trains the two
        winners = _fitted(k_winners_mlp(64, 400, 10), seed, step_size=0.05)
        torch.manual_seed(seed)
        twin = _fitted(mlp(64, 400, 10), seed, step_size=0.05)
    plain, trained = "a standard network", "a network trained against PGD"

    def beside(fake: dict[str, Any], name: str, model: nn.Module, **options: Any) -> Case:
        return record(name, model, judge=fake["tool"], **options)

    return [
        [
            beside(_SATURATED, plain, standard),
            record("a saturated softmax", Saturated(standard), **_SATURATED),
            beside(_SATURATED, trained, robust),
        ],
        [
            record("a network trained against FGSM", one_step, **_ONE_STEP, **_BY_ONE_STEP),
            beside(_ONE_STEP, trained, robust, **_BY_ONE_STEP),
            beside(_ONE_STEP, plain, standard, **_BY_ONE_STEP),
        ],
        [
            beside(_K_WINNERS, "C with ReLUs for its activations", twin, epsilon=0.15),
            beside(_K_WINNERS, trained, robust, epsilon=0.15),
            record("k winners take all", winners, epsilon=0.15, **_K_WINNERS),
        ],
    ]


_SATURATED: dict[str, Any] = {
    "tool": partial(pgd, steps=20, loss=margin_loss),
    "called": "PGD on the margin",
    "why": "PGD fails on it even at ε = 1, where any image is allowed: the attack is broken, not "
    "the adversary. A curve that is merely low may be honest.",
}
_ONE_STEP: dict[str, Any] = {
    "tool": partial(pgd, steps=100, restarts=5),
    "called": "PGD, 100 steps, 5 restarts",
    "why": "By one step it comes close to B. From 1 step to 100 its curve climbs by 25, those of B "
    "and C by 2 and 8: it was made to stand one step, and one step is what it stands. AutoAttack "
    "leaves it no more than C.",
    "clue": "steps",
}
_BY_ONE_STEP: dict[str, Any] = {"epsilon": 0.15, "usual": 1}
_K_WINNERS: dict[str, Any] = {
    "tool": partial(square, queries=500),
    "called": "Square (scores alone)",
    "why": "Over ε and over steps it looks better than A. But 20 restarts find 12 digits more, on "
    "A and B 4: where a run ends is chance. That is an alarm and no proof, for restarts find more "
    "on honest networks, too. Square finds 18 more than PGD did, on A 1 and on B 4.",
    "clue": "restarts",
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
