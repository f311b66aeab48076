"""What an ensemble saves: gradients, when each attack gets only what the others left."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from peers import APGD_STEPS, QUERIES
from subjects import Subject

from within_epsilon.attacks import apgd, autoattack, count_evaluations, fmn, multi_targeted
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.threat import Ball


def rows(subjects: list[Subject]) -> Iterator[dict[str, Any]]:
    """Count gradients for the ensemble, and for each of its attacks on every example."""
    for subject in subjects:
        if "AutoAttack" in subject.skipped:
            continue
        for ball in subject.balls():
            print(f"ensemble: {subject.name}, {ball}", file=sys.stderr)
            yield measure(subject, ball)


def measure(subject: Subject, ball: Ball) -> dict[str, Any]:
    """Compare on one subject and threat model. Square, which needs no gradients, counts for 0."""
    data = subject.images, subject.labels
    with count_evaluations(subject.model) as together:
        attack = partial(autoattack, queries=QUERIES)
        report = robust_accuracy(subject.model, data, attack, ball, diagnose=False)
    with count_evaluations(subject.model) as apart:
        apgd(subject.model, *data, ball, steps=APGD_STEPS)
        multi_targeted(subject.model, *data, ball, steps=APGD_STEPS)
        fmn(subject.model, *data, norm=ball.norm, steps=APGD_STEPS)
    attacked = len(subject.images)
    return {
        "subject": subject.name,
        "norm": ball.norm,
        "epsilon": ball.epsilon,
        "n": subject.n,
        "robust_accuracy": report.robust_accuracy * attacked / subject.n,
        "gradients": together.gradients / attacked,
        "gradients_apart": apart.gradients / attacked,
        "saving": apart.gradients / together.gradients,
    }
