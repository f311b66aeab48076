"""How fast PGD and AutoAttack are: times over those of a floor, or a peer, round by round."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from contestants import OURS, contestants
from peers import FULL, Budget, Run, step_size
from strength import outcomes
from subjects import Subject
from timing import interleave, ratio
from torch import Tensor, nn
from torch.nn import functional as F

from within_epsilon.attacks import autoattack
from within_epsilon.threat import Ball

FLOOR = "bare loop"
PEER = "torchattacks"


def bare_loop(
    model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, steps: int, length: float
) -> Tensor:
    """Run PGD with nothing around it: no checks, no scoring, no care for rounding.

    That is `steps` forward and backward passes and updates, and one forward pass at the
    end, since whoever attacks wants to know what came of it.
    """
    images_adv = images
    lower, upper = (images - ball.epsilon).clamp(min=0), (images + ball.epsilon).clamp(max=1)
    for _ in range(steps):
        images_adv = images_adv.detach().requires_grad_()
        loss = F.cross_entropy(model(images_adv), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images_adv)
        with torch.no_grad():
            if ball.norm == "linf":
                images_adv = (images_adv + length * gradient.sign()).clamp(lower, upper)
            else:
                images_adv = _bare_update(images, images_adv, gradient, ball, length)
    with torch.no_grad():
        model(images_adv)
    return images_adv


def _bare_update(
    images: Tensor, images_adv: Tensor, gradient: Tensor, ball: Ball, length: float
) -> Tensor:
    """Step by `length`, project onto the l2 or l1 ball, clip; eight pixels suffice for l1."""
    rows = gradient.flatten(1)
    if ball.norm == "l2":
        step = length * rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    else:
        room = torch.where(gradient < 0, images_adv, 1 - images_adv).flatten(1)
        steepest = (rows.abs() * (room > 0)).topk(8, dim=1).indices
        space = room.gather(1, steepest)
        moved = (length - space.cumsum(dim=1) + space).clamp(min=0).minimum(space)
        step = torch.zeros_like(rows).scatter_(1, steepest, moved * rows.gather(1, steepest).sign())
    delta = (images_adv - images).flatten(1) + step
    if ball.norm == "l2":
        delta = delta * (ball.epsilon / delta.norm(dim=1, keepdim=True).clamp(min=ball.epsilon))
    else:
        sizes = delta.abs()
        ordered = sizes.sort(dim=1, descending=True).values
        ranks = torch.arange(1, sizes.shape[1] + 1)
        thresholds = (ordered.cumsum(dim=1) - ball.epsilon) / ranks
        survivors = (ordered > thresholds).sum(dim=1, keepdim=True).clamp(min=1)
        shrunk = delta.sign() * (sizes - thresholds.gather(1, survivors - 1)).clamp(min=0)
        delta = torch.where(sizes.sum(dim=1, keepdim=True) > ball.epsilon, shrunk, delta)
    return (images + delta.view_as(images)).clamp(0, 1)


def rows(
    subjects: list[Subject], rounds: int = 25, budget: Budget = FULL
) -> Iterator[dict[str, Any]]:
    """Time everybody in every round, and compare within the round."""
    for subject in subjects:
        for ball in subject.balls():
            print(f"speed: {subject.name}, {ball}", file=sys.stderr)
            seconds = interleave(_runs(subject, ball, budget), rounds)
            for name, values in seconds.items():
                yield {
                    "subject": subject.name,
                    "norm": ball.norm,
                    "batch": len(subject.images),
                    "steps": budget.steps,
                    "library": name,
                    **ratio(values, seconds[FLOOR]),
                }


def _runs(subject: Subject, ball: Ball, budget: Budget) -> dict[str, Callable[[], object]]:
    given, steps = (subject.model, subject.images, subject.labels, ball), budget.steps

    def scored(run: Run) -> Callable[[], object]:
        def attack_and_score() -> None:
            images_adv = run(*given, 0)
            with torch.no_grad():
                subject.model(images_adv)

        return attack_and_score

    everybody = {
        one.library: scored(one.run)
        for one in contestants(ball.norm, budget)
        if one.attack == "PGD"
    }
    assert OURS in everybody
    return {FLOOR: lambda: bare_loop(*given, steps, step_size(ball, steps)), **everybody}


def ensemble_rows(
    subject: Subject, rounds: int = 3, budget: Budget = FULL
) -> Iterator[dict[str, Any]]:
    """Time both versions of `autoattack` beside torchattacks' AutoAttack of as many steps."""
    for ball in subject.balls():
        given = subject.model, subject.images, subject.labels, ball
        (theirs,) = (
            one.run
            for one in contestants(ball.norm, budget)
            if (one.attack, one.library) == ("AutoAttack", PEER)
        )
        options = {"steps": budget.apgd, "queries": budget.queries}
        runs = {PEER: partial(theirs, *given, 0)}
        for version in ("fast", "standard"):
            runs[version] = partial(autoattack, *given, version=version, **options)
        print(f"ensemble speed: {subject.name}, {ball}", file=sys.stderr)
        yield from _ensembles(subject, ball, runs, rounds, options)


def _ensembles(
    subject: Subject,
    ball: Ball,
    runs: dict[str, partial[Tensor]],
    rounds: int,
    options: dict[str, int],
) -> Iterator[dict[str, Any]]:
    letters = {}

    def keep(name: str) -> Callable[[], None]:
        def run() -> None:
            letters[name], _ = outcomes(subject, ball, runs[name]())

        return run

    seconds = interleave({name: keep(name) for name in runs}, rounds)
    for version in ("fast", "standard"):
        yield {
            "subject": subject.name,
            "norm": ball.norm,
            "epsilon": ball.epsilon,
            "batch": len(subject.images),
            "version": version,
            **options,
            **ratio(seconds[version], seconds[PEER]),
            "outcomes": letters[version],
            "their_outcomes": letters[PEER],
        }
