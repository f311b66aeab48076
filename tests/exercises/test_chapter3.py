"""Chapter 3's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.attacks import input_gradient
from within_epsilon.exercises import verdict
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.threat import Ball


def _naive(logits, temperature, dim):
    weights = (logits / temperature).exp()
    return weights / weights.sum(dim=dim, keepdim=True)


def _one_maximum(logits, temperature, dim):
    return _naive(logits - logits.max(), temperature, dim)


def _clipped(logits, temperature, dim):
    return _naive((logits / temperature).clamp(-60, 60), 1.0, dim)


def _in_place(logits, temperature, dim):
    logits -= logits.amax(dim=dim, keepdim=True)
    return _naive(logits, temperature, dim)


def _through_log(logits, temperature, dim):
    scaled = logits / temperature
    return (scaled - scaled.logsumexp(dim=dim, keepdim=True)).exp()


def _by_autograd(p, g):
    logits = p.log().requires_grad_()
    (gradient,) = torch.autograd.grad((logits.softmax(dim=1) * g).sum(), logits)
    return gradient


def _with_matrices(p, g):
    jacobians = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("nij,ni->nj", jacobians, g)


def _bisect(logits, confidence):
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        sure = (logits.double() / math.exp(middle)).softmax(0).max() > confidence
        low, high = (middle, high) if sure else (low, middle)
    return torch.tensor(math.exp(middle))


def _grid(logits, confidence):
    grid = torch.linspace(0.1, 10, 1000)
    reached = (logits / grid[:, None]).softmax(dim=1).amax(dim=1)
    return grid[(reached - confidence).abs().argmin()].item()


def _step(loss, sign=1.0):
    def attack(model, images, labels, epsilon):
        gradient = input_gradient(model, images, labels, loss)[1]
        return (images + sign * epsilon * gradient.sign()).clamp(0, 1)

    return attack


def _common_size(logits, labels):
    logits = 8 * logits / logits.detach().std(dim=1, keepdim=True)
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def _flat(logits, labels):
    logits = logits / logits.detach().abs().amax() / 100
    return nn.functional.cross_entropy(logits, labels, reduction="none")


WRONG = [
    ("3.1", _naive, "subtract the largest first"),
    ("3.1", _one_maximum, "its own maximum"),
    ("3.1", _clipped, "near 1000"),
    ("3.1", _in_place, "make new ones"),
    ("3.1", lambda z, t, d: _through_log(z, t, -1), "dim=0"),
    ("3.1", lambda z, t, d: _through_log(z, 1.0, d), "temperature 4"),
    ("3.1", lambda z, t, d: _through_log(z, t, d).sum(), "shape (3, 3)"),
    ("3.2", lambda p, g: -_by_autograd(p, g), "sign"),
    ("3.2", lambda p, g: p * g, "lowers the other"),
    ("3.2", lambda p, g: p * (1 - p) * g, "only the diagonal"),
    ("3.2", lambda p, g: p * (g - (g * p).sum()), "whole batch"),
    ("3.2", lambda p, g: p * (g - g.sum(dim=1, keepdim=True)), "must sum to 0"),
    ("3.2", lambda p, g: g - g.mean(dim=1, keepdim=True), "other numbers"),
    ("3.3", lambda z, c: 1 / _bisect(z, c), "1/T"),
    ("3.3", lambda z, c: -1.0, "positive"),
    ("3.3", _grid, "largest probability is"),
    ("3.3", lambda z, c: "hot", "must return a number"),
    ("3.4", _step(cross_entropy), "did not move at all"),
    ("3.4", _step(margin_loss, sign=-1.0), "up the loss"),
    ("3.4", _step(_flat), "logits × 1 "),
    ("3.4", lambda m, x, y, e: x - 2 * e, "[0, 1]"),
    ("3.4", lambda m, x, y, e: (x + 2 * e).clamp(0, 1), "more than ε"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


def test_an_attack_that_a_high_temperature_stops_is_told_so():
    # Cross-entropy of logits that are only ever made smaller: right at 1 and 1000, weak at 1/1000.
    def attack(model, images, labels, epsilon):
        def loss(logits, labels):
            scale = logits.detach().std(dim=1, keepdim=True)
            return nn.functional.cross_entropy(
                8 * logits / scale.clamp(min=8), labels, reduction="none"
            )

        return fgsm(model, images, labels, Ball("linf", epsilon), loss=loss)

    assert "nearly equal" in verdict("3.4", attack)


RIGHT = [
    # Other ways than the printed solution to be right.
    ("3.1", _through_log),
    ("3.1", lambda z, t, d: torch.softmax(z.double() / t, dim=d)),
    ("3.2", _by_autograd),
    ("3.2", _with_matrices),
    ("3.3", _bisect),
    ("3.4", _step(_common_size)),
    ("3.4", lambda m, x, y, e: pgd(m, x, y, Ball("linf", e), steps=5, loss=margin_loss)),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
