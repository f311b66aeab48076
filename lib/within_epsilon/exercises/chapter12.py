"""Checks for chapter 12, Verification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import number, plain, tensor, tensor_like
from within_epsilon.exercises.patterns import pieces
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import jittered, variant
from within_epsilon.models import mlp
from within_epsilon.threat import Ball
from within_epsilon.verification import crown


def _random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(variant(seed))
    return torch.randn(*shape, generator=generator)


def _parts(found: Any, names: tuple[str, ...]) -> list[Any]:
    """Return the parts of an answer that has several."""
    found = plain(found)
    if isinstance(found, Tensor) and found.ndim and len(found) == len(names):
        found = list(found)
    if not isinstance(found, list | tuple) or len(found) != len(names):
        raise Wrong(f"it must return {len(names)} things: {', '.join(names)}")
    return list(found)


@exercise("12.1")
def margin_bounds(attempt: Callable[..., Any]) -> str | None:
    """`margin_bounds(weight, bias, label, lower, upper)` are the exact least margins."""
    weight, bias, middle = _random(0, 4, 6), _random(1, 4), _random(2, 6)
    radius = _random(3, 6).abs() + 0.1
    lower, upper = middle - radius, middle + radius
    for label in (0, 2):
        rivals = [j for j in range(4) if j != label]
        rows = weight[label] - weight[rivals]
        corners = torch.where(rows > 0, lower, upper)
        right = (rows * corners).sum(dim=1) + bias[label] - bias[rivals]
        found = tensor_like(attempt(weight, bias, label, lower, upper), right, "k - 1 bounds")
        if torch.allclose(found, right, atol=1e-4):
            continue
        spread = weight.abs() @ radius
        logits = weight @ middle + bias
        apart = (logits - spread)[label] - (logits + spread)[rivals]
        if torch.allclose(found, apart, atol=1e-4):
            return (
                "those are bounds of the two logits, subtracted: they hold, and are too low, since "
                "both logits cannot be at their worst for the same h; subtract the rows first"
            )
        if torch.allclose(found, rows @ lower + bias[label] - bias[rivals], atol=1e-4):
            return (
                "that is the margin at the lower end of every number: where a weight is negative, "
                "the upper end is the worse one"
            )
        if torch.allclose(found, right - bias[label] + bias[rivals], atol=1e-4):
            return "the bias is missing"
        if (found > right + 1e-4).any():
            return (
                f"label {label}: a bound is {(found - right).max():.3g} above the margin of an h "
                "in the box, so it does not hold"
            )
        return f"label {label}: bounds hold, and are up to {(right - found).max():.3g} too low"
    return None


def _leaky(z: Tensor, leak: float) -> Tensor:
    return torch.where(z >= 0, z, leak * z)


@exercise("12.2")
def leaky_lines(attempt: Callable[..., Any]) -> str | None:
    """`leaky_lines(lower, upper, leak)`: slope and height above, slope below."""
    sides = [
        [-1.0, -2.0, 0.5, -3.0, 0.0, -1.0, -3.0, 0.0],
        [2.0, 1.0, 2.0, -1.0, 1.0, 0.0, 2.9, 0.0],
    ]
    lower, upper = (jittered(torch.tensor(side, dtype=torch.float64)) for side in sides)
    for leak in (0.1, 0.4):
        names = ("the slope above", "the height above", "the slope below")
        parts = _parts(attempt(lower, upper, leak), names)
        slope, height, below = (tensor_like(part, lower, "a tensor") for part in parts)
        if not torch.stack([slope, height, below]).isfinite().all():
            return "something is infinite or NaN: where both ends are 0 the chord divides 0 by 0"
        for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
            z = torch.linspace(low, high, 101, dtype=torch.float64)
            truth, where = _leaky(z, leak), f"λ = {leak:g}, z from {low:g} to {high:g}"
            above = slope[i] * z + height[i]
            if (above < truth - 1e-5).any():
                return f"{where}: the line above falls below the function"
            if (below[i] * z > truth + 1e-5).any():
                return f"{where}: the line below rises above the function"
            ends = torch.tensor([0, 100])
            if ((above - truth)[ends] > 1e-5).any():
                return f"{where}: the line above is not the lowest one, which joins both ends"
            if not (low < 0 < high):
                if ((truth - below[i] * z) > 1e-5).any():
                    return f"{where}: a stable neuron is a line, below too"
                continue
            wanted = 1.0 if high > -low else leak
            if abs(below[i].item() - wanted) > 1e-5:
                return (
                    f"{where}: the line below leaves a larger area with slope {below[i]:g} than "
                    f"with {wanted:g}"
                )
    return None


@exercise("12.3")
def over_relu(attempt: Callable[..., Any]) -> str | None:
    """`over_relu(A, below, above, offset)` stays above A · ReLU(z)."""
    lower = torch.tensor([-1.0, -2.0, 0.5, -3.0, -0.5])
    upper = torch.tensor([2.0, 1.0, 2.0, -1.0, 0.4])
    on, off = lower >= 0, upper <= 0
    doubt = ~(on | off)
    above = torch.where(doubt, upper / (upper - lower), on.float())
    offset = torch.where(doubt, -above * lower, 0.0)
    below = torch.where(doubt, torch.tensor([1.0, 0.3, 0.0, 0.0, 0.7]), on.float())
    A = _random(0, 3, 5)
    plus, minus = A.clamp(min=0), A.clamp(max=0)
    right, constants = plus * above + minus * below, plus @ offset
    parts = _parts(attempt(A, below, above, offset), ("coefficients", "constants"))
    found = tensor_like(parts[0], right, "coefficients")
    added = tensor_like(parts[1], constants, "constants")
    if torch.allclose(found, right, atol=1e-5) and torch.allclose(added, constants, atol=1e-5):
        return None
    if torch.allclose(found, plus * below + minus * above, atol=1e-5):
        return "that stays *below*: it is the chapter's own step; here the roles change"
    if torch.allclose(found, right, atol=1e-5):
        if torch.allclose(added, minus @ offset, atol=1e-5):
            return "the coefficients are right; the offset belongs to the line *above* now"
        return "the coefficients are right, the constants are not: which lines have an offset?"
    z = lower + (upper - lower) * torch.rand(500, 5, generator=torch.Generator().manual_seed(0))
    gap = z @ found.T + added - z.relu() @ A.T
    if gap.min() < -1e-5:
        return f"for some z it is {-gap.min():.3g} below A · ReLU(z), and has to be above"
    return "it stays above, but with other lines than those that are given"


@exercise("12.4")
def verdict(attempt: Callable[..., Any]) -> str | None:
    """`verdict(status, fun, dual_bound, replayed)` is proved, refuted or unknown."""
    cases: list[tuple[tuple[Any, ...], str, str]] = [
        ((0, 0.5, 0.5, 0.5), "proved", "finished, and the dual bound is positive"),
        ((0, -0.5, -0.5, -0.5), "refuted", "the network's own margin is negative"),
        ((1, 4.2, -0.8, 4.2), "unknown", "stopped: 4.2 is the margin of one image only"),
        ((0, 4.2, -0.8, 4.2), "unknown", "it calls itself optimal, with a gap that was allowed"),
        ((4, 0.7, 0.2, 0.7), "proved", "stopped, but its dual bound is positive already"),
        ((1, 0.7, None, 0.7), "unknown", "there is no dual bound"),
        ((1, None, None, None), "unknown", "it has found nothing and proved nothing"),
        ((1, None, 0.3, None), "proved", "a dual bound needs no point"),
        ((0, -0.5, -0.5, 0.01), "unknown", "the network does not confirm the solver's point"),
        ((1, -0.1, -2.0, -0.1), "refuted", "one image suffices, whether finished or not"),
        ((0, 1e-5, 1e-5, 2e-5), "unknown", "a bound of 0.00001 is within the solver's tolerance"),
        ((2, None, None, None), "unknown", "a program that has a solution is called infeasible"),
        ((2, None, 5.0, None), "unknown", "a program that has a solution is called infeasible"),
        ((0, 0.4, 0.4, -0.2), "refuted", "the network contradicts the bound, and it is right"),
    ]
    for arguments, wanted, reason in cases:
        found = attempt(*arguments)
        if not isinstance(found, str):
            raise Wrong(f"it must return 'proved', 'refuted' or 'unknown', got {found!r}")
        if found != wanted:
            status, fun, dual, replayed = arguments
            return (
                f"status {status}, fun {fun}, dual bound {dual}, replayed {replayed}: that is "
                f"{wanted}, not {found}; {reason}"
            )
    return None


def _sums(weight: Tensor, bias: Tensor, h: Tensor) -> list[Tensor]:
    """Compute a layer in float32, in several orders of summation."""
    products = weight * h
    forward = torch.cat([products, bias.unsqueeze(1)], dim=1)
    results = [weight @ h + bias]
    for order in (forward, forward.flip(1)):
        total = torch.zeros_like(bias)
        for column in order.unbind(dim=1):
            total = total + column
        results.append(total)
    return results


@exercise("12.5")
def allowance(attempt: Callable[..., Any]) -> str | None:
    """`allowance(weight, bias, largest)` bounds what float32 is off by."""
    for seed, n in ((0, 20), (1, 200), (2, 2000)):
        weight, bias, h = _random(seed, 5, n), _random(seed + 10, 5), _random(seed + 20, n)
        # Terms that cancel: large ones come twice, with both signs.
        half = n // 2
        weight[1, half:], h = -weight[1, :half], torch.cat([h[:half], h[:half]])
        weight[1] *= 1000
        largest = h.abs() * 1.5
        wide = weight.double()
        terms = n + 1
        share = terms * 2.0**-24 / (1 - terms * 2.0**-24)
        right = share * (wide.abs() @ largest.double() + bias.double().abs())
        found = tensor(attempt(weight, bias, largest), (5,), "one allowance for each output")
        found = found.detach().double()
        exact = wide @ h.double() + bias.double()
        error = torch.stack([(s.double() - exact).abs() for s in _sums(weight, bias, h)])
        if (found < 0).any():
            return "an allowance is a size, and cannot be negative"
        worst = error.amax(dim=0)
        if (worst > found).any():
            i = int((worst - found).argmax())
            cancels = (
                "; its terms cancel, and their sizes are what counts: |W|, before the sum"
                if i == 1
                else ""
            )
            return (
                f"a layer with {n} inputs is off by {worst[i]:.2g} in float32, more than your "
                f"{found[i]:.2g}{cancels}"
            )
        if (found < right * (1 - 1e-3)).any():
            without = share * (wide.abs() @ largest.double())
            if torch.allclose(found, without, rtol=1e-4, atol=0):
                return "the bias is a term of the sum as well: |b| is missing"
            return (
                f"with {n} inputs it is {found.min():.2g} where the formula has "
                f"{right[found.argmin()]:.2g}: it held here by luck, and another order of the "
                "sum may break it"
            )
        if (found > 3 * right).any():
            return (
                f"it holds, but with {n} inputs it is {(found / right).max():.1f} times the "
                "formula's: how many roundings are there?"
            )
    return None


def _probe() -> tuple[nn.Module, Tensor, Tensor]:
    """Two classes by the first pixel: right and certain, wrong and certain, near the border."""
    model = mlp(4, 2).eval()
    with torch.no_grad():
        layer = model[1]
        assert isinstance(layer, nn.Linear)
        layer.weight[:] = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]])
        layer.bias[:] = torch.tensor([-0.5, 0.5])
    first = jittered(torch.tensor([0.9, 0.95, 0.8, 0.1, 0.2, 0.55, 0.45, 0.52, 0.9, 0.15]))
    images = torch.full((10, 1, 2, 2), 0.5)
    images[:, 0, 0, 0] = first
    labels = torch.tensor([0, 0, 0, 1, 1, 0, 1, 1, 1, 0])
    return model, images, labels


@exercise("12.6")
def certified_counts(attempt: Callable[..., Any]) -> str | None:
    """`certified_counts(model, images, labels, ball)`: right, wrong, not certified."""
    model, images, labels = _probe()
    for ball in (Ball("linf", 0.1), Ball("linf", 0.01), Ball("linf", 0.45)):
        with torch.no_grad():
            answers = model(images).argmax(dim=1)
        stays = crown(model, images, answers, ball).certified
        good = int((stays & (answers == labels)).sum())
        bad = int((stays & (answers != labels)).sum())
        right = [good, bad, len(labels) - good - bad]
        parts = _parts(
            attempt(model, images, labels, ball),
            ("certified and right", "certified and wrong", "not certified"),
        )
        found = [tensor(part, (), "three whole numbers").item() for part in parts]
        if found == right:
            continue
        said = f"{ball}: {found[0]:g}, {found[1]:g} and {found[2]:g}"
        if found == [good, 0, len(labels) - good]:
            return (
                f"{said}. You certify the labels, so a wrong answer never counts as certified: "
                "certify what the network answers"
            )
        if found[0] == good + bad:
            return f"{said}. {bad} of those that you call right are wrong, provably"
        if sum(found) != len(labels):
            return f"{said}, which are {sum(found):g} in all, of {len(labels)} pictures"
        return f"{said}; expected {right[0]}, {right[1]} and {right[2]}"
    return None


@exercise("12.7")
def least_margin(attempt: Callable[..., Any]) -> str | None:
    """`least_margin(layers, lower, upper)` is exact, by an LP for each pattern of ReLUs."""
    for case in pieces():
        found = number(attempt(case.layers, case.lower, case.upper), "the least margin")
        if not abs(found - case.margins().min().item()) < 1e-6:
            return case.reason(found)
    return None
