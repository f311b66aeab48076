"""The shortest steps onto a hyperplane within [0, 1], against solvers of the same problems."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from within_epsilon.attacks.core.hyperplane import step_to_hyperplane

ORDERS = {"linf": math.inf, "l2": 2, "l1": 1}
every_norm = pytest.mark.parametrize("norm", ORDERS)


def problems(number, size, seed):
    """Return points, slopes and rises that can be reached; some pixels cannot move or help."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(number, size, dtype=torch.float64, generator=generator)
    points = (2 * points - 0.5).clamp(0, 1)  # about half stand at 0 or 1
    slopes = torch.randn(number, size, dtype=torch.float64, generator=generator)
    slopes = slopes * (torch.rand(slopes.shape, generator=generator) > 0.2)
    signs = torch.where(torch.arange(number) % 2 == 0, 1.0, -1.0)
    far = torch.where(slopes * signs[:, None] > 0, 1 - points, points) * slopes.abs()
    share = torch.rand(number, dtype=torch.float64, generator=generator)
    return points, slopes, signs * share * far.sum(dim=1)


def least_length(point, slope, rise, norm):
    """Solve one problem with SciPy: as a linear programme, or by sequential least squares."""
    size = len(point)
    if norm == "l2":
        limits = list(zip(-point, 1 - point, strict=True))
        rises_by = {"type": "eq", "fun": lambda d: slope @ d - rise, "jac": lambda d: slope}
        start = slope * rise / max(slope @ slope, 1e-300)
        options = {"ftol": 1e-14, "maxiter": 500}
        return math.sqrt(
            minimize(
                lambda d: d @ d, start.clip(-point, 1 - point), jac=lambda d: 2 * d,
                bounds=limits, constraints=[rises_by], method="SLSQP", options=options,
            ).fun
        )  # fmt: skip
    # d = up - down, both >= 0; for linf the last variable bounds them all.
    costs = np.append(np.zeros(2 * size), 1.0) if norm == "linf" else np.ones(2 * size)
    equal = np.concatenate([slope, -slope, [0.0] * (norm == "linf")])[None]
    above = None
    if norm == "linf":
        above = np.hstack([np.eye(2 * size), -np.ones((2 * size, 1))])
    limits = [(0, room) for room in np.concatenate([1 - point, point])]
    limits += [(0, 1)] * (norm == "linf")
    right = None if above is None else np.zeros(2 * size)
    return linprog(costs, A_ub=above, b_ub=right, A_eq=equal, b_eq=[rise], bounds=limits).fun


@every_norm
@pytest.mark.parametrize("size", [1, 2, 7])
def test_steps_reach_the_plane_and_are_as_short_as_a_solver_can(norm, size):
    points, slopes, rises = problems(25, size, seed=size)
    steps = step_to_hyperplane(points, slopes, rises, norm)
    ends = points + steps
    assert ((ends >= -1e-15) & (ends <= 1 + 1e-15)).all()
    torch.testing.assert_close((slopes * steps).sum(dim=1), rises, rtol=0, atol=1e-12)
    lengths = torch.linalg.vector_norm(steps, ORDERS[norm], dim=1)
    for row, problem in enumerate(zip(points, slopes, rises, strict=True)):
        least = least_length(*(part.numpy() for part in problem), norm)
        assert lengths[row].item() == pytest.approx(least, rel=1e-6, abs=1e-9)


@every_norm
def test_what_cannot_be_reached_is_approached_as_far_as_the_box_goes(norm):
    points, slopes, _ = problems(10, 6, seed=0)
    slopes[0] = 0  # a constant: nothing helps
    steps = step_to_hyperplane(points, slopes, torch.full((10,), 1e3).double(), norm)
    corner = torch.where(slopes > 0, 1 - points, -points).masked_fill(slopes == 0, 0)
    torch.testing.assert_close(steps, corner, rtol=0, atol=1e-15)


@every_norm
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_unit_of_the_function_does_not_matter(norm, scale):
    points, slopes, rises = problems(10, 50, seed=1)
    expected = step_to_hyperplane(points, slopes, rises, norm)
    scaled = step_to_hyperplane(points, scale * slopes, scale * rises, norm)
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-12)
