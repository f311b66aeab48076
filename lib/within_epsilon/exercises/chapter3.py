"""Checks for chapter 3, Logits and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.exercises.answers import number, pictures, tensor_like
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.variants import drawn, jittered, variant
from within_epsilon.exercises.watch import Forbid, Watched, one_gradient, without_autograd
from within_epsilon.models import digits_classifier


@exercise("3.1")
def softmax_at(attempt: Callable[[Tensor, float, int], Tensor]) -> str | None:
    """`softmax_at(logits, temperature, dim)` agrees with torch on any axis and any size."""
    plain = jittered(torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5], [-2.0, -2.0, -1.0]]))
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
        expected = torch.softmax(logits.double() / temperature, dim=dim)
        with Forbid(softmax=True):
            answer = attempt(logits, temperature, dim)
        found = tensor_like(answer, expected, "probabilities")
        # exp(z - LSE(z)) is right too, though less accurate for large logits.
        if not torch.allclose(found, expected, atol=2e-3):
            return reason
    return None


@exercise("3.2")
def logits_of(attempt: Callable[[Tensor, float], Tensor]) -> str | None:
    """`logits_of(p, temperature)` inverts the softmax, with logits of mean zero."""
    cases = [
        (torch.tensor([0.7, 0.2, 0.1]), 1.0),
        (torch.tensor([0.05, 0.9, 0.03, 0.02]), 4.0),
        (torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]), 0.5),
        (torch.tensor([1e-12, 1.0 - 1e-12], dtype=torch.float64), 1.0),
    ]
    for given, temperature in cases:
        p = jittered(given)
        p = p / p.sum(dim=-1, keepdim=True) if p is not given else p
        logs = p.double().log()
        right = temperature * (logs - logs.mean(dim=-1, keepdim=True))
        found = tensor_like(attempt(p, temperature), right, "logits")
        if torch.allclose(found, right, rtol=1e-4, atol=1e-4):
            continue
        where = f"for p = {p.tolist()} at T = {temperature:g}"
        if not found.isfinite().all():
            return f"{where} your logits are not finite"
        back = (found / temperature).softmax(dim=-1)
        if torch.allclose(back, p.double(), atol=1e-5):
            means = found.mean(dim=-1).abs().max().item()
            return (
                f"{where} the softmax of your logits is p, but their mean is off zero by "
                f"{means:.3g}: of all that differ by a constant, return those of mean 0"
            )
        if torch.allclose(found.softmax(dim=-1), p.double(), atol=1e-5):
            return f"{where} you return the logits of temperature 1: p_i / p_j = exp((z_i - z_j)/T)"
        if torch.allclose((found * temperature).softmax(dim=-1), p.double(), atol=1e-5):
            return f"{where} you divide by T: the softmax divides, so its inverse multiplies"
        return (
            f"{where} the softmax of your logits is "
            f"{[round(value, 4) for value in back.flatten().tolist()]}"
        )
    return None


@exercise("3.3")
def softmax_backward(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`softmax_backward(p, g)` is the Jacobian's transpose times g, row by row."""
    generator = torch.Generator().manual_seed(variant(3))
    n, k = 3, 7
    logits, g = torch.randn(2, n, k, generator=generator, dtype=torch.float64)
    p = logits.softmax(dim=1)
    expected = p * (g - (g * p).sum(dim=1, keepdim=True))
    with without_autograd(), Forbid(side=k):
        answer = attempt(p, g)
    found = tensor_like(answer, expected)
    mistakes = [
        (-expected, "the sign is wrong: J[i, j] is p_i (δ_ij - p_j)"),
        (p * g, "that is the diagonal δ_ij alone: raising one logit lowers the other "
         "probabilities"),
        (p * (1 - p) * g, "only the diagonal of J was used: other probabilities depend on the "
         "logit, too"),
        (p * (g - (g * p).sum()), "the sum ran over the whole batch: each example has its own"),
    ]  # fmt: skip
    if torch.allclose(found, expected, atol=1e-6):
        return None
    for value, reason in mistakes:
        if torch.allclose(found, value, atol=1e-6):
            return reason
    total = found.sum(dim=1).abs().max().item()
    if total > 1e-6:
        return (
            "raising all logits of an example together changes nothing, so each row of the result "
            f"must sum to 0; yours sum to up to {total:.2g}"
        )
    return "rows sum to 0, as they must, but autograd finds other numbers"


@exercise("3.4")
def jacobian(attempt: Callable[[Tensor, float], Tensor]) -> str | None:
    """`jacobian(logits, temperature)` is that of softmax(z / T), by the formula."""
    for values, temperature in [([2.0, 1.0, -1.0], 1.0), ([0.5, -1.0, 3.0, 0.0], 4.0),
                                ([0.1, 0.2], 0.5)]:  # fmt: skip
        z = jittered(torch.tensor(values, dtype=torch.float64))
        p = (z / temperature).softmax(dim=0)
        at_one = torch.diag(p) - torch.outer(p, p)
        right = at_one / temperature
        with without_autograd():
            answer = attempt(z, temperature)
        found = tensor_like(answer, right, "the k × k Jacobian")
        if torch.allclose(found, right, atol=1e-6):
            continue
        mistakes = [
            (at_one, "the inner derivative is missing: z / T moves by 1/T when z moves by 1"),
            (at_one * temperature, "the inner derivative of z / T is 1/T, not T"),
            (-right, "the sign is wrong: a logit raises its own probability"),
            (torch.diag(p * (1 - p)) / temperature, "off the diagonal it is not 0: what one class "
             "gains the others lose"),
            (torch.diag(p) / temperature, "that is p_i δ_ij; the p_i p_j are missing"),
        ]  # fmt: skip
        for value, reason in mistakes:
            if torch.allclose(found, value, atol=1e-6):
                return reason
        if found.sum(dim=1).abs().max() > 1e-6:
            return "each row must sum to 0: raising all logits together changes nothing"
        return f"for z = {values} at T = {temperature:g} its corner is {found[0, 0]:.4f}, not " + (
            f"{right[0, 0]:.4f}"
        )
    return None


@exercise("3.5")
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
        logits = jittered(torch.tensor(values))
        temperature = number(attempt(logits, confidence))
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
    """Reads mirrored digits, behind a factor: attacks on the book's own network help little."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.model, self.factor = digits_classifier(), factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.model(images.flip(-1))
        return logits


@exercise("3.6")
def fgsm_any_scale(
    attempt: Callable[[nn.Module, Tensor, Tensor, float], Tensor],
) -> str | None:
    """`fgsm_any_scale(model, images, labels, epsilon)` does as well at any factor."""
    images, labels = drawn(digits().validation, 200)
    images = images.flip(-1)
    epsilon, shares = 0.1, {}
    for factor in (1.0, 1000.0, 0.001):
        model = Watched(_Scaled(factor))
        changed = pictures(attempt(model, images, labels, epsilon), images, epsilon)
        if complaint := one_gradient(model, images):
            return complaint
        with torch.no_grad():
            right = (model(changed).argmax(dim=1) == labels).double().mean().item()
        shares[factor] = right
        if complaint := _not_one_step(changed, images, epsilon):
            return f"with logits × {factor:g}, {complaint}"
        if right > 0.85:
            return (
                f"with logits × {factor:g} the network is still right on {right:.0%}, more than "
                "85%: does the step go up the loss of *this* model, along the gradient's sign?"
            )
        if abs(right - shares[1.0]) > 0.03:
            return (
                f"with logits × {factor:g} the network is right on {right:.0%}, with the logits "
                f"as they are on {shares[1.0]:.0%}: the loss that you climb depends on the factor"
            )
    return None


def _not_one_step(changed: Tensor, images: Tensor, epsilon: float) -> str | None:
    """Complain unless every pixel moved by epsilon, as far as it could, in nearly all images."""
    still = (changed == images).flatten(1).all(dim=1).float().mean().item()
    if still > 0.1:
        return f"{still:.0%} of the images did not move at all: what was rounded to 0 or 1?"
    room = torch.where(changed > images, 1 - images, images).clamp(max=epsilon)
    moves = (changed - images).abs()
    part_way = (moves > 1e-4) & (moves < room - 1e-4)
    if part_way.float().mean() > 0.02:
        return "some pixels moved by less than ε: one *sign* step moves each by ε, up or down"
    return None
