"""The steps of APGD: where a run stands, and the rules by which it goes on."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from within_epsilon import geometry
from within_epsilon.attacks.core.linear import movable
from within_epsilon.geometry import per_pixel, wider
from within_epsilon.region import Region

_NEW_SHARE = 0.75  # alpha: how much of a move is the new step, the rest being momentum
_RISING_SHARE = 0.75  # rho: how many of the steps have to raise the loss
_DENSEST = 0.2  # share of the pixels that an l1 run moves at first
# Of a hundred steps, those after which step sizes are looked at; whole numbers, so that no
# rounding moves them.
_CHECKPOINTS = (0, 22, 41, 57, 70, 80, 87, 93, 99)
_SPARSER = 1.5  # by how much l1 runs cut down the pixels moved, and their steps


class Run(NamedTuple):
    """Where the examples of a run stand; everything has one row for each.

    Attributes
    ----------
    rows : Tensor of shape (M,), int64
        Which examples of the batch they are.
    points, previous, best : Tensor of shape (M, ...)
        Now, a step ago, and where the value was largest.
    uphill, best_uphill : Tensor of shape (M, ...)
        The gradients now and there.
    values, best_values : Tensor of shape (M,)
        The values now and there.
    rises : Tensor of shape (M,)
        How many steps since the last checkpoint have raised the value.
    step_size, mark, flag : Tensor of shape (M,)
        What the rules of `dense_step` and `sparse_step` remember.
    """

    rows: Tensor
    points: Tensor
    previous: Tensor
    best: Tensor
    uphill: Tensor
    best_uphill: Tensor
    values: Tensor
    best_values: Tensor
    rises: Tensor
    step_size: Tensor
    mark: Tensor
    flag: Tensor

    def arrive(self, values: Tensor, uphill: Tensor) -> "Run":
        """Note values (M,) and gradients (M, ...) at the present points."""
        values = values.to(self.values)
        better = values > self.best_values
        wide = per_pixel(better, uphill)
        return self._replace(
            values=values,
            uphill=uphill,
            rises=self.rises + (values > self.values),
            best=torch.where(wide, self.points, self.best),
            best_uphill=torch.where(wide, uphill, self.best_uphill),
            best_values=torch.where(better, values, self.best_values),
        )

    def go_back(self, which: Tensor) -> "Run":
        """Let some of the examples go on from their best points."""
        wide = per_pixel(which, self.points)
        return self._replace(
            values=torch.where(which, self.best_values, self.values),
            points=torch.where(wide, self.best, self.points),
            uphill=torch.where(wide, self.best_uphill, self.uphill),
        )


def begin(region: Region, points: Tensor, rows: Tensor) -> Run:
    """Return a run at its start: first step sizes, and what the rules remember."""
    radius = float(region.epsilon)
    start = region.nearest(points) if region.norm == "l1" else points
    lowest = start.new_full((len(start),), -torch.inf, dtype=wider(start.dtype))
    step_size = torch.full_like(lowest, radius if region.norm == "l1" else 2 * radius)
    mark, flag = lowest, torch.zeros_like(rows, dtype=torch.bool)
    if region.norm == "l1":
        mark = _support(start, region)
        flag = (mark / (_SPARSER * start[0].numel())).clamp_(max=_DENSEST)
    return Run(
        *(rows, start, start, start, start, start),
        *(-lowest, lowest, torch.zeros_like(lowest), step_size, mark, flag),
    )


def dense_step(run: Run, region: Region, step: int, steps: int) -> Run:
    """Take a step of APGD in linf or l2: with momentum, its size halved at checkpoints.

    The run's `mark` is the largest value at the last checkpoint, `flag` whether the step size
    was halved there. Croce, Hein, ICML 2020, Algorithm 1 and section 3.2.
    """
    marks = checkpoints(steps)
    if step in marks[1:]:
        span = step - marks[marks.index(step) - 1]
        idle = (run.best_values == run.mark) & ~run.flag
        halved = idle | (run.rises < _RISING_SHARE * span)
        run = run.go_back(halved)._replace(
            step_size=torch.where(halved, run.step_size / 2, run.step_size),
            rises=torch.zeros_like(run.rises),
            mark=run.best_values,
            flag=halved,
        )
    direction = geometry.steepest_rows(run.uphill.flatten(1), region.norm).view_as(run.points)
    stride = per_pixel(run.step_size, run.points) * direction
    proposed = region.clip(run.points + stride.to(run.points))
    if step > 0:
        proposed = _NEW_SHARE * proposed + (1 - _NEW_SHARE) * run.points
        proposed.add_(run.points - run.previous, alpha=1 - _NEW_SHARE)
        proposed = region.clip(proposed)
    return run._replace(previous=run.points, points=proposed)


def sparse_step(run: Run, region: Region, step: int, steps: int) -> Run:
    """Take a step of APGD in l1: it moves few pixels, ever fewer as the best point needs fewer.

    The run's `mark` is how many pixels the best point changed when that was last looked at,
    `flag` the share of the pixels to move. Croce, Hein, "Mind the Box", ICML 2021.
    """
    radius = float(region.epsilon)
    if step > 0 and step % max(1, int(0.04 * steps)) == 0:
        support = _support(run.best, region)
        sparser = support < 0.95 * run.mark
        shorter = (run.step_size / _SPARSER).clamp_(min=radius / 10)
        run = run.go_back(sparser)._replace(
            step_size=torch.where(sparser, radius, shorter),
            mark=support,
            flag=support / (_SPARSER * run.points[0].numel()),
        )
    uphill = region.masked(movable(run.uphill, run.points)).flatten(1)
    numbers = (run.flag * uphill.shape[1]).long().clamp_(min=1)
    largest = uphill.abs().topk(int(numbers.max())).values
    signs = uphill.sign() * (uphill.abs() >= largest.gather(1, numbers.unsqueeze(1) - 1))
    stride = run.step_size / signs.abs().sum(dim=1, dtype=torch.float32).clamp_(min=1)
    taken = (stride.unsqueeze(1) * signs).view_as(run.points).to(run.points)
    return run._replace(points=region.nearest(run.points + taken))


def _support(points: Tensor, region: Region) -> Tensor:
    """Count the pixels in which points differ from the clean images, (M,)."""
    return (points != region.images).flatten(1).sum(dim=1)


@functools.cache
def checkpoints(steps: int) -> list[int]:
    """Return the steps after which APGD looks back, 0 first, ever closer to each other.

    They are ceil(p_j steps) for p_0 = 0, p_1 = 0.22 and p_{j+1} = p_j +
    max(p_j - p_{j-1} - 0.03, 0.06), as long as p_j <= 1.
    """
    return sorted({math.ceil(mark * steps / 100) for mark in _CHECKPOINTS})
