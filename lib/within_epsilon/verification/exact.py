"""Linear and mixed-integer programs: the triangle at its best, and the network itself."""

import time

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon.checks import check_labels
from within_epsilon.threat import Ball
from within_epsilon.verification.certificate import Certificate, conclude
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.falsify import Found, Reach, falsify, reach_of, replay, some_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.program import Encoder
from within_epsilon.verification.rounding import arithmetic_of, dtype_of
from within_epsilon.verification.solver import solve_lp, solve_milp
from within_epsilon.verification.tightening import bound_all

# What a solver's bound has to exceed: it is off by 1e-4 now and then.
CERTAIN = 1e-3


def lp(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    time_limit: float = 60.0,
    arithmetic: str | None = None,
) -> list[Certificate]:
    """Certify images by linear programs: every ReLU in doubt is replaced by its triangle.

    Parameters
    ----------
    model, images, arithmetic
        As for `crown`.
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball of norm linf, optional
        The threat model around images; None with a box.
    time_limit : float
        Seconds for each image.

    Returns
    -------
    list of N Certificate
        Rigorous: only prices are taken from the solver, and any prices give a bound
        (`program.rigorous`). No tighter relaxation treats ReLUs one by one, so optimised
        slopes reach it at best, for the same bounds of hidden numbers.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or an argument is none of these.
    """
    return _each(model, images, labels, ball, time_limit, arithmetic, binaries=False)


def exact(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    time_limit: float = 60.0,
    arithmetic: str | None = None,
) -> list[Certificate]:
    """Find the least margins by mixed-integer programs, exact up to the solver.

    Parameters
    ----------
    model, images, labels, ball, arithmetic
        As for `lp`.
    time_limit : float
        Seconds for each image.

    Returns
    -------
    list of N Certificate
        "up to the solver": where linear bounds do not suffice, `lower` is HiGHS's, and
        "proved" asks it to be above 0.001. `branch_and_bound` trusts no solver.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, an argument is none of these, or
        bounds are so loose that the programs could not be trusted.
    RuntimeError
        If the solver calls a program infeasible.

    Notes
    -----
    Each ReLU in doubt has a binary variable, whose "big M" is the linear bound of its input.
    Every program is solved with presolve and without, and the smaller dual bound taken, since
    HiGHS has been seen to end, with status 0, above the value of a real input.

    References
    ----------
    Tjeng, Xiao, Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer
    Programming", ICLR 2019.
    """
    return _each(model, images, labels, ball, time_limit, arithmetic, binaries=True)


def _each(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None,
    time_limit: float,
    arithmetic: str | None,
    *,
    binaries: bool,
) -> list[Certificate]:
    way = arithmetic_of(model, arithmetic)
    domain = domain_of(images, ball, exactly=arithmetic == "real")
    if domain.norm != "linf":
        raise ValueError(
            f"ball: expected one of norm linf, or a box, received {ball}; for l2 and l1 use crown"
        )
    network = read_network(model, domain.lower.shape[1:])
    check_labels(labels, len(domain), network.nodes[-1].shape[0])
    rows = objective_rows(labels, len(domain), network.nodes[-1].shape[0])
    certificates = []
    for i in range(len(domain)):
        start, one = time.perf_counter(), slice(i, i + 1)
        reach = reach_of(images, ball, dtype_of(model), one)
        search = _Search(model, Bounds(network, domain[one], way), reach, rows[one])
        search.attack(falsify(model, *some_of(images, ball, one), rows[one]))
        search.run(start + time_limit, binaries=binaries)
        certificates.append(search.certificate(time.perf_counter() - start, binaries=binaries))
    return certificates


class _Search:
    """The least margin of one image, bracketed from both sides."""

    def __init__(self, model: nn.Module, bounds: Bounds, reach: Reach, rows: Tensor) -> None:
        self.model, self.bounds, self.reach, self.rows = model, bounds, reach, rows
        bound_all(bounds)
        last = len(bounds.network.nodes) - 1
        with torch.no_grad():
            linear = (bounds.least(last, rows, through=way)[0] for way in (True, False))
            self.sure = torch.maximum(*linear).numpy()
        # What only the solver says.
        self.claimed = np.full_like(self.sure, -np.inf)
        self.worst: Found | None = None

    def attack(self, found: Found) -> None:
        """Keep the worst allowed point."""
        if self.reach.admits(found.points).all() and found.values[0] < self.upper:
            self.worst = found

    @property
    def upper(self) -> float:
        return float("inf") if self.worst is None else self.worst.values[0].item()

    def run(self, until: float, *, binaries: bool) -> None:
        """Solve for one rival after the other, the most promising first."""
        encoder = Encoder(self.bounds)
        program = encoder.program(binaries=binaries)
        last = len(self.bounds.network.nodes) - 1
        for s in np.argsort(self.sure):
            left = until - time.perf_counter()
            # A rival whose margin is never below that of a known point is not the least.
            if self.sure[s] >= self.upper or left <= 0:
                continue
            goal = encoder.express(last, self.rows[:, s : s + 1])
            costs, constant = goal.matrix[0], float(goal.constant[0] - goal.noise[0])
            if binaries:
                solved = solve_milp(program, costs, constant, left)
                self.claimed[s], point = solved.lower, solved.point
            else:
                value, point = solve_lp(program, costs, constant, left)
                self.sure[s] = max(self.sure[s], value)
            if point is not None:
                shape = self.bounds.network.nodes[0].shape
                inputs = torch.from_numpy(point[: shape.numel()]).view(1, *shape)
                self.attack(replay(self.model, self.reach.clip(inputs), self.rows))

    def certificate(self, seconds: float, *, binaries: bool) -> Certificate:
        """Say what is known by now."""
        proved = bool(((self.sure > 0) | (self.claimed > CERTAIN)).all())
        assert self.bounds.arithmetic is not None
        lower, name = self.sure.min(), self.bounds.arithmetic.name
        if binaries and np.maximum(self.sure, self.claimed).min() > lower:
            # No further than the value of an input, which it may exceed by its tolerances.
            lower = min(np.maximum(self.sure, self.claimed).min(), self.upper)
            name = f"{name}, up to the solver"
        return conclude(
            float(lower), self.worst, "exact" if binaries else "lp", name, seconds, proved
        )
