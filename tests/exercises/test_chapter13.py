"""Chapter 13's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math
import re
from functools import partial
from statistics import NormalDist

import pytest
import torch

from within_epsilon.exercises import verdict
from within_epsilon.exercises.registry import CHECKS
from within_epsilon.verification import clopper_pearson_lower

Phi = NormalDist()


def _margins(lower, upper, weight, bias, label, *, merged=True, sign=-1, bias_too=True, zero=True):
    centre, radius = (upper + lower) / 2, (upper - lower) / 2
    rows = weight[label] - weight
    spread = rows.abs() @ radius
    if not merged:
        spread = weight.abs() @ radius
        spread = spread + spread[label]
    if not zero:
        spread[label] = 1.0
    found = rows @ centre + sign * spread
    return found + (bias[label] - bias) if bias_too else found


def _box(images, images_adv, epsilon, share, *, project=True, clip=True, width=1.0, at="adv"):
    tau = share * epsilon
    centre = images_adv if at == "adv" else images
    if project:
        room = epsilon - tau
        centre = torch.minimum(torch.maximum(centre, images - room), images + room)
    lower, upper = centre - width * tau, centre + width * tau
    return (lower.clamp(min=0), upper.clamp(max=1)) if clip else (lower, upper)


def _front(points, *, strict=False, once=False, by=None):
    def beats(q, p):
        if strict:
            return q[0] > p[0] and q[1] > p[1]
        return q[0] >= p[0] and q[1] >= p[1] and q != p

    kept = [p for p in points if not any(beats(q, p) for q in points)]
    return list(dict.fromkeys(kept)) if once else kept


def _accuracy(categories, radii, labels, radius, *, drop=False, right=True, far=True, mean=True):
    good = torch.ones_like(labels, dtype=torch.bool)
    good &= categories == labels if right else True
    good &= radii >= radius if far else True
    good = good[categories >= 0] if drop else good
    return good.double().mean() if mean else good.sum()


def _two(first, second, n, sigma, alpha, *, split=2, factor=0.5, clip=True):
    above = clopper_pearson_lower(first, n, alpha / split)
    below = 1 - clopper_pearson_lower(n - second, n, alpha / split)
    found = sigma * factor * (Phi.inv_cdf(above) - Phi.inv_cdf(below))
    return max(0.0, found) if clip else found


def _winner_alone(first, second, n, sigma, alpha):
    bound = clopper_pearson_lower(first, n, alpha)
    return sigma * Phi.inv_cdf(bound) if bound > 0.5 else 0.0


def _shares(first, second, n, sigma, alpha):
    return sigma / 2 * (Phi.inv_cdf(first / n) - Phi.inv_cdf(second / n))


def _needed(radius, sigma, alpha, *, sides=1, step=0):
    return math.ceil(math.log(alpha / sides) / math.log(Phi.cdf(radius / sigma))) + step


RIGHT = {
    "13.1": _margins,
    "13.2": _box,
    "13.3": _front,
    "13.4": _accuracy,
    "13.5": _two,
    "13.6": _needed,
}


@pytest.mark.parametrize(("number", "attempt"), RIGHT.items(), ids=RIGHT)
def test_right_answers_pass(number, attempt):
    assert verdict(number, attempt) == "correct"


@pytest.mark.parametrize(
    ("number", "attempt"),
    [
        ("13.1", lambda *given: _margins(*given).tolist()),
        ("13.2", lambda *given: [end.float().numpy() for end in _box(*given)]),
        ("13.3", lambda points: set(_front(points)) if len(set(points)) == len(points) else
                 tuple(_front(points))),
        ("13.4", lambda *given: _accuracy(*given).item()),
        ("13.6", lambda *given: float(_needed(*given))),
    ],
)  # fmt: skip
def test_the_same_in_another_form_passes(number, attempt):
    assert verdict(number, attempt) == "correct"


def test_every_check_has_a_right_answer():
    verdict("13.1", None)
    assert {name for name in CHECKS if name.startswith("13.")} == set(RIGHT)


@pytest.mark.parametrize("number", RIGHT)
@pytest.mark.parametrize("stub", [None, ..., lambda *given: ..., lambda *given: None])
def test_stubs_are_not_attempted(number, stub):
    assert verdict(number, stub) == "not attempted yet"


@pytest.mark.parametrize(
    ("number", "attempt", "reason"),
    [
        ("13.1", partial(_margins, merged=False), "different corners"),
        ("13.1", partial(_margins, sign=1), "upper bounds"),
        ("13.1", partial(_margins, sign=0), "a corner of the box"),
        ("13.1", partial(_margins, sign=-2), "not as tightly"),
        ("13.1", partial(_margins, bias_too=False), "biases"),
        ("13.1", partial(_margins, zero=False), "over itself is 0"),
        ("13.1", lambda *given: torch.zeros(3), "4 bounds"),
        ("13.2", partial(_box, project=False), "leaves the ball"),
        ("13.2", partial(_box, clip=False), "outside"),
        ("13.2", partial(_box, width=1.5), "leaves the ball|wider"),
        ("13.2", partial(_box, width=0.0), "one point"),
        ("13.2", partial(_box, at="clean"), "around the attacked"),
        ("13.2", lambda images, *rest: images, "two tensors"),
        ("13.3", partial(_front, strict=True), "is beaten"),
        ("13.3", partial(_front, once=True), "both stay"),
        ("13.3", lambda points: points, "worse than the second"),
        ("13.3", lambda points: 3, "a list of points"),
        ("13.4", partial(_accuracy, drop=True), "left out of the count"),
        ("13.4", partial(_accuracy, right=False), "right or wrong"),
        ("13.4", partial(_accuracy, far=False), "whatever their radius"),
        ("13.4", partial(_accuracy, mean=False), "a share of all"),
        ("13.5", partial(_two, split=1), "α/2 on each"),
        ("13.5", partial(_two, factor=1.0), "σ/2"),
        ("13.5", partial(_two, clip=False), "nothing is certified"),
        ("13.5", _winner_alone, "alone"),
        ("13.5", _shares, "without bounds"),
        ("13.6", partial(_needed, step=-1), "round up"),
        ("13.6", partial(_needed, sides=2), "one-sided"),
        ("13.6", partial(_needed, step=5), "solve"),
    ],
)
def test_wrong_answers_are_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because "), said
    assert re.search(reason, said), said
