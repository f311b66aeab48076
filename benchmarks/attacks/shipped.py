"""Every network that ships: what our AutoAttack leaves of it, and what torchattacks' does."""

import sys
from collections.abc import Iterator
from math import sqrt
from typing import Any

from contestants import OURS, contestants
from peers import FULL, Budget
from strength import outcomes
from subjects import Subject, keep_right

from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.runtime import seed_everything

# What each network's card evaluates it in, and the other norm, so that none is known by one alone.
RADII = {
    None: {"linf": 0.1, "l2": 0.5},
    "linf": {"linf": 0.2, "l2": 0.5},
    "l2": {"linf": 0.1, "l2": 0.5},
    "certified": {"linf": 0.1, "l2": 0.5},
}


def networks(n: int) -> list[Subject]:
    """Return the digits networks, each with the first n test digits."""
    images, labels = digits().test.images[:n], digits().test.labels[:n]
    return [
        keep_right(f"digits, {kind or 'standard'}", digits_classifier(kind), images, labels, radii)
        for kind, radii in RADII.items()
    ]


def rows(subjects: list[Subject], budget: Budget = FULL) -> Iterator[dict[str, Any]]:
    """Attack with AutoAttack of every library that has one: a row a network, ball and library."""
    for subject in subjects:
        for ball in subject.balls():
            for one in contestants(ball.norm, budget):
                if one.attack != "AutoAttack" or one.library not in (OURS, "torchattacks"):
                    continue
                print(f"shipped: {subject.name}, {ball}: {one.library}", file=sys.stderr)
                seed_everything(0)
                given = subject.model, subject.images.clone(), subject.labels, ball, 0
                letters, outside = outcomes(subject, ball, one.run(*given).detach())
                share = letters.count("1") / subject.n
                yield {
                    "network": subject.name,
                    "norm": ball.norm,
                    "epsilon": ball.epsilon,
                    "library": one.library,
                    "n": subject.n,
                    "clean": len(subject.images) / subject.n,
                    "robust_accuracy": share,
                    "standard_error": sqrt(share * (1 - share) / subject.n),
                    "outside": outside,
                    "outcomes": letters,
                }
