"""Checks for chapter 13, Certified training and smoothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from within_epsilon.exercises.answers import describe, number, plain, tensor_like, whole
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import variant
from within_epsilon.exercises.votes import Ballots, HalfSpace, Pair
from within_epsilon.verification import clopper_pearson_lower

Phi = NormalDist()


@exercise("13.1")
def mixing_weight(attempt: Callable[..., Any]) -> str | None:
    """`mixing_weight(low, worst, high)` is MTL-IBP's ω for every digit, (N,)."""
    generator = torch.Generator().manual_seed(variant(0))
    low, wide, share = torch.rand(3, 9, generator=generator).double()
    wide[:2], share[:3], share[3] = 0.0, 0.0, 1.0
    worst, high = low + share * wide, low + wide
    found = tensor_like(attempt(low, worst, high), low, "one weight for each digit")
    ends = wide == 0
    if not found.isfinite().all():
        return "a weight is NaN or infinite: where low and high agree, it divides by 0; 0 is asked"
    if torch.allclose(found, share, atol=1e-6):
        return None
    if torch.allclose(found[~ends], share[~ends], atol=1e-6):
        return "where the ends agree any weight would do, and 0 is asked for"
    if torch.allclose(found[~ends], (1 - share)[~ends], atol=1e-6):
        return "that is 1 − ω, the weight of the attacked loss: ω is that of the bound"
    if torch.allclose(found, found[0].expand(9), atol=1e-6):
        return "it is one weight for all digits: each digit has its own"
    mixed = (1 - found) * low + found * high
    i = int((mixed - worst).abs().argmax())
    return (
        f"digit {i} loses {low[i]:.3f} under attack, at most {high[i]:.3f} by the bound, and "
        f"{worst[i]:.3f} in the worst case: with ω = {found[i]:.3f} the mixture is {mixed[i]:.3f}"
    )


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


def _two(found: Any, what: str) -> tuple[float, float]:
    """Return an answer that consists of two numbers."""
    pair = plain(found)
    pair = pair.tolist() if isinstance(pair, Tensor) and pair.numel() == 2 else pair
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise Wrong(f"it must return {what}, not {describe(pair)}")
    return number(pair[0], what), number(pair[1], what)


@exercise("13.3")
def schedule(attempt: Callable[..., Any]) -> str | None:
    """`schedule(seen, warm_up, ramp, epsilon, clean)` is the radius, and the clean loss's share."""
    own = torch.Generator().manual_seed(variant(0))
    drawn = torch.randint(20, 200, (2,), generator=own).tolist()
    plans = ((0, 300, 0.1, 0.5), (100, 200, 0.3, 0.0), (50, 0, 0.2, 0.25), (*drawn, 0.15, 0.75))
    for warm_up, ramp, epsilon, clean in plans:
        for since in (-warm_up, -1, 0, 1, ramp // 3, ramp, 2 * ramp + 9):
            if warm_up + since < 0:
                continue
            risen = float(since >= 0) if not ramp else min(1.0, max(0, since) / ramp)
            right = risen * epsilon, 1 - (1 - clean) * risen
            found = attempt(warm_up + since, warm_up, ramp, epsilon, clean)
            radius, share = _two(found, "two numbers, radius and share")
            given = f"after {warm_up + since} minibatches, warm_up = {warm_up}, ramp = {ramp}:"
            if radius > epsilon + 1e-6:
                return f"{given} the radius is {radius:g}, and may not pass ε = {epsilon:g}"
            if since <= 0 < ramp and abs(radius) > 1e-6:
                return f"{given} the radius is {radius:g}; until the warm-up is over it is 0"
            if abs(radius - right[0]) > 1e-6:
                return f"{given} the radius is {right[0]:g}, not {radius:g}"
            if abs(share - right[1]) < 1e-6:
                continue
            if abs(share - (1 - right[1])) < 1e-6:
                return f"{given} {share:g} is the bound's share; the clean loss has the rest"
            return (
                f"{given} the clean loss has the share {right[1]:g}, not {share:g}: from 1 it "
                f"falls to κ = {clean:g} while the radius rises, and stays there"
            )
    return None


@exercise("13.4")
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


@exercise("13.5")
def certified_accuracy(attempt: Callable[..., Any]) -> str | None:
    """`certified_accuracy(categories, radii, labels, radius)` counts abstentions as wrong."""
    categories = torch.tensor([3, 3, -1, 5, -1, 0, 7, 1, 2])
    labels = torch.tensor([3, 3, 2, 4, 1, 0, 7, 1, 2])
    radii = torch.tensor([0.6, 0.2, 0.0, 0.7, 0.0, 0.25, 0.1, 0.3, 0.8]).double()
    right = categories == labels
    for radius in (0.25, 0.0, 0.5):
        wanted = (right & (radii >= radius)).double().mean().item()
        found = number(attempt(categories.clone(), radii.clone(), labels.clone(), radius))
        if abs(found - wanted) < 1e-6:
            continue
        if abs(found - (right & (radii > radius)).double().mean().item()) < 1e-6:
            return f"a radius of {radius:g} is left out at {radius:g}: at least includes equal"
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


@exercise("13.6")
def chance_after(attempt: Callable[..., Any]) -> str | None:
    """`chance_after(p, sigma, length)` is what a class keeps at least after a change."""
    generator = torch.Generator().manual_seed(variant(0))
    own = 0.55 + 0.4 * torch.rand(1, generator=generator).item()
    for p, sigma, length in ((own, 0.25, 0.2), (0.99, 0.5, 1.5), (0.4, 1.0, 0.3), (0.9, 0.25, 0.0)):
        found = number(attempt(p, sigma, length), "a probability")
        space = HalfSpace(p, sigma, length)
        if abs(found - space.chance()) > 1e-6:
            return space.reason(found, generator)
    return None


@exercise("13.7")
def radius_from_two(attempt: Callable[..., Any]) -> str | None:
    """`radius_from_two(first, second, n, sigma, alpha)` bounds the runner-up from its own votes."""
    pairs = [
        Pair(700, 200, 1000, 0.5, 0.01),
        Pair(480, 4, 1000, 0.25, 0.01),
        Pair(400, 390, 1000, 0.25, 0.05),
    ]
    radii = [number(attempt(*astuple(pair)), "a radius") for pair in pairs]
    # α may be split in any way that does not depend on the votes.
    for share in (0.5, *pairs[0].shares(radii[0])):
        if all(abs(p.radius(share) - r) < 2e-5 for p, r in zip(pairs, radii, strict=True)):
            return None
    for pair, found in zip(pairs, radii, strict=True):
        first, second, n, sigma, alpha = astuple(pair)
        wanted, given = pair.radius(), f"for {first} and {second} of {n} votes"
        if abs(found - wanted) < 1e-5:
            continue
        if abs(found - pair.radius(risk=2)) < 1e-5:
            return (
                f"{given} each bound may be wrong with probability α, so that one of the two is "
                "with up to 2α: spend α/2 on each"
            )
        if abs(found - pair.between(first / n, second / n)) < 1e-5:
            return f"{given} it takes the shares of votes for the probabilities, without bounds"
        single = clopper_pearson_lower(first, n, alpha)
        if single > 0.5 and abs(found - sigma * Phi.inv_cdf(single)) < 1e-5:
            return f"{given} it uses the winner's votes alone"
        if abs(found - 2 * wanted) < 1e-5:
            return f"{given} it is twice the radius: σ/2 is the factor"
        if wanted == 0 and found < 0:
            return (
                f"{given} it returns {found:.3f}; where the bounds cross, nothing is certified: 0"
            )
        return (
            f"{given}, σ = {sigma:g}, α = {alpha:g}, it is {wanted:.4f} with α/2 for each bound, "
            f"not {found:.4f}; another split of α has to be the same for all votes"
        )
    return None


@exercise("13.8")
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


@exercise("13.9")
def repaired(attempt: Callable[..., Any]) -> str | None:
    """`repaired(count, n_selection, n, sigma, alpha)` certifies from votes that `count` draws."""
    more = variant(0) % 400
    cases = [
        ([10, 60, 30], [500, 8500 + more, 1000 - more], 0.25, 0.001),
        ([0, 0, 100], [0, 0, 10_000], 0.5, 0.001),
        ([45, 55, 0], [6_000, 4_000, 0], 0.25, 0.05),  # the choice was bad: no answer
        ([30, 20, 50], [2_000, 2_910, 5_090], 0.25, 0.01),  # the bound is 0.497
    ]
    for chosen, judged, sigma, alpha in cases:
        ballots, sizes = Ballots(chosen, judged), [sum(chosen), sum(judged)]
        category, radius = _two(attempt(ballots, *sizes, sigma, alpha), "a class and a radius")
        winner = chosen.index(max(chosen))
        bound = clopper_pearson_lower(judged[winner], sizes[1], alpha)
        right = (winner, sigma * Phi.inv_cdf(bound)) if bound > 0.5 else (-1, 0.0)
        given = f"where {chosen} choose and {judged} judge, σ = {sigma:g}, α = {alpha:g},"
        if ballots.asked != sizes:
            asked = " and ".join(map(str, ballots.asked)) or "no"
            return (
                f"{given} it draws {asked} votes, not {sizes[0]} to choose and {sizes[1]} to judge"
            )
        if category == right[0] and abs(radius - right[1]) < 1e-5:
            continue
        if category == judged.index(max(judged)) != winner:
            return f"{given} the votes that judge choose again: the choice was class {winner}"
        if math.isinf(radius):
            return f"{given} the radius is infinite, as if {sizes[1]} votes could show that p = 1"
        if right[0] == -1:
            return (
                f"{given} the bound is {bound:.3f}, not above one half: the answer is −1 with "
                f"radius 0, not {category:g} with {radius:.3f}"
            )
        two_sided = clopper_pearson_lower(judged[winner], sizes[1], alpha / 2)
        if abs(radius - sigma * Phi.inv_cdf(two_sided)) < 1e-5:
            return f"{given} it spends half of α above: the bound is one-sided"
        return f"{given} it is {right[0]} with {right[1]:.4f}, not {category:g} with {radius:.4f}"
    return None
