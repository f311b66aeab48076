"""Certificates: what is proved, what is refuted, and what is not known."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor, nn

from within_epsilon.checks import check_labels
from within_epsilon.threat import Ball
from within_epsilon.verification.domain import Box
from within_epsilon.verification.falsify import Found, falsify, reach_of
from within_epsilon.verification.linear import crown
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.rounding import dtype_of

Status = Literal["proved", "refuted", "unknown"]


class _Lower(Protocol):
    @property
    def lower(self) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of one image: whether every allowed change keeps its label.

    Parameters
    ----------
    status : {"proved", "refuted", "unknown"}
        "proved": the least margin over the threat model is above 0. "refuted": the network,
        run on `counterexample`, prefers another class. "unknown": neither, so far.
    lower, upper : float
        A bracket of the least margin, min over rivals of z_y - z_j over all allowed inputs:
        not below `lower`, by proof; not above `upper`, since an allowed input has that.
    method : str
        Which bound it rests on.
    arithmetic : str
        In which arithmetic it holds: "float32" or "float64", as torch runs the network on a
        CPU; "real", without its rounding, which is no proof about the float network; with
        "up to the solver" after it, if a solver in floating point is trusted.
    seconds : float
        How long it took; of a batch, its share.
    counterexample : Tensor of shape (...), optional
        An allowed input, in the network's own dtype.
    """

    status: Status
    lower: float
    upper: float
    method: str
    arithmetic: str
    seconds: float
    counterexample: Tensor | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Say what is known, in a line."""
        return f"{self.status}: margin in [{self.lower:.4g}, {self.upper:.4g}] ({self.arithmetic})"


def certify(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    bound: Callable[..., _Lower] = crown,
    attack_steps: int = 20,
    **settings: object,
) -> list[Certificate]:
    """Certify images by a bound, and try to refute those that it does not certify.

    Parameters
    ----------
    model, images, ball
        As for `crown`.
    labels : Tensor of shape (N,), int64
        The true classes.
    bound : function
        `crown` or `ibp`.
    attack_steps : int
        Steps of the attack on each rival.
    **settings
        Passed to `bound`, such as ``steps=50`` for optimised slopes.

    Returns
    -------
    list of N Certificate
        One for each image.

    Raises
    ------
    TypeError, ValueError
        As `bound` does.
    """
    start = time.perf_counter()
    n = len(images.lower) if isinstance(images, Box) else len(images)
    check_labels(labels, n)
    bounds = bound(model, images, labels, ball, **settings).lower
    lower, classes = bounds.amin(dim=1), bounds.shape[1] + 1
    worst = falsify(model, images, ball, objective_rows(labels, n, classes), steps=attack_steps)
    spent = (time.perf_counter() - start) / max(1, n)
    name = getattr(bound, "__name__", type(bound).__name__)
    real = settings.get("arithmetic") == "real"
    arithmetic = "real" if real else str(dtype_of(model)).removeprefix("torch.")
    allowed = reach_of(images, ball, dtype_of(model), slice(None)).admits(worst.points)
    found_at = [Found(worst.points[i : i + 1], worst.values[i : i + 1]) for i in range(n)]
    return [
        conclude(least, point if fine else None, name, arithmetic, spent, least > 0)
        for least, point, fine in zip(lower.tolist(), found_at, allowed.tolist(), strict=True)
    ]


def conclude(
    lower: float, worst: Found | None, method: str, arithmetic: str, seconds: float, proved: bool
) -> Certificate:
    """Write a certificate from a lower bound and the worst allowed input that was tried.

    Raises
    ------
    RuntimeError
        If the network's answer contradicts the bound: one of the two is wrong.
    """
    upper = float("inf") if worst is None else worst.values[0].item()
    if worst is None or upper >= 0:
        status: Status = "proved" if proved else "unknown"
        return Certificate(status, lower, upper, method, arithmetic, seconds)
    if proved:
        raise RuntimeError(
            f"a margin is proved to be {lower:.3g} or more, but an allowed input has {upper:.3g}; "
            "please report this network"
        )
    point = worst.points[0].clone()
    return Certificate("refuted", lower, upper, method, arithmetic, seconds, point)
