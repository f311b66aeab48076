"""Chapter 13's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math
import re
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
import torch

from within_epsilon.exercises import verdict
from within_epsilon.exercises.registry import CHECKS
from within_epsilon.verification import clopper_pearson_lower

Phi = NormalDist()


def _mixing(low, worst, high, *, top="worst", base="low", ties=0.0):
    ends = {"low": low, "worst": worst, "high": high}
    found = (ends[top] - low) / (high - (low if base == "low" else 0))
    return torch.where(high == low, ties, found)


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


def _chance(p, sigma, length, *, by=None, sign=-1):
    return Phi.cdf(Phi.inv_cdf(p) + sign * (length / sigma if by is None else length * by))


def _two(first, second, n, sigma, alpha, *, split=2, factor=0.5, clip=True):
    above = clopper_pearson_lower(first, n, alpha / split)
    below = 1 - clopper_pearson_lower(n - second, n, alpha / split)
    found = sigma * factor * (Phi.inv_cdf(above) - Phi.inv_cdf(below))
    return max(0.0, found) if clip else found


def _split(first, second, n, sigma, alpha, *, share=0.2):
    if share == "best":
        grid = [i / 200 for i in range(1, 200)]
        return max(_split(first, second, n, sigma, alpha, share=one) for one in grid)
    above = clopper_pearson_lower(first, n, share * alpha)
    below = 1 - clopper_pearson_lower(n - second, n, (1 - share) * alpha)
    return max(0.0, sigma / 2 * (Phi.inv_cdf(above) - Phi.inv_cdf(below)))


def _winner_alone(first, second, n, sigma, alpha):
    bound = clopper_pearson_lower(first, n, alpha)
    return sigma * Phi.inv_cdf(bound) if bound > 0.5 else 0.0


def _shares(first, second, n, sigma, alpha):
    return sigma / 2 * (Phi.inv_cdf(first / n) - Phi.inv_cdf(second / n))


def _needed(radius, sigma, alpha, *, sides=1, step=0):
    return math.ceil(math.log(alpha / sides) / math.log(Phi.cdf(radius / sigma))) + step


def _schedule(
    seen, warm_up, ramp, epsilon, clean, *, late=True, top=True, zero=True, share="clean", off=0
):
    if ramp == 0 and zero:
        risen = float(seen >= warm_up)
    else:
        risen = (seen - (warm_up if late else 0) + off) / (ramp + off)
        risen = max(0.0, min(1.0, risen) if top else risen)
    shares = {
        "clean": 1 - (1 - clean) * risen,
        "bound": (1 - clean) * risen,
        "gone": 1 - risen,
        "fixed": clean,
    }
    return risen * epsilon, shares[share]


def _repaired(
    count, n_selection, n, sigma, alpha, *,
    twice=False, again=False, normal=False, sides=1, abstain=True, all_n=False,
):  # fmt: skip
    few = count(n if all_n else n_selection)
    many = few if twice else count(n)
    winner = (many if again else few).argmax().item()
    votes = many[winner].item()
    n = many.sum().item()
    bound = clopper_pearson_lower(votes, n, alpha / sides)
    if normal:
        share = votes / n
        bound = share - Phi.inv_cdf(1 - alpha) * (share * (1 - share) / n) ** 0.5
    if bound <= 0.5 and abstain:
        return -1, 0.0
    quantile = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(bound).double())
    return winner, sigma * quantile.item()


RIGHT = {
    "13.1": _mixing,
    "13.2": _box,
    "13.3": _schedule,
    "13.4": _front,
    "13.5": _accuracy,
    "13.6": _chance,
    "13.7": _two,
    "13.8": _needed,
    "13.9": _repaired,
}


@pytest.mark.parametrize(("number", "attempt"), RIGHT.items(), ids=RIGHT)
def test_right_answers_pass(number, attempt):
    assert verdict(number, attempt) == "correct"


@pytest.mark.parametrize(
    ("number", "attempt"),
    [
        ("13.1", lambda *given: _mixing(*given).tolist()),
        ("13.1", lambda low, worst, high: (worst - low) / (high - low).clamp(min=1e-12)),
        ("13.6", lambda *given: torch.tensor(_chance(*given)).double()),
        ("13.6", lambda p, sigma, length: np.float64(1 - Phi.cdf(length / sigma - Phi.inv_cdf(p)))),
        ("13.2", lambda *given: [end.float().numpy() for end in _box(*given)]),
        ("13.4", lambda points: set(_front(points)) if len(set(points)) == len(points) else
                 tuple(_front(points))),
        ("13.5", lambda *given: _accuracy(*given).item()),
        ("13.7", partial(_split, share=0.2)),
        ("13.7", partial(_split, share=0.9)),
        ("13.7", lambda *given: torch.tensor(_split(*given, share=0.01))),
        ("13.8", lambda *given: float(_needed(*given))),
        ("13.3", lambda *given: torch.tensor(_schedule(*given))),
        ("13.3", lambda *given: [np.float32(part) for part in _schedule(*given)]),
        ("13.9", lambda *given: torch.tensor(_repaired(*given), dtype=torch.float64)),
        ("13.9", lambda count, *rest: [*map(np.float64, _repaired(lambda n: count(n), *rest))]),
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
        ("13.1", partial(_mixing, ties=torch.nan), "divides by 0"),
        ("13.1", partial(_mixing, ties=1.0), "0 is asked for"),
        ("13.1", lambda low, worst, high: (high - worst) / (high - low).clamp(min=1e-12), "1 − ω"),
        ("13.1", partial(_mixing, base="high"), "the mixture is"),
        ("13.1", lambda *given: _mixing(*given).mean().expand(9), "one weight for all"),
        ("13.1", lambda *given: _mixing(*given).mean(), "one weight for each digit"),
        ("13.2", partial(_box, project=False), "leaves the ball"),
        ("13.2", partial(_box, clip=False), "outside"),
        ("13.2", partial(_box, width=1.5), "leaves the ball|wider"),
        ("13.2", partial(_box, width=0.0), "one point"),
        ("13.2", partial(_box, at="clean"), "around the attacked"),
        ("13.2", lambda images, *rest: images, "two tensors"),
        ("13.4", partial(_front, strict=True), "is beaten"),
        ("13.4", partial(_front, once=True), "both stay"),
        ("13.4", lambda points: points, "worse than the second"),
        ("13.4", lambda points: 3, "a list of points"),
        ("13.5", partial(_accuracy, drop=True), "left out of the count"),
        ("13.5", partial(_accuracy, right=False), "right or wrong"),
        ("13.5", partial(_accuracy, far=False), "whatever their radius"),
        ("13.5", partial(_accuracy, mean=False), "a share of all"),
        ("13.5", lambda c, r, y, at: ((c == y) & (r > at)).double().mean(), "includes equal"),
        ("13.6", partial(_chance, by=1), "divide it by σ"),
        ("13.6", lambda p, sigma, length: _chance(p, sigma, length, by=sigma), "not multiply"),
        ("13.6", partial(_chance, sign=1), "subtract"),
        ("13.6", lambda *given: 1 - _chance(*given), "all other classes"),
        ("13.6", lambda p, sigma, length: p - length / sigma, "not from p itself"),
        ("13.6", lambda p, sigma, length: sigma * Phi.inv_cdf(p), "the radius"),
        ("13.6", lambda p, sigma, length: sigma * Phi.inv_cdf(p) - length, "radius is left"),
        ("13.6", lambda p, sigma, length: max(0.5, _chance(p, sigma, length)), "100,000 draws"),
        ("13.7", partial(_two, split=1), "α/2 on each"),
        ("13.7", partial(_two, factor=1.0), "σ/2"),
        ("13.7", partial(_two, clip=False), "nothing is certified"),
        ("13.7", _winner_alone, "alone"),
        ("13.7", partial(_split, share="best"), "the same for all votes"),
        ("13.7", lambda *given: 0.9 * _two(*given), "the same for all votes"),
        ("13.7", lambda *given: 0.0, "it is"),
        ("13.7", _shares, "without bounds"),
        ("13.8", partial(_needed, step=-1), "round up"),
        ("13.8", partial(_needed, sides=2), "one-sided"),
        ("13.8", partial(_needed, step=5), "solve"),
        ("13.3", partial(_schedule, late=False), "until the warm-up is over"),
        ("13.3", partial(_schedule, top=False), "may not pass"),
        ("13.3", partial(_schedule, zero=False), "ZeroDivisionError"),
        ("13.3", partial(_schedule, share="bound"), "the clean loss has the rest"),
        ("13.3", partial(_schedule, share="gone"), "falls to κ"),
        ("13.3", partial(_schedule, share="fixed"), "falls to κ"),
        ("13.3", partial(_schedule, off=1), "until the warm-up is over"),
        ("13.3", lambda *given: 0.1, "two numbers"),
        ("13.9", partial(_repaired, twice=True, all_n=True), "draws 10000 votes"),
        ("13.9", partial(_repaired, again=True), "choose again"),
        ("13.9", partial(_repaired, normal=True), "infinite|it is 1 with"),
        ("13.9", partial(_repaired, sides=2), "one-sided"),
        ("13.9", partial(_repaired, abstain=False), "not above one half"),
        ("13.9", partial(_repaired, all_n=True), "to choose"),
        ("13.9", lambda *given: 3, "a class and a radius"),
    ],
)
def test_wrong_answers_are_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because "), said
    assert re.search(reason, said), said
