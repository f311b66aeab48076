"""Chapter 1's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within_epsilon.attacks import fgsm, input_gradient, pgd
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


def _coins(shape_of):
    """Noise whose coins have a shape of their own, and are shared along its axes of length 1."""

    def noise(images, epsilon, seed):
        generator = torch.Generator().manual_seed(seed)
        coins = torch.randint(0, 2, shape_of(*images.shape), generator=generator)
        return (images + epsilon * (2.0 * coins - 1)).clamp(0, 1)

    return noise


def _numpy_noise(images, epsilon, seed):
    coins = np.random.default_rng(seed).choice([-1.0, 1.0], size=tuple(images.shape))
    return np.clip(images.numpy() + epsilon * coins, 0, 1)


def _near(clean, changed, epsilon):
    return bool((changed - clean).abs().max() <= epsilon + 1e-6)


def _logits(levels, body, mean, std):
    photo = levels.permute(2, 0, 1)[None] / 255
    return body((photo - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))


def _definition(model, clean, changed, label, epsilon):
    picture = bool((changed >= 0).all() and (changed <= 1).all())
    was_right = bool(model(clean).argmax(1) == label)
    return picture and _near(clean, changed, epsilon) and was_right and _errs(model, changed, label)


def _errs(model, changed, label):
    return bool(model(changed).argmax(1) != label)


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


def _least(model, image, label, attack):
    for k in range(1, 1601):
        changed = attack(Ball("linf", k / 100 / 255))
        if model(changed).argmax(1) != label:
            return k / 100 / 255
    return float("inf")


WRONG = [
    ("1.1", lambda a, b, e: bool((b - a).max() <= e + 1e-6), "*down*"),
    ("1.1", lambda a, b, e: bool((b - a).abs().max() <= e + 1e-6), "no pixel"),
    ("1.1", lambda a, b, e: bool((b - a).abs().max() < e), "exactly ε"),
    ("1.1", lambda a, b, e: _near(a[0], b[0], e), "one picture"),
    ("1.1", lambda a, b, e: bool((b - a).abs().mean(0).max() <= e + 1e-6), "one picture"),
    ("1.1", lambda a, b, e: _near(a, b, e + 2 / 255), "more than that"),
    ("1.1", lambda a, b, e: (b - a).abs() <= e, "True or False, got shape (2, 3, 4, 4)"),
    (
        "1.1",
        lambda a, b, e: not ((b - a).abs() > e + 1e-6).any() and not ((b < 0) | (b > 1)).any(),
        "NaN",
    ),
    ("1.2", lambda v, b, m, s: _logits(255.0 * v, b, m, s), "divide by 255"),
    ("1.2", lambda v, b, m, s: _logits(v, b, 0 * m, s / s), "nobody normalised"),
    ("1.2", lambda v, b, m, s: _logits(v, b, m, 1 / s), "divides"),
    ("1.2", lambda v, b, m, s: _logits(v.reshape(3, 6, 4).permute(1, 2, 0), b, m, s), "`permute`"),
    ("1.2", lambda v, b, m, s: _logits(v, b, m, s)[0], "shape (1, 5), got shape (5,)"),
    ("1.2", lambda v, b, m, s: b(v[None]), "it stopped with"),
    ("1.3", _coins(lambda n, c, h, w: (n, 1, 1, 1)), "only makes it brighter or darker"),
    ("1.3", _coins(lambda n, c, h, w: (1, c, h, w)), "all images share"),
    ("1.3", _coins(lambda n, c, h, w: (n, c, h, 1)), "all pixels of a row share"),
    ("1.3", lambda x, e, s: x * float("nan"), "no numbers"),
    ("1.3", _uniform_noise, "exactly ε"),
    ("1.3", _unseeded_noise, "same seed"),
    ("1.3", lambda x, e, s: x + e, "[0, 1]"),
    ("1.3", lambda x, e, s: (x + e).clamp(0, 1), "half of the pixels"),
    ("1.4", lambda m, x, t, e: (x + e * _signs(m, x, t)).clamp(0, 1), "rose"),
    ("1.4", lambda m, x, t, e: x - e * _signs(m, x, t), "[0, 1]"),
    ("1.4", lambda m, x, t, e: (x - e * _signs(m, x, (t - 1) % 10)).clamp(0, 1), "target"),
    ("1.4", lambda m, x, t, e: (x - 2 * e * _signs(m, x, t)).clamp(0, 1), "more than ε"),
    ("1.4", lambda m, x, t, e: (x - e / 2 * _signs(m, x, t)).clamp(0, 1), "one full sign step"),
    ("1.4", lambda m, x, t, e: pgd(m, x, t, Ball("linf", e), targeted=True), "one gradient"),
    (
        "1.4",
        lambda m, x, t, e: pgd(
            m, x, t, Ball("linf", e), steps=2, targeted=True, random_start=False
        ),
        "one gradient",
    ),
    ("1.5", lambda m, x, v, y, e: _errs(m, v, y), "larger than ε"),
    ("1.5", lambda m, x, v, y, e: _near(x, v, e) and _errs(m, v, y), "no pixel"),
    ("1.5", lambda m, x, v, y, e: _definition(m, x, v, y, e) or _errs(m, x, y), "unchanged"),
    ("1.5", lambda m, x, v, y, e: bool(m(x).argmax(1) != m(v).argmax(1)), "larger than ε"),
    ("1.5", lambda m, x, v, y, e: not _definition(m, x, v, y, e), "not adversarial"),
    (
        "1.5",
        lambda m, x, v, y, e: _definition(m, x, v, y, e) and bool(v.mean() > x.mean()),
        "not adversarial",
    ),
    (
        "1.6",
        lambda m, x, y: _least(m, x, y, lambda ball: pgd(m, x, y, ball, steps=5)),
        "one gradient",
    ),
    ("1.6", _by_bisection, "bisection"),
    ("1.6", _in_levels, "divide by 255"),
    ("1.6", lambda m, x, y: "small", "must return a number"),
    ("1.6", lambda m, x, y: float("nan"), "you found nan"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    # Other ways than the printed solution to be right.
    ("1.1", lambda a, b, e: torch.allclose(b, b.clamp(a - e - 1e-6, a + e + 1e-6).clamp(0, 1))),
    (
        "1.1",
        lambda a, b, e: (
            np.abs((b - a).numpy()).max() <= e + 1e-6
            and np.all((b.numpy() >= 0) & (b.numpy() <= 1))
        ),
    ),
    ("1.1", lambda a, b, e: (((b - a).abs() <= e + 1e-6) & (b >= 0) & (b <= 1)).all()),
    ("1.2", _logits),
    ("1.2", lambda v, b, m, s: _logits(v, b, m, s).detach().double().numpy()),
    ("1.2", lambda v, b, m, s: b(((v / 255 - m) / s).permute(2, 0, 1)[None]).tolist()),
    ("1.3", _global_noise),
    ("1.3", _numpy_noise),
    ("1.3", _coins(lambda *shape: shape)),
    ("1.4", lambda m, x, t, e: fgsm(m, x, t, Ball("linf", e), targeted=True)),
    ("1.4", lambda m, x, t, e: (x.double() - e * _signs(m, x, t)).clamp(0, 1).numpy()),
    (
        "1.4",
        lambda m, x, t, e: [
            (a - e * _signs(m, a[None], b[None])[0]).clamp(0, 1) for a, b in zip(x, t, strict=True)
        ],
    ),
    ("1.5", _definition),
    ("1.5", lambda *a: np.bool_(_definition(*a))),
    ("1.5", lambda *a: torch.tensor([_definition(*a)])),
    ("1.6", _in_pixels),
    ("1.6", lambda m, x, y: np.float64(_in_pixels(m, x, y))),
    ("1.6", lambda m, x, y: _least(m, x, y, lambda ball: fgsm(m, x, y, ball))),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
