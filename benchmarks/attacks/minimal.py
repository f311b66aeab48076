"""How close minimal-norm attacks come: the median distance to what they find."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import torch
from contestants import Contestant, minimal_contestants
from subjects import Subject

from within_epsilon.attacks import count_evaluations
from within_epsilon.threat import Ball


def measure(subject: Subject, norm: str, one: Contestant, seed: int = 0) -> dict[str, Any]:
    """Attack all examples and measure how far the adversarial ones are from the clean ones."""
    anywhere = Ball(norm, 0)  # only its norm counts
    with count_evaluations(subject.model) as cost:
        # A copy: nobody is to change the images of those who come after.
        images_adv = one.run(subject.model, subject.images.clone(), subject.labels, anywhere, seed)
    with torch.no_grad():
        fooled = subject.model(images_adv).argmax(dim=1) != subject.labels
    fooled &= ((images_adv >= 0) & (images_adv <= 1)).flatten(1).all(dim=1)
    distances = anywhere.length(images_adv - subject.images)
    # What was not fooled is infinitely far: the median counts it in.
    distances = torch.where(fooled, distances, torch.inf)
    attacked = len(subject.images)
    ordered = distances.sort().values
    middle = (ordered[(attacked - 1) // 2] + ordered[attacked // 2]).item() / 2
    return {
        "subject": subject.name,
        "norm": norm,
        "attack": one.attack,
        "library": one.library,
        "n": attacked,
        "found": int(fooled.sum()),
        "median": middle if math.isfinite(middle) else None,
        "gradients": cost.gradients / attacked,
        "forwards": cost.forwards / attacked,
    }


def rows(subjects: list[Subject]) -> Iterator[dict[str, Any]]:
    """Measure every contestant on every subject and norm."""
    for subject in subjects:
        for norm in subject.epsilons:
            for one in minimal_contestants(norm):
                if subject.skips(one.attack, one.library):
                    continue
                print(f"{subject.name}, {norm}: {one.attack}, {one.library}", file=sys.stderr)
                yield measure(subject, norm, one)
