"""Chapter 6's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from within_epsilon.attacks import input_gradient, pgd
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
    ("6.1", _in_place, "came back changed"),
    ("6.2", lambda g, x, e: e * g.abs().flatten(1).sum(dim=1), "cannot become darker"),
    ("6.2", lambda g, x, e: _gain(g, x, e).sum(), "each image has its own"),
    ("6.2", lambda g, x, e: e * g.flatten(1).norm(dim=1), "less than it can"),
    ("6.2", lambda g, x, e: _gain(g, x, 2 * e), "more than δ can reach"),
    ("6.3", lambda *a: _climb(*a, flip=-1.0), "reaches a mean loss of 0.00"),
    ("6.3", lambda *a: _climb(*a, size=1e-4), "does every step look"),
    ("6.3", lambda *a: _by_backward(*a, keep_old=True), "They add up"),
    ("6.3", lambda *a: _by_backward(*a, tidy=False), "left gradients in the model"),
    ("6.3", _on_the_graph, "detach"),
    ("6.3", lambda m, x, y, e, s: _climb(m, x, y, 2 * e, s), "more than ε"),
    ("6.4", lambda *a: _keep(*a, skip="last"), "last step counts"),
    ("6.4", lambda *a: _keep(*a, skip=0), "start counts"),
    ("6.4", lambda *a: _keep(*a, together=True), "each image by itself"),
    ("6.4", _last, "start counts"),
    ("6.5", lambda m, x, y, e: _shared(m, x, y, e, steps=1), "several sign steps"),
    ("6.5", lambda m, x, y, e: _shared(m, x, y, 2 * e), "more than ε"),
    ("6.5", lambda m, x, y, e: torch.zeros_like(x), "one perturbation"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    # Other ways than the printed solution to be right.
    ("6.1", lambda f, x: _differences(f, x, 1e-6)),
    ("6.2", lambda g, x, e: (g * (x.where(g < 0, 1 - x).clamp(max=e) * g.sign())).sum((1, 2, 3))),
    ("6.3", _by_backward),
    ("6.3", _climb),
    ("6.4", _keep),
    ("6.5", _shared),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
