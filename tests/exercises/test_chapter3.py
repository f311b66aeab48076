"""Chapter 3's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.attacks import fgsm, input_gradient, pgd, random_noise
from within_epsilon.exercises import verdict
from within_epsilon.losses import cross_entropy, dlr, margin_loss
from within_epsilon.models import digits_classifier
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


def _formula(p, g):
    return p * (g - (g * p).sum(dim=-1, keepdim=True))


def _by_numpy(logits, temperature, dim):
    z = logits.numpy().astype(np.float64) / temperature
    weights = np.exp(z - z.max(axis=dim, keepdims=True))
    return weights / weights.sum(axis=dim, keepdims=True)


def _inverse(p, temperature, *, by=1.0):
    logs = p.log()
    return by * temperature * (logs - logs.mean(dim=-1, keepdim=True))


def _jacobian(z, temperature):
    p = _through_log(z, temperature, 0)
    return (torch.diag(p) - p[:, None] * p) / temperature


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


def _on_the_books_network(model, images, labels, epsilon):
    return fgsm(digits_classifier(), images, labels, Ball("linf", epsilon))


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
    ("3.1", _in_place, "changed the `logits`"),
    ("3.1", lambda z, t, d: _through_log(z, t, -1), "dim=0"),
    ("3.1", lambda z, t, d: _through_log(z, 1.0, d), "temperature 4"),
    ("3.1", lambda z, t, d: _through_log(z, t, d).sum(), "shape (3, 3)"),
    ("3.1", lambda z, t, d: torch.softmax(z / t, dim=d), "forbidden"),
    ("3.1", lambda z, t, d: nn.LogSoftmax(d)(z / t).exp(), "forbidden"),
    ("3.1", lambda z, t, d: _naive(z - z.amax(dim=d), t, d), "rows of ordinary logits"),
    ("3.2", lambda p, t: t * p.log(), "mean is off zero"),
    ("3.2", lambda p, t: _inverse(p, 1.0), "temperature 1"),
    ("3.2", lambda p, t: _inverse(p, 1 / t), "its inverse multiplies"),
    ("3.2", lambda p, t: _inverse(p, t, by=-1.0), "the softmax of your logits is"),
    ("3.2", lambda p, t: _inverse(p, t) if p.ndim == 1 else t * (p.log() - p.log().mean()), "mean"),
    ("3.3", lambda p, g: -_formula(p, g), "sign"),
    ("3.3", _by_autograd, "uses autograd"),
    ("3.3", lambda p, g: torch.func.vjp(lambda z: z.softmax(1), p.log())[1](g)[0], "uses autograd"),
    ("3.3", _with_matrices, "matrix of k × k = 7 × 7"),
    (
        "3.3",
        lambda p, g: torch.stack(
            [(torch.diag(a) - torch.outer(a, a)) @ b for a, b in zip(p, g, strict=True)]
        ),
        "matrix of k × k",
    ),
    ("3.3", lambda p, g: p * g, "lowers the other"),
    ("3.3", lambda p, g: p * (1 - p) * g, "only the diagonal"),
    ("3.3", lambda p, g: p * (g - (g * p).sum()), "whole batch"),
    ("3.3", lambda p, g: p * (g - g.sum(dim=1, keepdim=True)), "must sum to 0"),
    ("3.3", lambda p, g: g - g.mean(dim=1, keepdim=True), "other numbers"),
    ("3.4", lambda z, t: t * _jacobian(z, t), "inner derivative is missing"),
    ("3.4", lambda z, t: t * t * _jacobian(z, t), "is 1/T, not T"),
    ("3.4", lambda z, t: -_jacobian(z, t), "sign"),
    ("3.4", lambda z, t: torch.diag(_jacobian(z, t).diagonal()), "off the diagonal"),
    (
        "3.4",
        lambda z, t: torch.autograd.functional.jacobian(lambda v: (v / t).softmax(0), z),
        "uses autograd",
    ),
    ("3.4", lambda z, t: torch.func.jacrev(lambda v: (v / t).softmax(0))(z), "uses autograd"),
    ("3.5", lambda z, c: 1 / _bisect(z, c), "1/T"),
    ("3.5", lambda z, c: -1.0, "positive"),
    ("3.5", _grid, "largest probability is"),
    ("3.5", lambda z, c: "hot", "must return a number"),
    ("3.6", _step(cross_entropy), "did not move at all"),
    ("3.6", _step(margin_loss, sign=-1.0), "up the loss"),
    ("3.6", _on_the_books_network, "up the loss of *this* model"),
    ("3.6", lambda m, x, y, e: x - 2 * e, "[0, 1]"),
    ("3.6", lambda m, x, y, e: (x + 2 * e).clamp(0, 1), "more than ε"),
    (
        "3.6",
        lambda m, x, y, e: pgd(m, x, y, Ball("linf", e), steps=10, loss=margin_loss),
        "one step has one gradient",
    ),
    ("3.6", lambda m, x, y, e: fgsm(m, x, y, Ball("l2", e), loss=margin_loss), "*sign* step"),
    ("3.6", lambda m, x, y, e: x + 0, "did not move at all"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


def test_an_attack_that_a_high_temperature_stops_is_told_so():
    # Cross-entropy of logits that are only ever made smaller: as good at 1 and 1000, not at 1/1000.
    def attack(model, images, labels, epsilon):
        def loss(logits, labels):
            scale = logits.detach().std(dim=1, keepdim=True)
            return nn.functional.cross_entropy(
                8 * logits / scale.clamp(min=8), labels, reduction="none"
            )

        return fgsm(model, images, labels, Ball("linf", epsilon), loss=loss)

    assert "with logits × 0.001" in verdict("3.6", attack)


RIGHT = [
    # Other ways than the printed solution to be right.
    ("3.1", _through_log),
    ("3.1", _by_numpy),
    ("3.1", lambda z, t, d: _naive(z.double() - z.amax(dim=d, keepdim=True), t, d).tolist()),
    ("3.2", _inverse),
    ("3.2", lambda p, t: _inverse(p.double(), t).numpy()),
    ("3.2", lambda p, t: t * (p / p.log().mean(-1, keepdim=True).exp()).log()),
    ("3.3", _formula),
    ("3.3", lambda p, g: _formula(p.float(), g.float()).numpy()),
    ("3.3", lambda p, g: torch.stack([a * (b - a @ b) for a, b in zip(p, g, strict=True)])),
    ("3.4", _jacobian),
    ("3.4", lambda z, t: _jacobian(z, t).float().numpy()),
    ("3.4", lambda z, t: _jacobian(z, t).tolist()),
    ("3.5", lambda z, c: np.float32(_bisect(z, c))),
    ("3.5", lambda z, c: [_bisect(z, c)][0].view(1)),
    ("3.5", _bisect),
    ("3.6", _step(_common_size)),
    ("3.6", _step(_flat)),
    ("3.6", _step(dlr)),
    ("3.6", _step(lambda z, y: -z.gather(1, y[:, None])[:, 0])),
    ("3.6", lambda m, x, y, e: fgsm(m, x, y, Ball("linf", e), loss=margin_loss).double().numpy()),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"


def test_noise_and_the_margin_do_what_exercise_3_6_says():
    shares = []

    def attempt(model, images, labels, epsilon):
        ball = Ball("linf", epsilon)
        up_the_margin = fgsm(model, images, labels, ball, loss=margin_loss)
        for changed in (random_noise(images, ball), up_the_margin):
            with torch.no_grad():
                right = model(changed).argmax(dim=1) == labels
            shares.append(right.double().mean().item())
        return up_the_margin

    verdict("3.6", attempt)
    assert shares[0] == pytest.approx(0.95, abs=0.005)
    assert shares[1] < 0.6
