"""What an ensemble saves: gradients, when each attack gets only what the others left."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from peers import FULL, Budget
from subjects import Subject

from within_epsilon.attacks import autoattack, count_evaluations, stages_of
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.threat import Ball

# The more stands, the less is saved: balls of the subjects' own radii, and wider ones.
WIDTHS = (1.0, 1.25, 1.5)
_FEW = 4


def rows(subjects: list[Subject], budget: Budget = FULL) -> Iterator[dict[str, Any]]:
    """Count gradients for the ensemble, and for its attacks one by one on every example."""
    for subject in subjects:
        for ball in subject.balls():
            for width in WIDTHS:
                wide = Ball(ball.norm, width * ball.epsilon)
                print(f"ensemble: {subject.name}, {wide}", file=sys.stderr)
                yield measure(subject, wide, budget)


def measure(subject: Subject, ball: Ball, budget: Budget = FULL) -> dict[str, Any]:
    """Compare on one subject and threat model. Square, which needs no gradients, counts for 0."""
    data = subject.images, subject.labels
    attack = partial(autoattack, steps=budget.apgd, queries=budget.queries)
    thorough = partial(attack, targets=budget.targets)
    with count_evaluations(subject.model) as together:
        report = robust_accuracy(subject.model, data, attack, ball, diagnose=False)
    nine = robust_accuracy(subject.model, data, thorough, ball, diagnose=False)
    # In a ball of radius 0 nothing falls, so every attack runs to its end, on a few as on all.
    nowhere, few = Ball(ball.norm, 0), (subject.images[:_FEW], subject.labels[:_FEW])
    with count_evaluations(subject.model) as standing:
        attack(subject.model, *few, nowhere, queries=1)
    with count_evaluations(subject.model) as apart:
        for stage in stages_of(partial(thorough, queries=1), nowhere):
            stage(subject.model, *few, nowhere)
    attacked = len(subject.images)
    spent, separately = together.gradients / attacked, apart.gradients / len(few[0])
    return {
        "subject": subject.name,
        "norm": ball.norm,
        "epsilon": ball.epsilon,
        "n": subject.n,
        "robust_accuracy": report.robust_accuracy * attacked / subject.n,
        "robust_accuracy_nine_targets": nine.robust_accuracy * attacked / subject.n,
        "gradients": round(spent, 2),
        "gradients_if_standing": standing.gradients / len(few[0]),
        "gradients_apart": separately,
        "saving": round(separately / spent, 3),
    }
