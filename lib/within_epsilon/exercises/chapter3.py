"""Checks for chapter 3, Logits and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.evaluation import accuracy
from within_epsilon.exercises.registry import exercise
from within_epsilon.models import digits_classifier


def _shape_complaint(found: object, expected: Tensor) -> str | None:
    if isinstance(found, Tensor) and found.shape == expected.shape:
        return None
    received = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    return f"it must return a tensor of shape {tuple(expected.shape)}, got {received}"


@exercise("3.1")
def softmax_at(attempt: Callable[[Tensor, float, int], Tensor]) -> str | None:
    """`softmax_at(logits, temperature, dim)` agrees with torch on any axis and any size."""
    plain = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5], [-2.0, -2.0, -1.0]])
    cube = torch.linspace(-3, 3, 24).view(2, 3, 4).sin()
    mixed = torch.tensor([[1000.0, 999.0], [1.0, 0.0]])
    cases = [
        (plain, 1.0, 1, "rows of ordinary logits come out wrong: each must sum to 1 by itself"),
        (plain, 1.0, 0, "with dim=0 the classes are the first axis, and each column sums to 1"),
        (cube, 1.0, 1, "the middle axis of three comes out wrong: keep it, keepdim=True"),
        (plain, 4.0, 1, "at temperature 4 it is not the softmax of logits / 4"),
        (plain + 1000, 1.0, 1, "logits near 1000 come out wrong: subtract the largest first"),
        (plain - 1000, 1.0, 1, "logits near -1000 come out wrong: subtract the largest, not 0"),
        (mixed, 1.0, 1, "one row is near 1000, another near 0: each needs its own maximum"),
        (plain, 1e-4, 1, "at temperature 0.0001 it overflows"),
        (1000 * plain, 1e3, 1, "large logits at a large temperature come out wrong: no clipping"),
    ]
    for logits, temperature, dim, reason in cases:
        given = logits.clone()
        found = attempt(given, temperature, dim)
        expected = torch.softmax(logits.double() / temperature, dim=dim).to(logits.dtype)
        if complaint := _shape_complaint(found, expected):
            return complaint
        if not torch.equal(given, logits):
            return "it changed the logits it was given; make new ones"
        # exp(z - LSE(z)) is right too, though less accurate for large logits.
        if not torch.allclose(found.to(expected), expected, atol=2e-3):
            return reason
    return None


@exercise("3.2")
def softmax_backward(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`softmax_backward(p, g)` is the Jacobian's transpose times g, row by row."""
    generator = torch.Generator().manual_seed(3)
    logits, g = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    p = logits.softmax(dim=1)
    found = attempt(p.clone(), g.clone())
    expected = p * (g - (g * p).sum(dim=1, keepdim=True))
    if complaint := _shape_complaint(found, expected):
        return complaint
    found = found.to(expected)
    if torch.allclose(found, expected, atol=1e-6):
        return None
    if torch.allclose(found, -expected, atol=1e-6):
        return "the sign is wrong: J[i, j] is p_i (δ_ij - p_j)"
    if torch.allclose(found, p * g, atol=1e-6):
        return "that is the diagonal δ_ij alone: raising one logit lowers the other probabilities"
    if torch.allclose(found, p * (1 - p) * g, atol=1e-6):
        return "only the diagonal of J was used: other probabilities depend on the logit, too"
    if torch.allclose(found, p * (g - (g * p).sum()), atol=1e-6):
        return "the sum ran over the whole batch: each example has its own"
    total = found.sum(dim=1).abs().max().item()
    if total > 1e-6:
        return (
            "raising all logits of an example together changes nothing, so each row of the result "
            f"must sum to 0; yours sum to up to {total:.2g}"
        )
    return "rows sum to 0, as they must, but autograd finds other numbers"


@exercise("3.3")
def temperature_for(attempt: Callable[[Tensor, float], float]) -> str | None:
    """`temperature_for(logits, confidence)` makes a network as sure as one likes."""
    cases = [
        ([2.0, 1.0, -1.0], 0.9),
        ([2.0, 1.0, -1.0], 0.5),
        ([8.3, 6.9, 2.6, 1.4], 0.999),
        ([300.0, -50.0, 100.0, 20.0, 0.0], 0.25),
        ([0.02, 0.01, 0.0], 0.99),
    ]
    for values, confidence in cases:
        logits = torch.tensor(values)
        found = attempt(logits, confidence)
        try:
            temperature = float(found)
        except (TypeError, ValueError):
            return f"it must return a number, got {type(found).__name__}"
        if not (math.isfinite(temperature) and temperature > 0):
            return f"a temperature is a positive number, got {temperature:g}"
        reached = _confidence(logits, temperature)
        if abs(reached - confidence) <= 1.01e-3:
            continue
        if abs(_confidence(logits, 1 / temperature) - confidence) <= 1.01e-3:
            return "that is 1/T: the temperature divides the logits"
        return (
            f"for logits {values} and confidence {confidence} you found T = {temperature:.4g}, "
            f"where the largest probability is {reached:.3f}"
        )
    return None


def _confidence(logits: Tensor, temperature: float) -> float:
    return (logits.double() / temperature).softmax(dim=0).max().item()


class _Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.model, self.factor = digits_classifier(), factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.model(images)
        return logits


@exercise("3.4")
def fgsm_any_scale(
    attempt: Callable[[nn.Module, Tensor, Tensor, float], Tensor],
) -> str | None:
    """`fgsm_any_scale(model, images, labels, epsilon)` works at any factor on the logits."""
    split, epsilon = digits().validation, 0.1
    images, labels = split.images[:200], split.labels[:200]
    for factor in [1.0, 1000.0, 0.001]:
        model = _Scaled(factor).eval()
        before = images.clone()
        found = attempt(model, images, labels, epsilon)
        if complaint := _shape_complaint(found, images):
            return complaint
        if not torch.equal(images, before):
            return "it changed the images it was given; make new ones"
        found = found.detach()
        if not (found.min() >= 0 and found.max() <= 1):
            return "some pixels left [0, 1]"
        if (found - images).abs().max() > epsilon + 1e-6:
            return "some pixels moved by more than ε"
        right = accuracy(model, found, labels)
        if right > 0.63:
            still = (found == images).flatten(1).all(dim=1).float().mean().item()
            return f"with logits × {factor:g} the network is still right on {right:.0%}" + (
                f", and {still:.0%} of the images did not move at all: what was rounded to 0 or 1?"
                if still > 0.2
                else ", though with the logits as they are it was fooled: with all probabilities "
                "nearly equal, what does your loss push towards?"
                if factor < 1
                else ", one step up the margin leaves 57%: is it the gradient's sign, up the loss?"
            )
    return None
