"""How strong attacks are: the accuracy that each leaves, at the same number of gradients."""

import sys
from collections.abc import Container, Iterator
from typing import Any

import torch
from contestants import Contestant, contestants
from subjects import Subject

from within_epsilon.attacks import count_evaluations
from within_epsilon.evaluation import wilson_interval
from within_epsilon.threat import Ball

# By how much a peer may overstep epsilon by rounding; beyond that an example counts as standing.
ROUNDING = 1e-5
# What runs with one seed.
LONG = ("APGD-T", "AutoAttack")


def measure(subject: Subject, ball: Ball, one: Contestant, seeds: int) -> dict[str, Any]:
    """Attack all examples of a subject, once per seed, and count those that still stand."""
    standing = outside = 0
    with count_evaluations(subject.model) as cost:
        results = [
            # A copy: nobody is to change the images of those who come after.
            one.run(subject.model, subject.images.clone(), subject.labels, ball, seed).detach()
            for seed in range(seeds)
        ]
    for images_adv in results:
        admitted = ball.admits(subject.images, images_adv, atol=ROUNDING)
        with torch.no_grad():
            right = subject.model(images_adv).argmax(dim=1) == subject.labels
        standing += int((right | ~admitted).sum())
        outside += int((~admitted).sum())
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
        "gradients": cost.gradients / attacked,
        "forwards": cost.forwards / attacked,
        "outside": outside,
    }


def rows(subjects: list[Subject], only: Container[str] | None = None) -> Iterator[dict[str, Any]]:
    """Measure every contestant, or those of some attacks, on every subject and threat model."""
    for subject in subjects:
        for ball in subject.balls():
            for one in contestants(ball.norm):
                if only is not None and one.attack not in only:
                    continue
                if subject.skips(one.attack, one.library):
                    continue
                print(f"{subject.name}, {ball}: {one.attack}, {one.library}", file=sys.stderr)
                yield measure(subject, ball, one, 1 if one.attack in LONG else subject.seeds)
