"""Chapter 7's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within_epsilon.attacks import input_gradient
from within_epsilon.exercises import verdict
from within_epsilon.exercises.chapter7 import CLAIMS
from within_epsilon.threat import Ball


def _step(network, normalised, labels, epsilon, mean, std, *, scale=None, clip=True, way=1):
    _, gradient = input_gradient(network, normalised, labels)
    scale = 1 / std if scale is None else scale
    moved = normalised + way * epsilon * scale * gradient.sign()
    return moved.clamp((0 - mean) / std, (1 - mean) / std) if clip else moved


def _by_way_of_pixels(network, normalised, labels, epsilon, mean, std):
    pixels = (normalised * std + mean).requires_grad_()
    loss = torch.nn.functional.cross_entropy(network((pixels - mean) / std), labels)
    (gradient,) = torch.autograd.grad(loss, pixels)
    return ((pixels + epsilon * gradient.sign()).clamp(0, 1).detach() - mean) / std


def _in_pixels(*arguments):
    mean, std = arguments[4:]
    return _by_way_of_pixels(*arguments) * std + mean


def _file(images, images_adv, epsilon):
    floor = torch.ceil(255 * (images - epsilon) - 1e-3)
    ceiling = torch.floor(255 * (images + epsilon) + 1e-3)
    return (images_adv * 255).round().clamp(floor, ceiling).clamp(0, 255) / 255


def _truncated(images, images_adv, _epsilon):
    levels = (255 * images).round()
    return (levels + (255 * images_adv - levels).trunc()) / 255


def _floor_of_the_sum(images, images_adv, epsilon):
    # Where a float falls short of a whole level, a level is lost.
    images, images_adv = images.double(), images_adv.double()
    floor, ceiling = (255 * (images - epsilon)).ceil(), (255 * (images + epsilon)).floor()
    return (images_adv * 255).round().clamp(floor, ceiling).clamp(0, 255) / 255


def _by_way_of_doubles(network, normalised, labels, epsilon, mean, std):
    return _by_way_of_pixels(network, normalised, labels, epsilon, mean, std).double()


def _whole_levels(images, images_adv, epsilon):
    whole, levels = int(255 * epsilon), (255 * images).round()
    return (255 * images_adv).round().clamp(levels - whole, levels + whole) / 255


def _grid(ball, size=201):
    axis = torch.linspace(-1, 1, size) * ball.epsilon
    grid = torch.cartesian_prod(axis, axis)
    return grid[ball.contains(grid)]


def _points(ball, scale=2.0):
    generator = torch.Generator().manual_seed(3)
    return scale * ball.epsilon * torch.randn(200, 2, generator=generator)


def _feasible(project, ball):
    return bool(ball.contains(project(_points(ball)), atol=1e-3).all())


def _idempotent(project, ball):
    found = project(_points(ball))
    return _feasible(project, ball) and bool((project(found) - found).abs().max() < 1e-4)


def _brute_force(project, ball, points=None):
    points = _points(ball) if points is None else points
    best = torch.cdist(points, _grid(ball)).amin(dim=1)
    found = project(points)
    inside = ball.contains(found, atol=1e-4 * ball.epsilon).all()
    return bool(inside and ((found - points).norm(dim=1) <= best + 1e-6).all())


def _by_angles(project, ball):
    points, grid = _points(ball), _grid(ball)
    found = project(points)
    gaps = (points - found) @ grid.T - ((points - found) * found).sum(dim=1, keepdim=True)
    inside = ball.contains(found, atol=1e-4 * ball.epsilon).all()
    return bool(inside and gaps.max() < 1e-3 * ball.epsilon**2)


def _only_outside(project, ball):
    points = _points(ball)
    return _brute_force(project, ball, points[~ball.contains(points)])


def _greedy(gradient, images, epsilon, *, ascending=False, split=False):
    out = torch.zeros_like(gradient)
    for row, g, x in zip(out, gradient, images, strict=True):
        left = epsilon
        for i in g.abs().flatten().argsort(descending=not ascending).tolist():
            slope = g.view(-1)[i]
            room = (1 - x.view(-1)[i]) if slope > 0 else x.view(-1)[i]
            spend = min(left, float(room) * (slope != 0)) / (2 if split else 1)
            row.view(-1)[i] = spend * slope.sign()
            left -= spend
    return out


def _one_pixel(gradient, images, epsilon):
    return Ball("l1", epsilon).perturb(images, epsilon * Ball("l1", 1).steepest(gradient)) - images


def _clip(images, delta):
    return (images + delta).clamp(0, 1) - images


def _exact(delta, images, norm, epsilon, *, per_image=True):
    if norm == "l1":
        points = (images + delta).double()
        return (Ball("l1", epsilon).within(images.double()).nearest(points) - images).float()
    ball, out = Ball(norm, epsilon), torch.zeros_like(delta)
    chunks = range(len(delta)) if per_image else [slice(None)]
    for i in chunks:
        rows = slice(i, i + 1) if per_image else i
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            fits = ball.contains(_clip(images[rows], middle * delta[rows])).all()
            low, high = (middle, high) if fits else (low, middle)
        whole = _clip(images[rows], delta[rows])
        out[rows] = whole if ball.contains(whole).all() else _clip(images[rows], low * delta[rows])
    return out


ALLOWED = {text: right for text, (right, _) in CLAIMS.items()}

WRONG = [
    ("7.1", {**ALLOWED, "every pixel ± 8/255, clipped": False}, "border belongs"),
    ("7.1", {**ALLOWED, "one black pixel made white": True}, "255/255"),
    ("7.1", dict.fromkeys(CLAIMS, True), "4 more are wrong"),
    ("7.1", {**ALLOWED, "a printed sticker on the object": ...}, "nothing yet for a printed"),
    ("7.1", list(ALLOWED.values()), "must be a dictionary"),
    ("7.1", {**ALLOWED, "a black pixel 5/255 darker, unclipped": "no"}, "True or False, got str"),
    ("7.2", lambda *a: _step(*a, scale=1.0), "added to normalised values"),
    ("7.2", lambda *a: _step(*a, scale=1 / a[5].mean()), "σ of its own"),
    ("7.2", lambda *a: _step(*a, scale=a[5]), "σ of its own"),
    ("7.2", lambda *a: _step(*a, clip=False), "what are 0 and 1 after normalising"),
    ("7.2", lambda *a: _step(*a, clip=False).clamp(0, 1), "clips *normalised* values"),
    ("7.2", lambda *a: _step(*a, way=-1), "down the loss"),
    ("7.2", _in_pixels, "returns pixels"),
    ("7.2", lambda *a: a[1].clone(), "no pixel moved"),
    ("7.2", lambda *a: _step(*a, scale=1.0).clamp(0, 1), "clips *normalised* values"),
    ("7.2", lambda *a: _step(*a) * float("nan"), "no numbers"),
    ("7.3", lambda x, a, e: _whole_levels(x, a, e), "an allowed level is nearer"),
    ("7.3", lambda x, a, e: (a * 255).round() / 255, "moved by 2 levels"),
    ("7.3", lambda x, a, e: a, "between two levels"),
    ("7.3", lambda x, a, e: 255 * _file(x, a, e), "not levels"),
    ("7.3", lambda x, a, e: x, "an allowed level is nearer"),
    ("7.3", _truncated, "an allowed level is nearer"),
    ("7.3", _floor_of_the_sum, "an allowed level is nearer"),
    ("7.3", lambda x, a, e: _file(x, a, e) * float("nan"), "no numbers"),
    ("7.4", lambda p, b: True, "it accepts one that changes nothing"),
    ("7.4", lambda p, b: False, "is none"),
    ("7.4", _feasible, "accepts one that sends every point to 0"),
    ("7.4", _idempotent, "accepts one that sends every point to 0"),
    ("7.4", _only_outside, "inside to the border"),
    ("7.4", lambda p, b: p(_points(b)), "True or False"),
    (
        "7.4",
        lambda p, b: torch.allclose(p(_points(b)), b.project(_points(b))),
        "asks for `.project`",
    ),
    ("7.4", lambda p, b: b.norm == "l2", "asks for `.norm`"),
    ("7.5", _one_pixel, "then the next"),
    ("7.5", lambda g, x, e: e * Ball("l1", 1).steepest(g), "leaves [0, 1]"),
    ("7.5", lambda g, x, e: _greedy(g, x, e, ascending=True), "then the next"),
    ("7.5", lambda g, x, e: _clip(x, e * g.sign()), "it spends"),
    ("7.5", lambda g, x, e: _greedy(g, x, e, split=True), "is possible"),
    ("7.5", lambda g, x, e: _greedy(g, x, e) * float("nan"), "no numbers"),
    ("7.6", lambda d, x, n, e: _clip(x, Ball(n, e).project(d)), "projects and then clips"),
    ("7.6", lambda d, x, n, e: Ball(n, e).project(_clip(x, d)), "only"),
    ("7.6", lambda d, x, n, e: Ball(n, e).project(d), "leaves [0, 1]"),
    ("7.6", lambda d, x, n, e: _clip(x, d), "of norm"),
    ("7.6", lambda d, x, n, e: _exact(d, x, n, e, per_image=False), "only"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


def test_a_level_lost_to_a_float_is_noticed():
    # In float32, 255 times an epsilon of two levels may fall short of 2 and be cut to 1.
    def short(images, images_adv, epsilon):
        return _whole_levels(images, images_adv, epsilon * (1 - 1e-7))

    assert "an allowed level is nearer" in verdict("7.3", short)


RIGHT = [
    # Other ways than the printed solution to be right.
    ("7.1", ALLOWED),
    ("7.1", {text: np.bool_(value) for text, value in ALLOWED.items()}),
    ("7.1", {text: torch.tensor(value) for text, value in ALLOWED.items()} | {"more": None}),
    ("7.2", _by_way_of_pixels),
    ("7.2", _by_way_of_doubles),
    ("7.2", _step),
    ("7.2", lambda *a: _step(*a).tolist()),
    ("7.3", _file),
    ("7.3", lambda *a: _file(*a).double().numpy()),
    ("7.3", lambda x, a, e: list(_whole_levels(x, a, e + 1e-8).clamp(0, 1))),
    ("7.4", _brute_force),
    ("7.4", _by_angles),
    ("7.4", lambda p, b: np.bool_(_brute_force(p, b))),
    ("7.4", lambda p, b: torch.tensor(_brute_force(p, b))),
    ("7.5", _greedy),
    ("7.5", lambda g, x, e: _greedy(g, x, e).requires_grad_()),
    ("7.5", lambda g, x, e: _greedy(g, x, e).double().numpy()),
    ("7.6", _exact),
    ("7.6", lambda *a: _exact(*a).numpy()),
    ("7.6", lambda d, x, n, e: _exact(d.double(), x.double(), n, e)),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"


@pytest.mark.parametrize("stub", [{}, dict.fromkeys(CLAIMS, ...)])
def test_a_dictionary_without_answers_is_not_attempted_yet(stub):
    assert verdict("7.1", stub) == "not attempted yet"
