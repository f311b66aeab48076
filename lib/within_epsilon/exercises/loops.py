"""What chapter 10's checks of training bring: a beginner's attack, a replay of free training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import count_evaluations
from within_epsilon.exercises.answers import tensor_like
from within_epsilon.exercises.variants import variant
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball

STEP = 0.5


class Leaky:
    """FGSM as beginners write it: its backward leaves gradients in the parameters."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Ball]] = []

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        """Return images one step away; note what came."""
        self.calls.append((images.detach().clone(), ball))
        with torch.enable_grad():
            pixels = images.detach().clone().requires_grad_()
            (20 * cross_entropy(model(pixels), labels)).sum().backward()  # type: ignore[no-untyped-call]
        assert pixels.grad is not None
        return ball.perturb(images.detach(), ball.epsilon * pixels.grad.sign())


def replay(
    attempt: Callable[..., Any], model: nn.Module, images: Tensor, labels: Tensor, ball: Ball
) -> str | None:
    """Judge one replay of free training: its step of SGD, and how it moves δ."""
    draw = torch.Generator().manual_seed(variant(1))
    coins = torch.rand(images.shape, generator=draw, dtype=images.dtype)
    delta = ball.epsilon * (2 * coins - 1)
    before = deepcopy(model)
    for theta in model.parameters():  # what an earlier replay left
        theta.grad = torch.ones_like(theta)
    with count_evaluations(model) as spent:
        given = images.clone(), labels.clone(), delta.clone()
        found = tensor_like(attempt(model, *given, ball, STEP), delta, "the new δ")
    if spent.forwards > len(images):
        return "it asks the model more than once: one forward pass is enough for both gradients"
    if spent.gradients > len(images):
        return (
            "it goes back through the model twice: one backward pass gives the gradient in the "
            "parameters and in the pixels"
        )
    thetas = [theta.detach() for theta in model.parameters()]
    return _wrong_step(thetas, before, images, labels, delta) or _wrong_move(
        found, before, images, labels, delta, ball.epsilon
    )


def _gradients(model: nn.Module, points: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
    """Differentiate the mean loss in the parameters and in the pixels."""
    leaf = points.detach().clone().requires_grad_()
    loss = cross_entropy(model(leaf), labels).mean()
    *slopes, uphill = torch.autograd.grad(loss, [*model.parameters(), leaf])
    return slopes, uphill


def _wrong_step(
    found: list[Tensor], before: nn.Module, images: Tensor, labels: Tensor, delta: Tensor
) -> str | None:
    """Say what is wrong with the parameters after the step of training."""
    starts = [theta.detach() for theta in before.parameters()]
    slopes, _ = _gradients(before, (images + delta).clamp(0, 1), labels)
    clean, _ = _gradients(before, images, labels)

    def ends(changes: list[Tensor], factor: float = 1.0) -> bool:
        pairs = zip(found, starts, changes, strict=True)
        return all(
            torch.allclose(end, start - factor * STEP * change, rtol=1e-5, atol=1e-8)
            for end, start, change in pairs
        )

    if ends(slopes):
        return None
    if ends(slopes, 0):
        return "the parameters have not moved: one of the two gradients is for the step of training"
    if ends([slope + 1 for slope in slopes]):
        return (
            "the gradients that an earlier replay left in the parameters are in the step, too: "
            "clear them"
        )
    if ends(clean):
        return "the step of training is that of the clean images, not of those moved by δ"
    if ends(slopes, -1):
        return "the parameters went uphill: training descends, δ ascends"
    if ends(slopes, len(images)):
        return "the step is that of the sum of the losses, not of their mean"
    return "the parameters have moved, but not by one step of SGD at the images moved by δ"


def _moves(
    before: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, size: float
) -> Iterator[tuple[Tensor, str]]:
    """Yield wrong ways to move δ, each with what to say."""
    _, uphill = _gradients(before, (images + delta).clamp(0, 1), labels)
    inner = delta.clone().requires_grad_()
    loss = cross_entropy(before((images + inner).clamp(0, 1)), labels).mean()
    (cut,) = torch.autograd.grad(loss, inner)
    _, clean = _gradients(before, images, labels)
    signs = uphill.sign()
    yield delta, "δ has not moved: the gradient in the pixels is for its step"
    yield delta + size * signs, "the new δ leaves the ball: clip it to between −ε and ε"
    yield (delta - size * signs).clamp(-size, size), "δ went downhill: it is the adversary's"
    # A step of length 1, clipped, ends at the same corner.
    yield size * signs, "the new δ does not go on from the old one, or its step is longer than ε"
    yield (
        (delta + size * cut.sign()).clamp(-size, size),
        "where a pixel is clipped to 0 or 1 your δ does not move: take the gradient at the "
        "clipped images, not through the clipping",
    )
    yield (
        (delta + size * clean.sign()).clamp(-size, size),
        "δ follows the gradient of the clean images, not of those moved by δ",
    )


def _wrong_move(
    found: Tensor, before: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, size: float
) -> str | None:
    """Say what is wrong with the new δ; outside [0, 1] it may be clipped, or not."""
    _, uphill = _gradients(before, (images + delta).clamp(0, 1), labels)
    right = (delta + size * uphill.sign()).clamp(-size, size)
    if found.abs().max() <= size + 1e-6 and torch.allclose(
        (images + found).clamp(0, 1), (images + right).clamp(0, 1), atol=1e-6
    ):
        return None
    for wrong, reason in _moves(before, images, labels, delta, size):
        if torch.allclose(found, wrong, atol=1e-6):
            return reason
    return "the new δ is not the old one plus ε along the signs of the gradient, within the ball"
