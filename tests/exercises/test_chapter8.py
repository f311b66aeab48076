"""Chapter 8's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.attacks import input_gradient
from within_epsilon.exercises import verdict
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.threat import Ball


def _delta(w, labels, epsilon):
    return -epsilon * (2 * labels - 1).view(-1, 1) * w.sign()


def _random_delta(w, labels, epsilon):
    generator = torch.Generator().manual_seed(5)
    coins = torch.rand(len(w), generator=generator, dtype=w.dtype) > 0.5
    delta = epsilon * torch.where(coins, 1.0, -1.0).to(w)
    # As good as the better of a coin toss and its opposite.
    return -(2 * labels - 1).view(-1, 1) * delta * (delta @ w).sign()


def _along_w(w, labels, epsilon):
    return -epsilon * (2 * labels - 1).view(-1, 1) * w / w.abs().max()


def _dual(rows, norm):
    return rows.norm(p={"linf": 1, "l2": 2, "l1": torch.inf}[norm], dim=1)


def _loss(w, b, images, labels, epsilon):
    margins = (2 * labels - 1) * (images @ w + b)
    return nn.functional.softplus(epsilon * w.abs().sum() - margins).mean()


def _beside(w, b, images, labels, epsilon):
    return _loss(w, b, images, labels, 0.0) + epsilon * w.abs().sum()


def _overflowing(w, b, images, labels, epsilon):
    margins = (2 * labels - 1) * (images @ w + b)
    return (1 + (epsilon * w.abs().sum() - margins).exp()).log().mean()


def _in_l2(w, b, images, labels, epsilon):
    margins = (2 * labels - 1) * (images @ w + b)
    return nn.functional.softplus(epsilon * w.norm() - margins).mean()


def _price_detached(w, b, images, labels, epsilon):
    margins = (2 * labels - 1) * (images @ w + b)
    return nn.functional.softplus(epsilon * w.detach().abs().sum() - margins).mean()


def _radii(weight, bias, images, labels, norm, *, dual=_dual, divide=True, rivals="all", own=False):
    logits = images @ weight.T + bias
    gaps = (logits.gather(1, labels.view(-1, 1)) - logits).scatter(1, labels.view(-1, 1), torch.inf)
    slopes = weight[labels].unsqueeze(1) - weight
    lengths = dual(slopes.flatten(0, 1), norm).view(gaps.shape)
    if own:
        gaps = gaps.scatter(1, labels.view(-1, 1), 0.0)
        return (gaps / lengths).amin(dim=1).clamp(min=0)
    radii = (gaps / lengths if divide else gaps).scatter(1, labels.view(-1, 1), torch.inf)
    if rivals == "runner-up":
        radii = radii.gather(1, gaps.argmin(dim=1, keepdim=True))
    return radii.amin(dim=1).clamp(min=0)


def _by_longest(weight, bias, images, labels, norm):
    return _radii(
        weight, bias, images, labels, norm, dual=lambda rows, n: _dual(rows, n).max().expand(300)
    )


def _of_single_rows(weight, bias, images, labels, norm):
    return _radii(weight, bias, images, labels, norm, dual=lambda _, n: _dual(weight, n).repeat(60))


def _forecast(model, images, labels, *, loss=margin, order=1, mean=False, clamp=True):
    images = images.clone().requires_grad_()
    margins = margin(model(images), labels)
    heights = loss(model(images), labels)
    (slopes,) = torch.autograd.grad(heights.mean() if mean else heights.sum(), images)
    radii = margins.detach() / slopes.flatten(1).norm(p=order, dim=1)
    return radii.clamp(min=0) if clamp else radii


def _by_backward(model, images, labels):
    images = images.clone().requires_grad_()
    margins = margin(model(images), labels)
    margins.sum().backward()
    return margins.detach().clamp(min=0) / images.grad.abs().flatten(1).sum(dim=1)


def _within_pixels(model, images, labels):
    """Walk down the line until the margin is used up, every pixel only as far as 0 or 1."""
    margins, slopes = input_gradient(model, images, labels, loss=margin)
    low, high = torch.zeros(len(images)), torch.ones(len(images))
    for _ in range(40):
        middle = (low + high) / 2
        moved = (images - middle.view(-1, 1, 1, 1) * slopes.sign()).clamp(0, 1)
        left = margins + ((moved - images) * slopes).flatten(1).sum(dim=1)
        low, high = torch.where(left > 0, middle, low), torch.where(left > 0, high, middle)
    return torch.where(margins > 0, high, 0.0)


def _of_the_loss(model, images, labels):
    losses, slopes = input_gradient(model, images, labels)
    return losses * (margin(model(images), labels) > 0) / slopes.abs().flatten(1).sum(dim=1)


def _nearest_rival(model, images, labels):
    """DeepFool's first step: of all rivals' lines the one that crosses zero first."""
    images = images.clone().requires_grad_()
    logits = model(images)
    gaps = logits.gather(1, labels.view(-1, 1)) - logits
    radii = []
    for gap in gaps.unbind(dim=1):
        (slopes,) = torch.autograd.grad(gap.sum(), images, retain_graph=True)
        radii.append(gap.detach() / slopes.flatten(1).norm(p=1, dim=1))
    radii = torch.stack(radii, dim=1).scatter(1, labels.view(-1, 1), torch.inf)
    return radii.amin(dim=1).clamp(min=0)


WRONG = [
    ("8.1", lambda w, y, e: _delta(w, y, e)[0], "shape (4, 64)"),
    ("8.1", lambda w, y, e: 2 * _delta(w, y, e), "only 0.3 is allowed"),
    ("8.1", lambda w, y, e: -e * y.view(-1, 1) * w.sign(), "labels are 0 or 1"),
    ("8.1", lambda w, y, e: -_delta(w, y, e), "for every label the margin rises"),
    ("8.1", lambda w, y, e: -e * w.sign().expand(4, -1), "for label 0 the margin rises"),
    ("8.1", _random_delta, "one of 10,000"),
    ("8.1", _along_w, "one of 10,000"),
    ("8.1", lambda w, y, e: 0.9 * _delta(w, y, e), "all of ε"),
    ("8.2", lambda rows, n: Ball(n, 1.0).length(rows), "*same* norm"),
    ("8.2", lambda rows, n: rows.amax(dim=1) if n == "l1" else _dual(rows, n), "worth as much"),
    ("8.2", lambda rows, n: _dual(rows.view(1, -1), n), "shape (5,)"),
    ("8.2", lambda rows, n: _dual(rows, n) ** 2, "no delta passes"),
    ("8.2", lambda rows, n: _dual(rows, n) / 2, "there is a delta"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, 0.0), "where is ε"),
    ("8.3", _beside, "not beside it"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, -e), "raises them"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, 1 - y, e), "y = +1"),
    ("8.3", lambda w, b, x, y, e: 30 * _loss(w, b, x, y, e), "not the sum"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, e).detach(), "no gradient"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, e) + 1, "at ε = 0"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, 2 * e), "the mean is"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, e).item(), "no gradient"),
    ("8.3", lambda w, b, x, y, e: _loss(w, b, x, y, e).expand(30), "one number"),
    ("8.3", _overflowing, "softplus does not"),
    ("8.3", _in_l2, "the dual of linf"),
    ("8.3", _price_detached, "detached"),
    ("8.4", lambda *a: _radii(*a, rivals="runner-up"), "runner-up"),
    ("8.4", lambda *a: _radii(*a, dual=lambda r, n: Ball(n, 1.0).length(r)), "*dual*"),
    ("8.4", lambda *a: _radii(*a, divide=False), "per unit of ε"),
    ("8.4", lambda *a: _radii(*a) - (_radii(*a) == 0) * 0.1, "radius 0"),
    ("8.4", _by_longest, "is certain"),
    ("8.4", _of_single_rows, "you promise a radius"),
    ("8.5", lambda *a: _forecast(*a, loss=cross_entropy), "not the loss's"),
    ("8.5", _of_the_loss, "that has to reach zero"),
    ("8.5", lambda *a: _forecast(*a, order=2), "ℓ1 norm of the slopes"),
    ("8.5", lambda *a: _forecast(*a, order=torch.inf), "all may move"),
    ("8.5", lambda *a: _forecast(*a, mean=True), "not their mean"),
    ("8.5", lambda *a: _forecast(*a, clamp=False), "radius 0"),
    ("8.5", lambda *a: 2 * _forecast(*a), "the line says"),
    ("8.5", lambda m, x, y: _forecast(m, x, m(x).argmax(dim=1)), "from its label"),
    ("8.5", lambda *a: _forecast(*a).sum(), "shape (50,)"),
    ("8.5", _by_backward, "left gradients in the model"),
    ("8.5", _within_pixels, "without the pixel range"),
    ("8.5", _nearest_rival, "not each rival's own"),
    ("8.4", lambda *a: _radii(*a, own=True), "c = y is no rival"),
    ("8.4", lambda *a: _radii(*a, own=True).nan_to_num(0), "every radius is 0"),
    ("8.2", lambda rows, n: [_dual(rows, n).tolist()], "shape (5,), got shape (1, 5)"),
    ("8.1", lambda w, y, e: w * float("nan"), "shape (4, 64)"),
    ("8.1", lambda w, y, e: _delta(w, y, e) * float("nan"), "only 0.3 is allowed"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


def _by_steepest(w, labels, epsilon):
    step = Ball("linf", 1.0).steepest(w.view(1, -1))
    return torch.where(labels.view(-1, 1) == 1, -epsilon * step, epsilon * step)


def _by_cases(rows, norm):
    return {
        "linf": rows.abs().sum(1),
        "l2": rows.square().sum(1).sqrt(),
        "l1": rows.abs().amax(1),
    }[norm]


def _by_cross_entropy(w, b, images, labels, epsilon):
    h = images @ w + b - epsilon * (2 * labels - 1) * w.abs().sum()
    return nn.functional.cross_entropy(torch.stack([torch.zeros_like(h), h], dim=1), labels)


def _rival_by_rival(weight, bias, images, labels, norm):
    radii = []
    for x, y in zip(images, labels, strict=True):
        z = weight @ x + bias
        candidates = [
            ((z[y] - z[j]) / _by_cases((weight[y] - weight[j]).view(1, -1), norm)).item()
            for j in range(len(z))
            if j != y
        ]
        radii.append(max(0.0, min(candidates)))
    return torch.tensor(radii)


RIGHT = [
    # Other ways than the printed solution to be right.
    ("8.1", _by_steepest),
    ("8.2", _by_cases),
    ("8.3", _by_cross_entropy),
    ("8.4", _rival_by_rival),
    ("8.5", _forecast),
    ("8.5", lambda *a: _forecast(*a).double()),
    ("8.5", lambda *a: _forecast(*a).numpy().tolist()),
    ("8.1", lambda w, y, e: _delta(w, y, e).float().numpy()),
    ("8.1", lambda w, y, e: [(-e if label else e) * w.sign() for label in y]),
    ("8.2", lambda rows, n: _dual(rows, n).tolist()),
    (
        "8.2",
        lambda rows, n: np.linalg.norm(rows.numpy(), {"linf": 1, "l2": 2, "l1": np.inf}[n], axis=1),
    ),
    ("8.3", lambda w, b, x, y, e: _loss(w.float(), b.float(), x.float(), y, e)),
    ("8.3", lambda *a: _loss(*a).view(1)),
    ("8.4", _radii),
    ("8.4", lambda *a: _radii(*a).numpy().astype(np.float32)),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
