"""How strong attacks are: who still stands after each, at the same number of gradients."""

import sys
from collections.abc import Container, Iterator
from typing import Any

import torch
from contestants import Contestant, contestants
from peers import FULL, Budget
from subjects import Subject
from torch import Tensor

from within_epsilon.attacks import count_evaluations
from within_epsilon.evaluation import wilson_interval
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball

# By how much a peer may overstep epsilon by rounding; beyond that an example counts as standing.
ROUNDING = 1e-5
# What runs with one seed.
LONG = ("APGD-T", "AutoAttack")


def outcomes(subject: Subject, ball: Ball, images_adv: Tensor) -> tuple[str, int]:
    """Return who stands, a 1 or a 0 for each example, and how many results are not allowed."""
    admitted = ball.admits(subject.images, images_adv, atol=ROUNDING)
    with torch.no_grad():
        right = subject.model(images_adv).argmax(dim=1) == subject.labels
    letters = "".join(str(int(stands)) for stands in right | ~admitted)
    return letters, int((~admitted).sum())


def measure(subject: Subject, ball: Ball, one: Contestant, seeds: int) -> dict[str, Any]:
    """Attack all examples of a subject, once per seed, and note who still stands."""
    results = []
    with count_evaluations(subject.model) as cost:
        for seed in range(seeds):
            seed_everything(seed)
            # A copy: nobody is to change the images of those who come after.
            given = subject.model, subject.images.clone(), subject.labels, ball, seed
            results.append(one.run(*given).detach())
    letters, outside = zip(*(outcomes(subject, ball, found) for found in results), strict=True)
    standing = sum(run.count("1") for run in letters)
    attacked = seeds * len(subject.images)
    return {
        "subject": subject.name,
        "norm": ball.norm,
        "epsilon": ball.epsilon,
        "attack": one.attack,
        "library": one.library,
        "n": subject.n,
        "seeds": seeds,
        "robust_accuracy": standing / seeds / subject.n,
        # The seeds share their examples, so they do not make the interval narrower.
        "interval": wilson_interval(round(standing / seeds), subject.n),
        "asked": one.asked,
        "gradients": round(cost.gradients / attacked, 2),
        "forwards": round(cost.forwards / attacked, 2),
        "outside": sum(outside),
        "outcomes": letters,
    }


def rows(
    subjects: list[Subject], only: Container[str] | None = None, budget: Budget = FULL
) -> Iterator[dict[str, Any]]:
    """Measure every contestant, or those of some attacks, on every subject and threat model."""
    for subject in subjects:
        for ball in subject.balls():
            for one in contestants(ball.norm, budget):
                if only is not None and one.attack not in only:
                    continue
                if subject.skips(one.attack, one.library):
                    continue
                print(f"{subject.name}, {ball}: {one.attack}, {one.library}", file=sys.stderr)
                yield measure(subject, ball, one, 1 if one.attack in LONG else subject.seeds)
