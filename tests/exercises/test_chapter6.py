"""Chapter 6's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.attacks import fgsm, input_gradient, pgd, random_noise
from within_epsilon.exercises import verdict
from within_epsilon.threat import Ball


def _differences(function, x, step=1e-5, *, central=True, factor=1.0):
    slopes = torch.zeros_like(x)
    for index in range(x.numel()):
        move = torch.zeros_like(x)
        move.view(-1)[index] = step
        back = move if central else 0 * move
        rise = function(x + move) - function(x - back)
        slopes.view(-1)[index] = factor * rise / (2 * step if central else step)
    return slopes


def _in_place(function, x):
    slopes = torch.zeros_like(x)
    for index in range(x.numel()):
        start = function(x)
        x.view(-1)[index] += 1e-8
        slopes.view(-1)[index] = (function(x) - start) / 1e-8
    return slopes


def _gain(gradient, images, epsilon):
    step = epsilon * gradient.sign()
    return (gradient * ((images + step).clamp(0, 1) - images)).flatten(1).sum(dim=1)


def _climb(model, images, labels, epsilon, steps, *, flip=1.0, size=2.5):
    images_adv = images
    for _ in range(steps):
        _, gradient = input_gradient(model, images_adv, labels)
        step = flip * size * epsilon / steps * gradient.sign()
        images_adv = images + (images_adv + step - images).clamp(-epsilon, epsilon)
        images_adv = images_adv.clamp(0, 1)
    return images_adv


def _by_backward(model, images, labels, epsilon, steps, *, keep_old=False, tidy=True):
    images_adv = images.clone().requires_grad_()
    for _ in range(steps):
        if not keep_old:
            images_adv.grad = None
        nn.functional.cross_entropy(model(images_adv), labels).backward()
        with torch.no_grad():
            images_adv += 2.5 * epsilon / steps * images_adv.grad.sign()
            images_adv.clamp_(images - epsilon, images + epsilon).clamp_(0, 1)
    if tidy:
        model.zero_grad()
    return images_adv.detach()


def _clipped_at_the_end(model, images, labels, epsilon, steps):
    images_adv = images
    for _ in range(steps):
        _, gradient = input_gradient(model, images_adv, labels)
        images_adv = images_adv + 2.5 * epsilon / steps * gradient.sign()
    return images_adv.clamp(images - epsilon, images + epsilon).clamp(0, 1)


def _one_by_one(model, images, labels, epsilon, steps):
    rows = zip(images.split(1), labels.split(1), strict=True)
    return torch.cat([_climb(model, *row, epsilon, steps) for row in rows])


def _targeted(model, images, targets, epsilon, steps, **options):
    ball = Ball("linf", epsilon)
    return pgd(model, images, targets, ball, steps=steps, targeted=True, **options)


def _wilson(k, n, z=1.96):
    share, z2 = k / n, z * z
    centre, spread = share + z2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (centre - spread) / (1 + z2 / n), (centre + spread) / (1 + z2 / n)


def _report(
    model,
    attack,
    images,
    labels,
    ball,
    *,
    refuse=True,
    keep=True,
    interval=_wilson,
    noise=random_noise,
):
    def wrong(pixels):
        return model(pixels).argmax(dim=1) != labels

    changed, clean = attack(model, images, labels, ball), wrong(images)
    fallen = wrong(changed)
    if refuse:
        fallen = fallen & ball.admits(images, changed)
    if keep:
        fallen = fallen | clean
    n, share = len(images), fallen.float().mean().item()
    return {
        "threat": str(ball),
        "n": n,
        "clean": clean.float().mean(),
        "attack": share,
        "control": wrong(noise(images, ball)).float().mean(),
        "interval": interval(13, n),
    }


def _smaller_noise(images, ball):
    return ball.perturb(images, 0.5 * (random_noise(images, ball) - images))


def _without(key):
    return lambda *a: {name: value for name, value in _report(*a).items() if name != key}


def _on_the_graph(model, images, labels, epsilon, steps):
    images_adv = images.clone().requires_grad_()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images_adv), labels)
        step = 2.5 * epsilon / steps * torch.autograd.grad(loss, images_adv)[0].sign()
        images_adv = (images_adv + step).clamp(0, 1).clamp(images - epsilon, images + epsilon)
    return images_adv


def _keep(model, images, labels, epsilon, steps, step_size, *, skip=None, together=False):
    images_adv = worst = images
    highest = torch.full((len(images),), -torch.inf)
    for step in range(steps + 1):
        losses, gradient = input_gradient(model, images_adv, labels)
        better = losses > highest
        if together:
            better = (losses.mean() > highest.mean()).expand(len(images))
        if step != (steps if skip == "last" else skip):
            worst = torch.where(better.view(-1, 1, 1, 1), images_adv, worst)
            highest = torch.where(better, losses, highest)
        delta = (images_adv + step_size * gradient.sign() - images).clamp(-epsilon, epsilon)
        images_adv = (images + delta).clamp(0, 1)
    return worst


def _last(model, images, labels, epsilon, steps, step_size):
    ball = Ball("linf", epsilon)
    options = {"steps": steps, "step_size": step_size, "random_start": False}
    return pgd(model, images, labels, ball, **options)


def _shared(model, images, labels, epsilon, steps=20):
    delta = torch.zeros_like(images[:1])
    for _ in range(steps):
        _, gradients = input_gradient(model, (images + delta).clamp(0, 1), labels)
        uphill = gradients.mean(dim=0, keepdim=True).sign()
        delta = (delta + 2.5 * epsilon / steps * uphill).clamp(-epsilon, epsilon)
    return delta


WRONG = [
    ("6.1", lambda f, x: _differences(f, x, 1e-4, central=False), "one-sided"),
    ("6.1", lambda f, x: _differences(f, x, factor=2), "2 times too large"),
    ("6.1", lambda f, x: _differences(f, x, 1e-2), "too long a step"),
    ("6.1", lambda f, x: _differences(f, x, 1e-12), "too short a one"),
    ("6.1", lambda f, x: _differences(lambda p: f(p.float()).double(), x), "float32"),
    ("6.1", lambda f, x: _differences(f, x).sum(), "one slope per entry"),
    ("6.1", _in_place, "changed the `x`"),
    ("6.1", lambda f, x: torch.autograd.grad(f(x.requires_grad_()), x)[0], "uses autograd"),
    ("6.1", lambda f, x: _differences(f, x).float() * float("nan"), "not finite"),
    ("6.2", lambda g, x, e: e * g.abs().flatten(1).sum(dim=1), "cannot become darker"),
    ("6.2", lambda g, x, e: _gain(g, x, e).sum(), "each image its own"),
    ("6.2", lambda g, x, e: e * g.flatten(1).norm(dim=1), "less than it can"),
    ("6.2", lambda g, x, e: _gain(g, x, 2 * e), "more than δ can reach"),
    ("6.2", lambda g, x, e: g.flatten(1).abs().sum(1).tolist()[:4], "got shape (4,)"),
    ("6.3", lambda *a: _climb(*a, flip=-1.0), "step 1 goes down the loss"),
    ("6.3", lambda *a: _climb(*a, size=1e-4), "no sign step of 2.5"),
    ("6.3", lambda *a: _by_backward(*a, keep_old=True), "They add up"),
    ("6.3", lambda *a: _clipped_at_the_end(*a), "clip after *every* step"),
    ("6.3", lambda m, x, y, e, s: pgd(m, x, y, Ball("linf", e), steps=s), "at the clean images"),
    ("6.3", lambda m, x, y, e, s: _climb(m, x, y, e, 2 * s), "takes 20 gradients"),
    ("6.3", lambda m, x, y, e, s: fgsm(m, x, y, Ball("linf", e)), "takes 1 gradients"),
    ("6.3", lambda *a: _by_backward(*a, tidy=False), "left gradients in the model"),
    ("6.3", _on_the_graph, "detach"),
    ("6.3", lambda m, x, y, e, s: _climb(m, x, y, 2 * e, s), "more than ε"),
    ("6.4", lambda m, x, t, e, s: pgd(m, x, t, Ball("linf", e), steps=s), "down its loss"),
    ("6.4", lambda m, x, t, e, s: fgsm(m, x, t, Ball("linf", e), targeted=True), "one gradient"),
    ("6.4", lambda m, x, t, e, s: _targeted(m, x, t, e, s, step_size=e / 100), "long enough"),
    ("6.4", lambda m, x, t, e, s: _targeted(m, x, t, 2 * e, s), "more than ε"),
    ("6.4", lambda m, x, t, e, s: _targeted(m, x, t, e, s).argmax(), "pictures of shape"),
    ("6.5", lambda *a: _keep(*a, skip="last"), "last step counts"),
    ("6.5", lambda *a: _keep(*a, skip=0), "start counts"),
    ("6.5", lambda *a: _keep(*a, together=True), "each image by itself"),
    ("6.5", _last, "start counts"),
    ("6.5", lambda m, x, y, e, s, a: x + 0.2, "more than ε"),
    ("6.6", lambda m, x, y, e: _shared(m, x, y, e, steps=1), "several sign steps"),
    ("6.6", lambda m, x, y, e: _shared(m, x, y, 2 * e), "more than ε"),
    ("6.6", lambda m, x, y, e: torch.zeros_like(x), "one perturbation"),
    ("6.6", lambda m, x, y, e: _shared(m, x, y, e) * float("nan"), "no numbers"),
    ("6.6", lambda m, x, y, e: _shared(m, x[:1], y[:1], e), "of all images together"),
    ("6.7", lambda *a: _report(*a, refuse=False), "*outside* the ball"),
    ("6.7", lambda *a: _report(*a, keep=False), "stays wrong"),
    ("6.7", lambda *a: _report(*a, noise=_smaller_noise), "smaller noise does not"),
    ("6.7", lambda *a: _report(*a, interval=lambda k, n: (0.179, 0.471)), "Wilson"),
    ("6.7", _without("control"), "nothing yet for control"),
    ("6.7", lambda *a: _report(*a) | {"threat": "0.1"}, "norm and ε"),
    ("6.7", lambda *a: _report(*a) | {"attack": 32.5}, "attack is 32.5"),
    ("6.7", lambda *a: 0.325, "must be a dictionary with threat, n,"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    # Other ways than the printed solution to be right.
    ("6.1", lambda f, x: _differences(f, x, 1e-6)),
    ("6.1", lambda f, x: _differences(f, x).numpy()),
    ("6.1", lambda f, x: _differences(f, x, 1e-4 / 3).tolist()),
    ("6.2", lambda g, x, e: (g * (x.where(g < 0, 1 - x).clamp(max=e) * g.sign())).sum((1, 2, 3))),
    ("6.2", _gain),
    ("6.2", lambda g, x, e: _gain(g.double(), x.double(), e)),
    ("6.2", lambda g, x, e: _gain(g, x, e).tolist()),
    ("6.3", _by_backward),
    ("6.3", _climb),
    ("6.3", _one_by_one),
    ("6.3", lambda *a: _climb(*a).double().numpy()),
    ("6.3", lambda m, *a: [m.zero_grad(set_to_none=False), _climb(m, *a)][1]),
    ("6.4", _targeted),
    ("6.4", lambda *a: _targeted(*a, random_start=False).double().numpy()),
    ("6.4", lambda *a: _climb(*a, flip=-1.0)),
    ("6.5", _keep),
    ("6.5", lambda *a: _keep(*a).numpy()),
    ("6.5", lambda *a: list(_keep(*a))),
    ("6.6", _shared),
    ("6.6", lambda *a: _shared(*a)[0, 0].numpy()),
    ("6.6", lambda *a: 1.0 * _shared(*a, steps=40).flatten()),
    ("6.7", _report),
    ("6.7", lambda *a: _report(*a) | {"threat": a[4], "interval": np.array(_wilson(13, 40))}),
    ("6.7", lambda *a: _report(*a) | {"n": np.int64(40), "attack": torch.tensor([0.325])}),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
