"""How close minimal-norm attacks come: the distance to what they find, example by example."""

import math
import sys
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from contestants import Contestant, minimal_contestants
from peers import FULL, Anywhere, Budget
from subjects import Subject
from torch import Tensor

from within_epsilon.attacks import count_evaluations
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball


def lengths(norm: str, delta: Tensor) -> Tensor:
    """Return the norm of every change, (N,): for l0, how many numbers changed."""
    if norm == "l0":
        return (delta != 0).flatten(1).sum(dim=1).double()
    return Ball(norm, 0).length(delta)  # type: ignore[arg-type]


def measure(subject: Subject, norm: str, one: Contestant, seed: int = 0) -> dict[str, Any]:
    """Attack all examples and measure how far the adversarial ones are from the clean ones."""
    seed_everything(seed)
    with count_evaluations(subject.model) as cost:
        # A copy: nobody is to change the images of those who come after.
        given = subject.model, subject.images.clone(), subject.labels, Anywhere(norm), seed
        images_adv = one.run(*given).detach()
    with torch.no_grad():
        fooled = subject.model(images_adv).argmax(dim=1) != subject.labels
    # A comparison with NaN is false.
    fooled &= ((images_adv >= 0) & (images_adv <= 1)).flatten(1).all(dim=1)
    # What was not fooled is infinitely far: the median counts it in.
    distances = torch.where(fooled, lengths(norm, images_adv - subject.images), torch.inf).tolist()
    middle, attacked = median(distances), len(subject.images)
    return {
        "subject": subject.name,
        "norm": norm,
        "attack": one.attack,
        "library": one.library,
        "n": attacked,
        "found": int(fooled.sum()),
        "median": middle if math.isfinite(middle) else None,
        "asked": one.asked,
        "gradients": round(cost.gradients / attacked, 2),
        "forwards": round(cost.forwards / attacked, 2),
        "distances": [float(f"{d:.4g}") if math.isfinite(d) else None for d in distances],
    }


def rows(subjects: list[Subject], budget: Budget = FULL) -> Iterator[dict[str, Any]]:
    """Measure every contestant on every subject and norm."""
    for subject in subjects:
        for norm in (*subject.epsilons, "l0"):
            for one in minimal_contestants(norm, budget):
                if subject.skips(one.attack, one.library):
                    continue
                print(f"{subject.name}, {norm}: {one.attack}, {one.library}", file=sys.stderr)
                yield measure(subject, norm, one)
