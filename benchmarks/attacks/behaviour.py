"""How attacks behave: what they return, what that depends on, and what they leave behind."""

import copy
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from contestants import OURS, Contestant, everybody
from peers import SHORT, Anywhere, Budget
from strength import ROUNDING
from subjects import Subject
from torch import Tensor, nn
from torch.nn import functional as F

from within_epsilon.data import digits
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball
from within_epsilon.training import minibatches

# A result is another one if a pixel moved by more than rounding may explain.
_OTHER = 1e-3
_OFFSETS = (20.0, -20.0)
_SEEN = ("outside", "clean", "nan", "black", "fooled", "batch", "offset", "seed", "generator")
_SEEN += ("leaves", "three_classes")
_NORMS = ("linf", "l2", "l1", "l0")


class Shifted(nn.Module):
    """A model with a constant added to all its logits, which changes no answer."""

    def __init__(self, model: nn.Module, offset: float) -> None:
        super().__init__()
        self.model, self.offset = model, offset

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        logits: Tensor = self.model(images) + self.offset
        return logits


class Three(nn.Module):
    """A model's logits for the first three classes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        logits: Tensor = self.model(images)[:, :3]
        return logits


def rows(subject: Subject, budget: Budget = SHORT) -> Iterator[dict[str, Any]]:
    """Look at every attack of every library, on valid input."""
    balls = {ball.norm: ball for ball in subject.balls()}
    for norm in _NORMS:
        for one in everybody(norm, budget):
            print(f"behaviour: {one.attack}, {norm}, {one.library}", file=sys.stderr)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield look(subject, balls.get(norm, Anywhere(norm)), one)


def look(subject: Subject, ball: Ball | Anywhere, one: Contestant) -> dict[str, Any]:
    """Return what one attack does; a call that raises is noted by the error's name."""
    row: dict[str, Any] = {
        "library": one.library,
        "attack": one.attack,
        "norm": ball.norm,
        "n": len(subject.images),
    }
    try:
        found, state = attack(one, subject, ball)
    except Exception as error:  # whatever another library may raise is what is noted
        return row | {"raises": type(error).__name__} | dict.fromkeys(_SEEN)
    other, other_state = attack(one, subject, ball, seed=1)
    halves = [attack(one, part, ball, first=first)[0] for first, part in parts(subject)]
    return row | {
        "raises": "",
        **results(one, subject, ball, found),
        "batch": differ(found, torch.cat(halves)),
        "offset": offset(one, subject, ball, found),
        "seed": differ(found, other),
        "generator": what_became_of_generators(state, other_state),
        "leaves": left_behind(one, ball, subject.images, subject.labels),
        "three_classes": with_three_classes(one, subject, ball),
    }


def attack(
    one: Contestant, subject: Subject, ball: Ball | Anywhere, seed: int = 0, first: int = 0
) -> tuple[Tensor, tuple[bytes, ...]]:
    """Run with global generators seeded and the attack's own seed 0; return their state too.

    Ours are told where in the data set the images stand. No other library asks.
    """
    seed_everything(seed)
    where = {"first": first} if one.library == OURS else {}
    given = subject.model, subject.images.clone(), subject.labels, ball, 0
    return one.run(*given, **where).detach(), generators()


def generators() -> tuple[bytes, ...]:
    """Return the state of the three global generators."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - what libraries draw from
    parts = (torch.get_rng_state().numpy().tobytes(), numpy_state[1].tobytes())
    return (*parts, repr((numpy_state[2:], random.getstate())).encode())


def what_became_of_generators(after: tuple[bytes, ...], after_other: tuple[bytes, ...]) -> str:
    """Compare their state after two runs, begun with seeds 0 and 1, with that before the first."""
    seed_everything(0)
    moved = [
        (one, other)
        for one, other, before in zip(after, after_other, generators(), strict=True)
        if one != before
    ]
    if any(one == other for one, other in moved):
        return "resets"
    return "draws from" if moved else ""


def parts(subject: Subject) -> list[tuple[int, Subject]]:
    """Return the two halves of a subject's examples, each with where it begins."""
    middle = len(subject.images) // 2
    return [
        (first, replace(subject, images=subject.images[rows], labels=subject.labels[rows]))
        for first, rows in ((0, slice(None, middle)), (middle, slice(middle, None)))
    ]


def differ(one: Tensor, other: Tensor) -> int:
    """Count the examples whose results are not the same; NaN is equal to NaN."""
    close = torch.isclose(one, other, rtol=0, atol=_OTHER, equal_nan=True)
    return int((~close).flatten(1).any(dim=1).sum())


def fooled(subject: Subject, images_adv: Tensor) -> Tensor:
    """Tell which results the model gets wrong."""
    with torch.no_grad():
        wrong: Tensor = subject.model(images_adv).argmax(dim=1) != subject.labels
    return wrong


def results(
    one: Contestant, subject: Subject, ball: Ball | Anywhere, found: Tensor
) -> dict[str, int]:
    """Count results that are no images, leave what is allowed, or are the clean images."""
    rows = found.flatten(1)
    nan = rows.isnan().any(dim=1)
    allowed = ((rows >= 0) & (rows <= 1)).all(dim=1)
    if isinstance(ball, Ball) and one.bounded:
        allowed &= ball.admits(subject.images, found.nan_to_num(), atol=ROUNDING)
    same = (found == subject.images).flatten(1).all(dim=1)
    return {
        "outside": int((~allowed & ~nan).sum()),
        "clean": int(same.sum()),
        "nan": int(nan.sum()),
        "black": int((rows == 0).all(dim=1).sum()),
        "fooled": int((fooled(subject, found) & allowed & ~nan).sum()),
    }


def offset(one: Contestant, subject: Subject, ball: Ball | Anywhere, found: Tensor) -> int:
    """Count the verdicts that change with a constant added to all logits, at worst."""
    before, changes = fooled(subject, found), []
    for number in _OFFSETS:
        shifted = replace(subject, model=Shifted(subject.model, number).eval())
        after = fooled(shifted, attack(one, shifted, ball)[0])
        changes.append(int((after != before).sum()))
    return max(changes)


@cache
def trained() -> nn.Sequential:
    """Return a network with two layers of batch normalisation, trained for a second."""
    train = digits().train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        model = nn.Sequential(*body, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for batch in minibatches(len(train), 64, generator):
            optimizer.zero_grad()
            F.cross_entropy(model(train.images[batch]), train.labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return model


def witness() -> nn.Sequential:
    """Return a network in training, one of its layers frozen: what finetuning looks like."""
    model = copy.deepcopy(trained())
    model[3].eval().requires_grad_(False)
    return model


def left_behind(
    one: Contestant, ball: Ball | Anywhere, images: Tensor, labels: Tensor
) -> list[str]:
    """Return what an attack changes in a model that it is given in training."""
    model = witness()
    before = copy.deepcopy(model)
    seed_everything(0)
    try:
        one.run(model, images.clone(), labels, ball, 0)
    except Exception as error:
        return [f"raises {type(error).__name__}"]
    modes = [
        (a.training, b.training) for a, b in zip(before.modules(), model.modules(), strict=True)
    ]
    parameters = list(zip(before.parameters(), model.parameters(), strict=True))
    buffers = zip(before.buffers(), model.buffers(), strict=True)
    seen = {
        "gradients": any(after.grad is not None for _, after in parameters),
        "statistics": any(not torch.equal(*pair) for pair in buffers),
        "weights": any(not torch.equal(*pair) for pair in parameters),
        "eval mode": (True, False) in modes,
        "a thawed layer": (False, True) in modes,
        "requires_grad": any(a.requires_grad != b.requires_grad for a, b in parameters),
    }
    return [what for what, is_so in seen.items() if is_so]


def with_three_classes(one: Contestant, subject: Subject, ball: Ball | Anywhere) -> str:
    """Return the name of the error that a model with three classes causes, if any."""
    few = subject.labels < 3
    small = replace(
        subject,
        model=Three(subject.model).eval(),
        images=subject.images[few],
        labels=subject.labels[few],
    )
    try:
        attack(one, small, ball)
    except Exception as error:
        return type(error).__name__
    return ""
