"""Checks for chapter 9, Strong attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import comb
from typing import cast

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.exercises.answers import entries, number, pictures, tensor, tensor_like
from within_epsilon.exercises.hills import BALL, Attack, Slope, bugs_in, reach, run
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import drawn, variant
from within_epsilon.exercises.watch import Hidden, Watched
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier


class _Table(nn.Module):
    """A network that reads its three logits off the first three pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * images.flatten(1)[:, :3]


@exercise("9.1")
def worse_of(attempt: Attack) -> str | None:
    """`worse_of(model, labels, first, second)` keeps the worse candidate of every example."""
    # Rows: (first's logits, second's, which is worse); the label is 0.
    cases = [
        ((0.5, 0.4, 0.0), (0.5, 0.3, 0.0), 0, "neither fools: the larger loss is worse"),
        ((0.5, 0.3, 0.0), (0.5, 0.4, 0.0), 1, "neither fools: the larger loss is worse"),
        ((0.1, 0.9, 0.0), (0.5, 0.4, 0.0), 0, "the first fools the model and the second does not"),
        # Two rivals close behind cost more than one barely ahead.
        ((0.5, 0.49, 0.49), (0.5, 0.51, 0.0), 1, "one that fools beats one that does not"),
        ((0.5, 0.51, 0.0), (0.5, 0.49, 0.49), 0, "one that fools beats one that does not"),
        ((0.1, 0.9, 0.0), (0.2, 0.8, 0.0), 0, "both fool: the larger loss is worse"),
        ((0.2, 0.8, 0.0), (0.1, 0.9, 0.0), 1, "both fool: the larger loss is worse"),
        # Again two rivals and one, where a margin would decide the other way.
        ((0.5, 0.49, 0.49), (0.5, 0.495, 0.0), 0, "the larger cross-entropy, not margin, is worse"),
    ]
    model, labels = _Table().eval(), torch.zeros(len(cases), dtype=torch.int64)
    first, second = (
        torch.tensor([case[side] for case in cases]).view(-1, 3, 1, 1) for side in (0, 1)
    )
    found = tensor_like(attempt(model, labels, first, second), first, "pictures")
    for row, (_, _, worse, reason) in enumerate(cases):
        wanted = (first, second)[worse][row]
        if not torch.equal(found[row], wanted):
            if not any(torch.equal(found[row], c[row]) for c in (first, second)):
                return "an image it returned is neither of its two candidates"
            return f"it kept the wrong one of two: {reason}"
    return None


@exercise("9.2")
def is_flat(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`is_flat(logits, labels)` says where the cross-entropy's gradient is exactly zero."""
    # Rows: logits, the true class, whether it is flat, why.
    cases = [
        ((10.0, 0.0, -5.0), 0, False, "a gap of 10 leaves a p_j of 0.00005: small is not zero"),
        ((5.0, 120.0, 0.0), 1, True, "every gap is beyond 104, so that every p_j rounds to 0"),
        ((-300.0, 0.0, 85.0), 2, False, "one rival within reach is enough for a slope"),
        ((85.0, 0.0, 85.0), 2, False, "one rival within reach is enough for a slope"),
        ((0.0, 200.0, -50.0), 0, False, "where the network is wrong, z_y has slope p_y - 1 = -1"),
        ((0.0, 200.0, 400.0), 1, False, "where the network is wrong, z_y has slope p_y - 1 = -1"),
        ((-250.0, -220.0, -100.0), 2, True, "gaps count, wherever the logits are"),
        ((400.0, 399.0, 0.0), 0, False, "gaps count, wherever the logits are"),
        ((106.0, 0.0, -3.0), 0, True, "e^-106 rounds to 0: half of the smallest number is e^-104"),
    ]
    # Processors may be told to drop the smallest numbers, from e^-87.3 on; ask this one.
    last = torch.tensor([[101.0, 0.0, -1.0]], requires_grad=True)
    cross_entropy(last, torch.tensor([0])).sum().backward()
    if last.grad is not None and last.grad.any():
        near = "e^-{:g} is not 0 yet: the smallest numbers have fewer digits, down to 2^-149"
        cases += [((g, 0.0, -1.0), 0, False, near.format(g)) for g in (89.0, 101.0)]
    logits = torch.tensor([case[0] for case in cases])
    labels = torch.tensor([case[1] for case in cases])
    found = tensor(attempt(logits, labels), (len(cases),), "one boolean for each image, a tensor")
    if not ((found == 0) | (found == 1)).all():
        return "it must return one boolean for each image, True where it is flat"
    for (row, label, flat, reason), said in zip(cases, found.tolist(), strict=True):
        if bool(said) != flat:
            shown = ", ".join(f"{logit:g}" for logit in row)
            state = "flat" if flat else "not flat"
            return f"logits ({shown}) with label {label} are {state}: {reason}"
    return None


@exercise("9.3")
def repaired(attempt: Attack) -> str | None:
    """`repaired(model, images, labels, ball, *, steps, step_size, targeted, seed)` is PGD."""
    grey, labels = torch.full((4, 1, 4, 4), 0.5), torch.zeros(4, dtype=torch.int64)
    watched = Watched(Slope(20.0))
    answer = attempt(watched, grey, labels, BALL, steps=10)
    if isinstance(answer, Tensor) and answer.requires_grad:
        return "what it returns still hangs on the graph: detach it"
    tensor_like(answer, grey, "pictures")
    if 0 < len(watched.slopes_at) < 10:
        return (
            f"it takes {len(watched.slopes_at)} gradient{'s' * (len(watched.slopes_at) > 1)} where "
            "steps = 10: PGD takes a new one before every step, FGSM a single one"
        )
    if reach(attempt, 20.0, steps=10) < -0.5:
        return "on a straight slope it goes downhill: an attack raises the loss of the true class"
    found = bugs_in(attempt)
    if found:
        count = "one of the five bugs is" if len(found) == 1 else f"{len(found)} of the five are"
        return f"{count} still in: " + "; ".join(found)
    share = reach(attempt, 20.0, steps=10)
    if share < 0.9:
        return (
            f"the five bugs are out, but on a straight slope it covers {share:.0%} of the way to "
            "the best corner: every pixel needs steps of one length, together at least 2ε"
        )
    if reach(attempt, 20.0, steps=10, step_size=0.001) > 0.5:
        return "the five bugs are out, but its steps have the same length whatever `step_size` says"
    model, (images, labels) = digits_classifier(), drawn(digits().validation, 100)
    losses = []
    for attack in (attempt, pgd):
        changed = run(attack, model, images, labels, steps=20)
        with torch.no_grad():
            losses.append(cross_entropy(model(changed), labels).mean().item())
    if losses[0] < 0.9 * losses[1]:
        return (
            f"the five bugs are out, but on digits it reaches a mean loss of {losses[0]:.2f}, "
            f"the library's pgd {losses[1]:.2f}"
        )
    return None


@exercise("9.4")
def error_at(attempt: Callable[[Tensor, float], float]) -> str | None:
    """`error_at(distances, epsilon)` reads an error off minimal distances."""
    distances = torch.tensor([0.0, 0.0, 0.05, 0.1, 0.2, torch.inf], dtype=torch.float64)
    for epsilon, share, reason in [
        (0.04, 2 / 6, "a distance of 0 means wrong without any attack, which is an error too"),
        (0.1, 4 / 6, "a ball contains its border: distance ≤ ε is an error"),
        (0.5, 5 / 6, "an infinite distance means that nothing was found, at any ε"),
        (0.0, 2 / 6, "at ε = 0 it is the clean error"),
    ]:
        found = number(attempt(distances, epsilon))
        if abs(found - share) < 1e-6:
            continue
        if abs(found - 100 * share) < 1e-4:
            return "a share is asked for, from 0 to 1, not a percentage"
        if abs(found - (1 - share)) < 1e-6:
            return "that is the robust accuracy; the error is what is left"
        return f"at ε = {epsilon:g} it says {found:.3f}, expected {share:.3f}: {reason}"
    return None


class _Mirrored(nn.Module):
    """The digits network as one sees it in a mirror: whoever looks up the book's is none wiser."""

    def __init__(self) -> None:
        super().__init__()
        self.model = digits_classifier()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.flip(-1))
        return logits


@exercise("9.5")
def search(attempt: Attack) -> str | None:
    """`search(model, images, labels, ball, queries)` fools at least as many digits as FGSM."""
    network, queries = _Mirrored(), 800
    images, labels = drawn(digits().validation, 60)
    images = images.flip(-1)
    asked = Hidden(network)
    answer = attempt(asked, images, labels, BALL, queries)
    if isinstance(answer, Tensor) and answer.requires_grad:
        raise Wrong("what it returns hangs on a graph, and there are no gradients to be had here")
    changed = pictures(answer, images)
    if asked.shown > queries * len(images):
        return (
            f"it asked the model {asked.shown / len(images):.0f} times about an image, "
            f"{queries} times are allowed"
        )
    if not BALL.admits(images, changed, atol=1e-6).all():
        return "what it returns leaves the ball or [0, 1]: end with ball.perturb(images, delta)"
    if asked.shown == 0:
        return "it never asked `model(images)`: that is the only thing it may use"
    with torch.no_grad():
        one_step = fgsm(network, images, labels, BALL)
        ours, theirs = (int((network(x).argmax(1) != labels).sum()) for x in (changed, one_step))
    if ours < theirs:
        return (
            f"it fools {ours} of 60 digits, FGSM {theirs}: keep every change that lowers an "
            "image's margin, drop the others, and spend all your queries"
        )
    return None


@exercise("9.6")
def next_step_size(attempt: Callable[[float, list[float], bool, float], float]) -> str | None:
    """`next_step_size(step_size, losses, just_halved, best_before)` is APGD's rule."""
    cases = [
        ([1.0, 1.1, 1.2, 1.3, 1.4], False, 1.0, False,
         "every step rose, and there is a new best: nothing to mend"),
        ([1.0, 1.1, 1.0, 1.2, 1.1], False, 1.05, True,
         "only two of four steps rose, fewer than three quarters"),
        ([1.0, 1.1, 1.2, 1.15, 1.3], False, 1.0, False,
         "three of four steps rose, which is not *fewer* than three quarters (four steps lie "
         "between five losses)"),
        ([1.0, 1.1, 1.1, 1.2, 1.2], False, 1.0, True,
         "a loss that stays the same has not risen: two of four steps rose"),
        ([1.0, 1.1, 1.2, 1.15, 1.3], False, 1.3, True,
         "three quarters of the steps rose, but no loss is above the best before, 1.3, and the "
         "step size has not just been halved"),
        ([1.0, 1.1, 1.2, 1.15, 1.3], True, 1.5, False,
         "there is no new best, but the step size has just been halved: give it a chance"),
        ([1.0, 0.9, 0.8, 0.9, 0.7], True, 1.5, True,
         "too few steps rose, and then it is halved, whether it has just been halved or not"),
    ]  # fmt: skip
    for losses, just_halved, best_before, halve, reason in cases:
        found = number(attempt(0.08, losses, just_halved, best_before))
        wanted = 0.04 if halve else 0.08
        if not abs(found - wanted) <= 1e-6:
            return (
                f"for losses {losses}, just_halved={just_halved} and best_before={best_before} "
                f"0.08 becomes {wanted:g}, not {found:g}: {reason}"
            )
    return None


@exercise("9.7")
def in_turn(attempt: Callable[[Tensor, Tensor], Mapping[str, object]]) -> str | None:
    """`in_turn(fooled, prices)` says what an ensemble finds, at what price, how surely."""
    generator = torch.Generator().manual_seed(variant(0))
    hard = torch.rand(60, generator=generator)
    bars = (0.55, 0.62, 0.68)
    fooled = torch.stack([hard + 0.3 * torch.rand(60, generator=generator) < b for b in bars])
    prices = torch.tensor([1.0, 100.0, 20.0])
    for rows in (fooled, fooled.flip(0), fooled[[0, 0]]):
        few = prices[: len(rows)]
        fault = _judge_in_turn(attempt(rows, few), rows, few.tolist())
        if fault:
            return fault
    return None


def _sign_test(one: int, other: int) -> float:
    """Return how likely fair coins fall at least as unevenly, either way."""
    tail = sum(comb(one + other, k) for k in range(max(one, other), one + other + 1))
    return min(1.0, 2 * tail * 0.5 ** (one + other))


def _judge_in_turn(given: object, fooled: Tensor, prices: list[float]) -> str | None:
    """Say what is wrong with the first entry that is, of fooled (A, N) and A prices."""
    count, n = fooled.shape
    standing = [int((~fooled[:a].any(dim=0)).sum()) for a in range(count + 1)]
    first, last = fooled[0], fooled[-1]
    apart = int((first & ~last).sum()), int((last & ~first).sum())
    price = sum(p * s for p, s in zip(prices, standing[:-1], strict=True)) / n
    wanted = {
        "error": (1 - standing[-1] / n, "an image is lost if *any* of the attacks fools it"),
        "price": (price, "an attack is run, and paid for, only on images that still stand"),
        "last": (standing[-2] - standing[-1], "count what only the last attack adds, in images"),
        "p": (
            _sign_test(*apart),
            f"{apart[0]} images are fooled by the first attack alone, {apart[1]} by the last "
            f"alone; how likely do {sum(apart)} coins fall at least so unevenly, to the one side "
            "or the other?",
        ),
    }
    for (name, (right, reason)), value in zip(
        wanted.items(), entries(cast(Mapping[str, object], given), list(wanted)), strict=True
    ):
        said = number(value, f"for {name} a number")
        if not abs(said - right) <= 0.01 * abs(right) + 1e-6:
            return f"{name} is {right:.4g}, and you say {said:.4g}: {reason}"
    return None
