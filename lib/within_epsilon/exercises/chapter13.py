"""Checks for chapter 13, Certified training and smoothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from within_epsilon.exercises.answers import describe, number, plain, tensor, tensor_like, whole
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import variant
from within_epsilon.verification import clopper_pearson_lower

Phi = NormalDist()


def _merged(lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor, label: int) -> Tensor:
    rows = weight[label] - weight
    centre, radius = (upper + lower) / 2, (upper - lower) / 2
    return rows @ centre - rows.abs() @ radius + bias[label] - bias


@exercise("13.1")
def margins_below(attempt: Callable[..., Any]) -> str | None:
    """`margins_below(lower, upper, weight, bias, label)` bounds z_y - z_j over a box, (k,)."""
    generator = torch.Generator().manual_seed(variant(0))
    for label in (0, 2):
        weight, bias = (torch.randn(*s, generator=generator).double() for s in ((4, 6), (4,)))
        lower = torch.rand(6, generator=generator).double()
        upper = lower + torch.rand(6, generator=generator).double()
        given = lower, upper, weight, bias
        wanted = _merged(*given, label)
        found = tensor(attempt(*given, label), (4,), "4 bounds, one for each class").double()
        if torch.allclose(found, wanted, atol=1e-6):
            continue
        centre, radius = (upper + lower) / 2, (upper - lower) / 2
        z, r = weight @ centre + bias, weight.abs() @ radius
        others = torch.arange(4) != label
        if torch.allclose(found[others], (z[label] - r[label] - z - r)[others], atol=1e-6):
            return (
                "that is the lowest z_y minus the highest z_j: a bound, but the two are attained "
                "at different corners; take the row w_y - w_j first, and then its interval"
            )
        if torch.allclose(found, -_merged(lower, upper, -weight, -bias, label), atol=1e-6):
            return "those are upper bounds: the radius is subtracted for a lower one"
        if torch.allclose(found, _merged(*given[:3], torch.zeros(4).double(), label), atol=1e-6):
            return "the biases are missing: b_y - b_j belongs to the margin"
        corners = torch.stack([torch.where(torch.rand(6, generator=generator) < 0.5, lower, upper)
                               for _ in range(200)])  # fmt: skip
        logits = corners @ weight.T + bias
        least = (logits[:, [label]] - logits).amin(dim=0)
        if (found > least + 1e-6).any():
            return f"for label {label} a corner of the box has a smaller margin than your bound"
        if abs(found[label]) > 1e-6:
            return "the margin of the label over itself is 0, exactly"
        return "it bounds the margins from below, but not as tightly as the box allows"
    return None


@exercise("13.2")
def small_box(attempt: Callable[..., Any]) -> str | None:
    """`small_box(images, images_adv, epsilon, share)` is SABR's box, as lower and upper ends."""
    generator = torch.Generator().manual_seed(variant(0))
    images = torch.rand(3, 1, 4, 4, generator=generator).double()
    images[0, 0, 0], images[1, 0, 0] = 0.0, 1.0
    for epsilon, share in ((0.2, 0.25), (0.1, 0.5)):
        signs = torch.rand(images.shape, generator=generator).sub(0.5).sign()
        images_adv = (images + epsilon * signs).clamp(0, 1)
        pair = plain(attempt(images.clone(), images_adv.clone(), epsilon, share))
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Wrong(f"it must return two tensors, lower and upper ends, not {describe(pair)}")
        lower, upper = (tensor_like(end, images, "an end of the box") for end in pair)
        tau = share * epsilon
        room = epsilon - tau
        centre = torch.minimum(torch.maximum(images_adv, images - room), images + room)
        ends = (centre - tau).clamp(min=0), (centre + tau).clamp(max=1)
        if torch.allclose(lower, ends[0], atol=1e-6) and torch.allclose(upper, ends[1], atol=1e-6):
            continue
        if (lower < images - epsilon - 1e-6).any() or (upper > images + epsilon + 1e-6).any():
            return (
                f"the box leaves the ball of radius {epsilon:g} around the image: bring its "
                f"centre to within {room:g} of the image first"
            )
        if (lower < -1e-6).any() or (upper > 1 + 1e-6).any():
            return "the box holds pixels outside [0, 1], which no image has"
        if ((upper - lower) > 2 * tau + 1e-6).any():
            return f"the box is wider than 2τ = {2 * tau:g}, with τ = share · ε"
        if torch.allclose(upper - lower, torch.zeros_like(lower), atol=1e-6):
            return "its two ends are one point: the box has the radius τ = share · ε"
        return "the box does not lie around the attacked image, as near to it as the ball allows"
    return None


@exercise("13.3")
def front(attempt: Callable[..., Any]) -> str | None:
    """`front(points)` keeps the (clean, certified) pairs that no other pair beats."""
    cases: list[tuple[list[tuple[float, float]], list[int], str]] = [
        ([(0.9, 0.5), (0.8, 0.7), (0.7, 0.6)], [0, 1],
         "the third is worse than the second in both"),
        ([(0.9, 0.5), (0.9, 0.4), (0.8, 0.5)], [0],
         "whoever is equal in one and worse in the other is beaten"),
        ([(0.9, 0.5), (0.9, 0.5), (0.5, 0.9)], [0, 1, 2],
         "two equal points do not beat each other: both stay"),
        ([(0.6, 0.6)], [0], "a single point is a front"),
        ([(0.7, 0.8), (0.95, 0.1), (0.8, 0.75), (0.75, 0.7), (0.96, 0.2)], [0, 2, 4],
         "0.95 / 0.1 is beaten by 0.96 / 0.2, and 0.75 / 0.7 by 0.8 / 0.75"),
    ]  # fmt: skip
    for points, wanted, reason in cases:
        found = plain(attempt(list(points)))
        if isinstance(found, Tensor):
            found = [tuple(row) if isinstance(row, list) else row for row in found.tolist()]
        if not isinstance(found, list | tuple | set):
            raise Wrong(f"it must return a list of points, not {describe(found)}")
        kept = sorted(tuple(point) if isinstance(point, list | tuple) else point for point in found)
        if kept != sorted(points[i] for i in wanted):
            return f"of {points} stay {[points[i] for i in wanted]}, not {kept}: {reason}"
    return None


@exercise("13.4")
def certified_accuracy(attempt: Callable[..., Any]) -> str | None:
    """`certified_accuracy(categories, radii, labels, radius)` counts abstentions as wrong."""
    categories = torch.tensor([3, 3, -1, 5, -1, 0, 7, 1, 2])
    labels = torch.tensor([3, 3, 2, 4, 1, 0, 7, 1, 2])
    radii = torch.tensor([0.6, 0.2, 0.0, 0.7, 0.0, 0.4, 0.1, 0.3, 0.8]).double()
    right = categories == labels
    for radius in (0.25, 0.0, 0.5):
        wanted = (right & (radii >= radius)).double().mean().item()
        found = number(attempt(categories.clone(), radii.clone(), labels.clone(), radius))
        if abs(found - wanted) < 1e-6:
            continue
        answered = categories >= 0
        dropped = (right & (radii >= radius))[answered].double().mean().item()
        if abs(found - dropped) < 1e-6:
            return (
                f"at radius {radius:g} it says {found:.3f}: the two abstentions are left out of "
                "the count. A digit without an answer is not answered right"
            )
        if abs(found - (radii >= radius).double().mean().item()) < 1e-6:
            return "it counts certified answers, right or wrong; only right ones count"
        if abs(found - right.double().mean().item()) < 1e-6:
            return "it counts right answers, whatever their radius"
        if abs(found - 9 * wanted) < 1e-6:
            return "it counts digits; a share of all is asked for"
        return f"at radius {radius:g} it is {wanted:g}, not {found:g}"
    return None


@exercise("13.5")
def radius_from_two(attempt: Callable[..., Any]) -> str | None:
    """`radius_from_two(first, second, n, sigma, alpha)` bounds the runner-up from its own votes."""
    for first, second, n, sigma, alpha in (
        (700, 200, 1000, 0.5, 0.01),
        (480, 150, 1000, 0.25, 0.01),
        (400, 390, 1000, 0.25, 0.05),
    ):

        def both(risk: float, a: int = first, b: int = second, total: int = n) -> list[float]:
            return [
                clopper_pearson_lower(a, total, risk),
                1 - clopper_pearson_lower(total - b, total, risk),
            ]

        def between(pair: list[float], noise: float = sigma) -> float:
            above, below = (Phi.inv_cdf(p) for p in pair)
            return max(0.0, noise / 2 * (above - below))

        found = number(attempt(first, second, n, sigma, alpha), "a radius")
        wanted = between(both(alpha / 2))
        if abs(found - wanted) < 1e-5:
            continue
        given = f"for {first} and {second} of {n} votes"
        if abs(found - between(both(alpha))) < 1e-5:
            return (
                f"{given} each bound may be wrong with probability α, so that one of the two is "
                "with up to 2α: spend α/2 on each"
            )
        if abs(found - between([first / n, second / n])) < 1e-5:
            return f"{given} it takes the shares of votes for the probabilities, without bounds"
        single = both(alpha)[0]
        if single > 0.5 and abs(found - sigma * Phi.inv_cdf(single)) < 1e-5:
            return f"{given} it uses the winner's votes alone"
        if abs(found - 2 * wanted) < 1e-5:
            return f"{given} it is twice the radius: σ/2 is the factor"
        if wanted == 0 and found < 0:
            return (
                f"{given} it returns {found:.3f}; where the bounds cross, nothing is certified: 0"
            )
        return f"{given}, σ = {sigma:g}, α = {alpha:g}, it is {wanted:.4f}, not {found:.4f}"
    return None


@exercise("13.6")
def votes_needed(attempt: Callable[..., Any]) -> str | None:
    """`votes_needed(radius, sigma, alpha)` is the least n that can certify a radius."""
    for radius, sigma, alpha in ((0.25, 0.25, 0.001), (0.5, 0.25, 0.001), (1.0, 0.25, 0.05)):
        probability = Phi.cdf(radius / sigma)
        wanted = math.ceil(math.log(alpha) / math.log(probability))
        found = whole(attempt(radius, sigma, alpha), "a whole number of votes")
        if abs(found - wanted) <= wanted * 1e-9:
            continue
        given = f"for radius {radius:g}, σ = {sigma:g} and α = {alpha:g}"
        if found == wanted - 1:
            return f"{given} {found} votes are one too few: round up"
        if found == math.ceil(math.log(alpha / 2) / math.log(probability)):
            return f"{given} it spends half of α above: the bound is one-sided"
        return f"{given} the least number is {wanted}, not {found}: solve α^(1/n) = Φ(radius / σ)"
    return None
