"""What the tables of all libraries are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from within_epsilon.threat import Ball


@dataclass(frozen=True)
class Anywhere:
    """No ball: where minimal-norm attacks look, and the norm they go by, which may be "l0"."""

    norm: str
    epsilon: float = 0.0


# (model, images, labels, ball, seed) -> images. Global generators are seeded by the caller.
Run = Callable[[nn.Module, Tensor, Tensor, "Ball | Anywhere", int], Tensor]


@dataclass(frozen=True)
class Attack:
    """One library's version of an attack.

    Parameters
    ----------
    run : callable
        See `Run`.
    asked : int
        Steps that it is told to take, all targets and searches together: what a reader of
        its documentation expects to pay. Queries for attacks that ask for nothing else.
    """

    run: Run
    asked: int


Table = dict[str, Attack]


@dataclass(frozen=True)
class Budget:
    """What everybody gets: steps of each attack, queries, searches for C&W's constant."""

    steps: int = 40
    apgd: int = 100
    queries: int = 1000
    minimal: int = 100
    deepfool: int = 50
    cw: int = 200
    searches: int = 9
    hops: int = 10  # every library then asks about 2,450 times for each example
    sparse: int = 300
    targets: int = 9


FULL = Budget()
# Enough to see how an attack behaves.
SHORT = Budget(10, 20, 100, 100, 20, 60, 4, 2, 60)

# What tables call the functions of the library.
NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "square": "Square",
    "autoattack": "AutoAttack",
    "multi_targeted": "APGD-T",
    "apgd": "APGD-CE",
    "carlini_wagner": "C&W",
}


def step_size(ball: Ball | Anywhere, steps: int = FULL.steps) -> float:
    """Return the step that everybody's PGD takes: enough of them cross the ball."""
    return 2.5 * ball.epsilon / steps


def resolve(ball: Ball | Anywhere, options: dict[str, Any]) -> dict[str, Any]:
    """Fill in the options that depend on the ball."""
    return {name: value(ball) if callable(value) else value for name, value in options.items()}
