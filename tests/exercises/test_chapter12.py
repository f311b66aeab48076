"""Chapter 12's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from within_epsilon.exercises import verdict
from within_epsilon.exercises.patterns import pieces
from within_epsilon.exercises.variants import VARIABLE
from within_epsilon.verification import Box, branch_and_bound, crown, ibp

UNIT = 2.0**-24


def _margins(weight, bias, label, lower, upper, *, apart=False, signs=True, with_bias=True):
    rivals = [j for j in range(len(bias)) if j != label]
    middle, radius = (lower + upper) / 2, (upper - lower) / 2
    if apart:
        logits, spread = weight @ middle + bias, weight.abs() @ radius
        return (logits - spread)[label] - (logits + spread)[rivals]
    rows = weight[label] - weight[rivals]
    fall = rows.abs() @ radius if signs else rows @ radius
    return rows @ middle - fall + (bias[label] - bias[rivals]) * with_bias


def _leaky(lower, upper, a, *, clamp=True, below=None, chord=True):
    left, right = (lower.clamp(max=0), upper.clamp(min=0)) if clamp else (lower, upper)
    above = (right - a * left) / (right - left).clamp(min=1e-12)
    height = right - above * right if chord else (1 - a) * (right - left)
    choice = torch.where(right > -left, 1.0, a) if below is None else torch.full_like(lower, below)
    return above, height, choice


def _over(rows, below, above, offset, *, swap=False, constants=True):
    plus, minus = rows.clamp(min=0), rows.clamp(max=0)
    if swap:
        return plus * below + minus * above, minus @ offset
    return plus * above + minus * below, (plus if constants else minus) @ offset


def _verdict(status, fun, dual, replayed, *, use="dual", infeasible="unknown", least=1e-3):
    if replayed is not None and replayed < 0:
        return "refuted"
    if status == 2:
        return infeasible
    bound = {"dual": dual, "fun": fun}[use]
    return "proved" if bound is not None and bound > least else "unknown"


def _allowance(weight, bias, largest, *, sizes=True, with_bias=True, unit=UNIT, times=1.0):
    weight, bias, largest = weight.double(), bias.double(), largest.double()
    terms = weight.shape[1] + 1
    total = weight.abs() @ largest if sizes else (weight @ largest).abs()
    return times * terms * unit / (1 - terms * unit) * (total + bias.abs() * with_bias)


def _counts(model, images, labels, ball, *, of="answers", bound=crown):
    answers = model(images).argmax(dim=1)
    stays = (bound(model, images, answers, ball).lower > 0).all(dim=1)
    right = answers == labels
    if of == "labels":
        stays = stays & right
        return stays.sum(), 0, len(labels) - stays.sum()
    if of == "all":
        return stays.sum().item(), 0, len(labels) - stays.sum().item()
    return (stays & right).sum(), (stays & ~right).sum(), (~stays).sum()


def _least(layers, lower, upper, *, held=True, bias=True, sign=1, skip=None):
    first, _, last = layers
    weight, shift, out = first.weight.numpy(), first.bias.numpy(), last.weight[0].numpy()
    best, ends = np.inf, np.stack([lower, upper], axis=1)
    for on in map(np.array, product((0.0, 1.0), repeat=len(shift))):
        side = 1 - 2 * on
        limits = (side[:, None] * weight, -side * shift) if held else ()
        found = linprog(sign * (out * on) @ weight, *limits, bounds=ends)
        constant = (out * on) @ shift + last.bias.item() * bias
        if found.status == 0:
            best = min(best, found.fun + sign * constant)
        elif skip == "zero":
            best = min(best, 0.0)
        elif skip == "constant":
            best = min(best, constant)
        elif skip == "none":
            best = best + found.fun
        elif skip == "nan":
            return float("nan")
    return sign * best


def _corners(layers, lower, upper):
    return layers(torch.cartesian_prod(*torch.stack([lower, upper], dim=1))).min()


CASES = {
    "12.1": {
        "correct": _margins,
        "not attempted": lambda *_: ...,
        "bounds of the two logits, subtracted": lambda *a: _margins(*a, apart=True),
        "the lower end of every number": lambda *a: _margins(*a, signs=False),
        "the bias is missing": lambda *a: _margins(*a, with_bias=False),
        "so it does not hold": lambda *a: _margins(*a) + 0.1,
        "too low": lambda *a: _margins(*a) - 0.1,
    },
    "12.2": {
        "correct": _leaky,
        "a stable neuron is a line": lambda lower, upper, a: (
            *_leaky(lower, upper, a)[:2],
            torch.where((lower < 0) & (upper > 0), _leaky(lower, upper, a)[2], 0.0),
        ),
        "not the lowest one": lambda lower, upper, a: (
            _leaky(lower, upper, a)[0],
            _leaky(lower, upper, a)[1] + 0.1,
            _leaky(lower, upper, a)[2],
        ),
        "the line above falls below": lambda lower, upper, a: (
            *_leaky(lower, upper, a)[:1],
            0 * lower,
            _leaky(lower, upper, a)[2],
        ),
        "with slope 0.1 than with 1": lambda *args: (
            *_leaky(*args)[:2],
            torch.where(args[0] >= 0, 1.0, args[2]),
        ),
        "the line below rises above": lambda *args: _leaky(*args, below=1.2),
        "NaN": lambda lower, upper, a: (
            (upper - a * lower) / (upper - lower),
            0 * lower,
            0 * lower + a,
        ),
        "it must return 3 things": lambda lower, upper, a: lower,
    },
    "12.3": {
        "correct": _over,
        "stays *below*": lambda *a: _over(*a, swap=True),
        "the offset belongs to the line *above*": lambda *a: _over(*a, constants=False),
        "has to be above": lambda rows, below, *_: (rows * below, 0 * rows.sum(dim=1)),
        "other lines": lambda rows, *_: (0 * rows, 99 + 0 * rows.sum(dim=1)),
    },
    "12.4": {
        "correct": _verdict,
        "4.2 is the margin of one image": lambda *a: _verdict(*a, use="fun"),
        "called infeasible": lambda *a: _verdict(*a, infeasible="proved"),
        "within the solver's tolerance": lambda *a: _verdict(*a, least=0),
        "a dual bound needs no point": lambda s, f, d, r: (
            "unknown" if r is None else _verdict(s, f, d, r)
        ),
        "one image suffices": lambda s, f, d, r: (
            "unknown" if s == 1 and r else _verdict(s, f, d, r)
        ),
        "must return 'proved'": lambda *a: True,
    },
    "12.5": {
        "correct": _allowance,
        "sizes are what counts": lambda *a: _allowance(*a, sizes=False),
        "|b| is missing": lambda *a: _allowance(*a, with_bias=False),
        "by luck": lambda w, b, m: _allowance(w, b, m, times=0.2),
        "how many roundings": lambda *a: _allowance(*a, times=10),
        "more than your": lambda *a: _allowance(*a, unit=2.0**-53),
        "negative": lambda *a: -_allowance(*a),
    },
    "12.6": {
        "correct": _counts,
        "You certify the labels": lambda *a: _counts(*a, of="labels"),
        "are wrong, provably": lambda *a: _counts(*a, of="all"),
        "in all, of 10 pictures": lambda *a: (1, 1, 1),
    },
    "12.7": {
        "correct": _least,
        "not attempted": lambda *_: ...,
        "only where the pattern holds": lambda *a: _least(*a, held=False),
        "a pattern counts that no input": lambda *a: _least(*a, skip="zero"),
        "an LP without a solution has no value": lambda *a: _least(*a, skip="constant"),
        "skip the pattern": lambda *a: _least(*a, skip="nan"),
        "TypeError": lambda *a: _least(*a, skip="none"),
        "the centre of the box": lambda layers, low, high: layers((low + high) / 2),
        "the largest margin": lambda *a: _least(*a, sign=-1),
        "the box's corners": _corners,
        "the last layer's bias": lambda *a: _least(*a, bias=False),
        "an input of the box has": lambda *a: _least(*a) + 0.1,
        "no input of the box has": lambda *a: _least(*a) - 0.1,
        "the least margin, got": lambda layers, low, high: low,
    },
}


@pytest.mark.parametrize(
    ("number", "words"), [(number, words) for number, cases in CASES.items() for words in cases]
)
def test_what_the_check_says(number, words):
    said = verdict(number, CASES[number][words])
    assert words in said
    assert said == "correct" or said.startswith(("wrong, because", "not attempted"))


def test_other_right_answers_are_right():
    corners = lambda w, b, y, low, high: [  # noqa: E731
        sum(
            min((w[y] - w[j])[i] * low[i], (w[y] - w[j])[i] * high[i]) for i in range(len(low))
        ).item()
        + (b[y] - b[j]).item()
        for j in range(len(b))
        if j != y
    ]
    assert verdict("12.1", corners) == "correct"
    arrays = lambda *a: [part.numpy() for part in _leaky(*a)]  # noqa: E731
    assert verdict("12.2", arrays) == "correct"
    assert verdict("12.5", lambda *a: _allowance(*a, times=2)) == "correct"
    assert verdict("12.6", lambda *a: _counts(*a, bound=ibp)) == "correct"
    assert verdict("12.7", lambda *a: torch.tensor([_least(*a)])) == "correct"


def _by_search(layers, lower, upper):
    """Let branch and bound find the margin over a second class, whose logit is 0."""
    first, relu, last = layers
    two = nn.Linear(last.in_features, 2).double().requires_grad_(False)
    two.weight[:], two.bias[:] = torch.zeros_like(two.weight), torch.zeros(2)
    two.weight[0], two.bias[0] = last.weight[0], last.bias[0]
    box = Box(lower.unsqueeze(0), upper.unsqueeze(0))
    network = nn.Sequential(first, relu, two)
    (found,) = branch_and_bound(network, box, torch.tensor([0]), gap=0.02, arithmetic="real")
    assert found.upper - found.lower < 0.03
    return found.lower, found.upper


@pytest.mark.parametrize("seed", ["0", "7"])
def test_the_least_margin_is_what_a_grid_and_a_search_find(monkeypatch, seed):
    monkeypatch.setenv(VARIABLE, seed)
    for case in pieces():
        least = case.margins().min().item()
        shares = torch.linspace(0, 1, 61).double().unsqueeze(0)
        ticks = case.lower.unsqueeze(1) + (case.upper - case.lower).unsqueeze(1) * shares
        grid = case.layers(torch.cartesian_prod(*ticks)).min().item()
        assert least - 1e-9 <= grid < least + 0.2
        below, above = _by_search(case.layers, case.lower, case.upper)
        assert below - 1e-6 <= least <= above + 1e-6
    assert verdict("12.7", _least) == "correct"
    assert "pattern holds" in verdict("12.7", lambda *a: _least(*a, held=False))
