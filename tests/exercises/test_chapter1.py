"""Chapter 1's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import pytest
import torch

from within_epsilon.attacks import fgsm
from within_epsilon.attacks import input_gradient
from within_epsilon.exercises import verdict
from within_epsilon.threat import Ball


def _signs(model, images, labels):
    return input_gradient(model, images, labels)[1].sign()


def _global_noise(images, epsilon, seed):
    torch.manual_seed(seed)
    return (images + epsilon * (2.0 * torch.randint(0, 2, images.shape) - 1)).clamp(0, 1)


def _uniform_noise(images, epsilon, seed):
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + epsilon * (2 * noise - 1)).clamp(0, 1)


def _unseeded_noise(images, epsilon, _seed):
    return (images + epsilon * (2.0 * torch.randint(0, 2, images.shape) - 1)).clamp(0, 1)


def _by_bisection(model, image, label):
    low, high, sign = 0.0, 16 / 255, _signs(model, image, label)
    for _ in range(20):
        middle = (low + high) / 2
        fooled = model((image + middle * sign).clamp(0, 1)).argmax(1) != label
        low, high = (low, middle) if fooled else (middle, high)
    return high


def _in_levels(model, image, label):
    sign = _signs(model, image, label)
    for k in range(1, 1601):
        if model((image + k / 100 / 255 * sign).clamp(0, 1)).argmax(1) != label:
            return k / 100
    return float("inf")


def _in_pixels(model, image, label):
    return _in_levels(model, image, label) / 255


WRONG = [
    ("1.1", lambda a, b, e: bool((b - a).max() <= e + 1e-6), "*down*"),
    ("1.1", lambda a, b, e: bool((b - a).abs().max() <= e + 1e-6), "no pixel"),
    ("1.1", lambda a, b, e: bool((b - a).abs().max() < e), "exactly ε"),
    ("1.2", _uniform_noise, "exactly ε"),
    ("1.2", _unseeded_noise, "same seed"),
    ("1.2", lambda x, e, s: x + e, "[0, 1]"),
    ("1.2", lambda x, e, s: (x + e).clamp(0, 1), "half of the pixels"),
    ("1.3", lambda m, x, t, e: (x + e * _signs(m, x, t)).clamp(0, 1), "rose"),
    ("1.3", lambda m, x, t, e: x - e * _signs(m, x, t), "[0, 1]"),
    ("1.3", lambda m, x, t, e: (x - e * _signs(m, x, (t - 1) % 10)).clamp(0, 1), "target"),
    ("1.3", lambda m, x, t, e: (x - 2 * e * _signs(m, x, t)).clamp(0, 1), "more than ε"),
    ("1.3", lambda m, x, t, e: (x - e / 2 * _signs(m, x, t)).clamp(0, 1), "one full step"),
    ("1.4", _by_bisection, "bisection"),
    ("1.4", _in_levels, "divide by 255"),
    ("1.4", lambda m, x, y: "small", "must return a number"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    # Other ways than the printed solution to be right.
    ("1.1", lambda a, b, e: torch.allclose(b, b.clamp(a - e - 1e-6, a + e + 1e-6).clamp(0, 1))),
    ("1.2", _global_noise),
    ("1.3", lambda m, x, t, e: fgsm(m, x, t, Ball("linf", e), targeted=True)),
    ("1.4", _in_pixels),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
