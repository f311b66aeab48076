"""Runs to choose a step size from, and the longest step on a parabola, for chapter 5."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NAN = math.nan

# Validation errors in %, a row of four seeds for each step size. Each table has another trap.
RUNS: list[tuple[list[list[float]], list[float]]] = [
    (
        [
            [20.0, 21.0, 22.0, 21.0],
            [2.0, 14.0, 15.0, 15.0],  # the best single run
            [5.5, 6.0, 9.5, 7.0],  # the lowest mean
            [4.5, 5.0, 5.0, 24.0],  # the lowest median
            [8.2, 8.0, 8.3, 8.1],  # the best of the worst runs
            [88.0, 90.0, 91.0, 90.0],
        ],
        [0.01, 0.03, 0.1, 0.3, 0.9, 2.7],
    ),
    (
        [
            [40.0, NAN, 42.0, 41.0],
            [12.0, 13.0, 12.0, 13.0],
            [7.0, 6.0, 7.0, 8.0],
            [3.0, 3.0, NAN, 3.0],  # the lowest mean of those that came to an end
            [9.0, 9.0, 8.0, 9.0],
            [NAN, NAN, NAN, NAN],
        ],
        [0.02, 0.06, 0.2, 0.6, 1.8, 5.4],
    ),
    (
        [
            [NAN, NAN, NAN, NAN],
            [2.0, NAN, 2.0, 2.0],  # the lowest mean even with 100% for the NaN
            [61.0, 66.0, 64.0, 63.0],
            [50.0, 52.0, 51.0, 53.0],
            [79.0, 80.0, 82.0, 81.0],
            [89.0, 90.0, 90.0, 91.0],
        ],
        [2.7, 0.9, 0.3, 0.1, 0.03, 0.01],
    ),
]


def misjudged(found: float, errors: Tensor, step_sizes: list[float]) -> str | None:
    """Say why a step size is not the one of the lowest mean without a run that diverged.

    Parameters
    ----------
    found : the step size that was chosen
    errors : validation errors in %, shape (k, n); NaN for a run that diverged
    step_sizes : k of them
    """
    settled = ~errors.isnan().any(dim=1)
    means = errors.mean(dim=1)
    best = int(_lowest(means, settled))
    chosen = [row for row, size in enumerate(step_sizes) if abs(found - size) <= 1e-5 * size]
    right = f"{step_sizes[best]:g}, with a mean error of {means[best]:.1f}%"
    if not chosen:
        if found == best:
            return f"it returns the row, {best}; return the step size of that row, {right}"
        if abs(found - means[best].item()) < 1e-3:
            return f"it returns the lowest mean error; return its step size, {step_sizes[best]:g}"
        return f"{found:g} is none of the step sizes {', '.join(f'{a:g}' for a in step_sizes)}"
    (row,) = chosen
    if row == best:
        return None
    if not settled[row]:
        return f"it chooses {found:g}, {_diverged(errors, row)}"
    picked = next((f" for {name}" for name, by in _OTHER_RULES.items()
                   if int(_lowest(by(errors), settled)) == row), "")  # fmt: skip
    return (
        f"it chooses {found:g}{picked}, where the mean error is {means[row]:.1f}%; right is {right}"
    )


def _lowest(values: Tensor, settled: Tensor) -> Tensor:
    return values.where(settled, torch.inf).argmin()


_OTHER_RULES = {
    "its best run": lambda errors: errors.amin(dim=1),
    "its worst run": lambda errors: errors.amax(dim=1),
    "its median run": lambda errors: errors.median(dim=1).values,
}


def _diverged(errors: Tensor, row: int) -> str:
    """Say how a row with a NaN seems to have won."""
    runs = errors.shape[1]
    lost = int(errors[row].isnan().sum())
    if lost == runs:
        return f"where all {runs} runs diverged (`argmin` takes NaN for the lowest)"
    if int(errors.nanmean(dim=1).nan_to_num(torch.inf).argmin()) == row:
        return (
            f"where {lost} of {runs} runs diverged; the mean of the others is low, and the next "
            "run may diverge, too"
        )
    return (
        f"where {lost} of {runs} runs diverged: the mean of a row with a NaN is NaN, and `argmin` "
        "takes NaN for the lowest"
    )


def distance(step_size: float, curvatures: list[float], momentum: float) -> float:
    """Return how far from the minimum SGD with momentum is, after many steps from distance 1."""
    furthest = 0.0
    for curvature in curvatures:
        theta, velocity = 1.0, 0.0
        for _ in range(3000):
            velocity = momentum * velocity + curvature * theta
            theta -= step_size * velocity
            if abs(theta) > 1e6:
                break
        furthest = max(furthest, abs(theta))
    return furthest
