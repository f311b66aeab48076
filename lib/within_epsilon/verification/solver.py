"""HiGHS, asked through SciPy, and believed as little as possible."""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from within_epsilon.verification.program import Array, Program, rigorous

# A big-M larger than this lets rounding switch ReLUs on that are off.
LARGEST_M = 1e3


class Solved(NamedTuple):
    """What a solver says.

    Parameters
    ----------
    lower : float
        Its bound from below; minus infinity if it has none.
    point : array of shape (V,), or None
        The best point that it found, to be tried.
    finished : bool
        Whether it says that the two meet.
    """

    lower: float
    point: Array | None
    finished: bool


def solve_lp(
    program: Program, objective: Array, constant: float, seconds: float
) -> tuple[float, Array | None]:
    """Minimise over a program without binaries.

    Constraints may be broken, at a price that no sound problem reaches: so a program without a
    solution has prices, too, and they prove it.

    Returns
    -------
    lower : float
        A bound that holds whatever the solver says: only its prices are taken.
    point : array of shape (V,), or None
        Its solution.
    """
    # (Imported here: it takes as long to load as a small network to certify.)
    from scipy import sparse
    from scipy.optimize import linprog

    rows, size = len(program.limits), len(objective)
    fine = 1e3 * max(1.0, float(np.abs(objective).max(initial=0.0)))
    breaking = sparse.dia_array((-np.ones((1, rows)), [0]), shape=(rows, rows))
    broken = sparse.hstack([sparse.csr_array(program.matrix), breaking])
    ends = np.stack([program.lower, program.upper], axis=1)
    with silence():
        found = linprog(
            np.concatenate([objective, np.full(rows, fine)]),
            broken if rows else None,
            program.limits if rows else None,
            bounds=np.concatenate([ends, np.tile([0.0, np.inf], (rows, 1))]),
            method="highs",
            options={"time_limit": max(1e-2, seconds)},
        )
    prices = np.zeros(rows)
    if found.status == 0 and rows:
        prices = -np.asarray(found.ineqlin.marginals)
    point = None if found.x is None else found.x[:size]
    return rigorous(program, objective, constant, prices), point


def solve_milp(program: Program, objective: Array, constant: float, seconds: float) -> Solved:
    """Minimise over a program with binaries, with presolve and without.

    Of the two dual bounds the smaller one counts: HiGHS was seen to "prove" a bound that a real
    input beats, with its own options and more so with tightened tolerances.

    Raises
    ------
    ValueError
        If a coefficient of a binary is beyond 1000: M is to come from bounds that are tighter.
    RuntimeError
        If the solver calls the program infeasible, which none is that has an input.
    """
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    inputs = len(program.lower)
    largest = np.abs(program.matrix[:, inputs:]).max(initial=0.0)
    if largest > LARGEST_M:
        raise ValueError(
            f"model: expected bounds within {LARGEST_M:g} of 0 for every ReLU in doubt, received "
            f"{largest:.3g}; take a smaller ball, or branch_and_bound, which has no big-M"
        )
    ends = [np.concatenate([program.lower, np.zeros(program.binaries)]),
            np.concatenate([program.upper, np.ones(program.binaries)])]  # fmt: skip
    whole = np.concatenate([np.zeros(inputs), np.ones(program.binaries)])
    costs = np.concatenate([objective, np.zeros(program.binaries)])
    rows = [LinearConstraint(sparse.csr_array(program.matrix), ub=program.limits)]
    answers, until = [], time.perf_counter() + seconds
    for share, presolve in ((0.5, True), (1.0, False)):
        left = share * max(1e-2, until - time.perf_counter())
        with silence():
            found = milp(
                costs,
                integrality=whole,
                bounds=Bounds(*ends),
                constraints=rows if len(program.limits) else (),
                options={"time_limit": left, "presolve": presolve, "disp": False},
            )
        if found.status == 2:
            raise RuntimeError(
                "the solver calls a program infeasible that has a solution; its tolerances have "
                "failed, and so would its bounds: use branch_and_bound"
            )
        # Without binaries it has no dual bound, but then its optimum is that of an LP.
        bound = found.mip_dual_bound
        if bound is None:
            bound = found.fun if found.status == 0 and not program.binaries else -math.inf
        point = None if found.x is None else found.x[:inputs]
        answers.append(Solved(bound + constant, point, found.status == 0))
    first, second = sorted(answers, key=lambda answer: answer.lower)
    point = second.point if first.point is None else first.point
    return Solved(first.lower, point, first.finished and second.finished)


@contextmanager
def silence() -> Iterator[None]:
    """Keep what a solver writes to file descriptor 1 out of everybody's output."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output to keep clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
