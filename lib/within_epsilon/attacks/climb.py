"""Runs of APGD: where each example stands, and the rules that change its step."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon import geometry
from within_epsilon.attacks.common import Aim, Worst, differentiate, per_pixel, score, stuck
from within_epsilon.region import Region

# (step, rows, points, losses) at every point visited.
Visit = Callable[[int, Tensor, Tensor, Tensor], None]

_NEW_SHARE = 0.75  # alpha: how much of a move is the new step, the rest being momentum
_RISING_SHARE = 0.75  # rho: how many of the steps have to raise the loss
_DENSEST = 0.2  # share of the pixels that an l1 run moves at first
_SPARSER = 1.5  # by how much l1 runs cut down the pixels moved, and their steps


class Climb:
    """Examples on their way uphill, and the best point that each has seen.

    Parameters
    ----------
    start : Tensor of shape (M, ...)
        Points of the region.
    region : Region
        Where they may go.
    aim : Aim
        What is uphill.
    rows : Tensor of shape (M,), int64
        Which examples of the batch they are.

    Attributes
    ----------
    points, best : Tensor of shape (M, ...)
        Where each example stands, and where its gain was largest.
    """

    def __init__(self, start: Tensor, region: Region, aim: Aim, rows: Tensor) -> None:
        self.points, self.region, self.aim, self.rows = start, region, aim, rows
        self.gradient, self.best, self.best_gradient = start, start, start
        wide = torch.promote_types(start.dtype, torch.float32)
        self.gains = start.new_full((len(start),), torch.inf, dtype=wide)
        self.best_gains = -self.gains
        self.rises = torch.zeros_like(self.gains)
        self.step_size = torch.empty_like(self.gains)

    def run(
        self,
        model: nn.Module,
        steps: int,
        worst: Worst | None,
        visit: Visit | None,
        *,
        early_stop: bool,
    ) -> None:
        """Climb for some steps of one gradient each; at the end, score the last points.

        Parameters
        ----------
        model : nn.Module
            Takes images in [0, 1], returns logits (N, K).
        steps : int
            Number of steps.
        worst : Worst, optional
            Is offered every point visited. Without it the last ones are not scored.
        visit : callable, optional
            Is told of every point visited.
        early_stop : bool
            Let examples go as soon as their aim is reached.
        """
        for step in range(steps):
            logits, losses, gradient = differentiate(model, self.points, self.aim)
            reached, gains = self.aim.reached(logits), self.aim.gains(losses)
            if worst is not None:
                worst.offer(self.rows, self.points, reached, gains)
            if visit is not None:
                visit(step, self.rows, self.points, losses)
            self.arrive(gains, self.aim.gains(gradient))
            if early_stop and reached.any():
                self.keep(~reached)
                if not len(self.rows):
                    return
            with torch.no_grad():
                self.move(step)
        if worst is None:
            return
        losses, reached = score(model, self.points, self.aim)
        worst.offer(self.rows, self.points, reached, self.aim.gains(losses))
        if visit is not None:
            visit(steps, self.rows, self.points, losses)

    def arrive(self, gains: Tensor, gradient: Tensor) -> None:
        """Note gains (M,) and uphill gradient (M, ...) at the present points."""
        gains = gains.to(self.gains)
        self.rises += gains > self.gains
        self.gains, self.gradient = gains, gradient
        better = gains > self.best_gains
        self.best_gains = torch.where(better, gains, self.best_gains)
        self.best = torch.where(per_pixel(better, gradient), self.points, self.best)
        self.best_gradient = torch.where(per_pixel(better, gradient), gradient, self.best_gradient)

    def go_back(self, which: Tensor) -> None:
        """Let some of the examples go on from their best points."""
        self.gains = torch.where(which, self.best_gains, self.gains)
        wide = per_pixel(which, self.points)
        self.points = torch.where(wide, self.best, self.points)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)

    def keep(self, which: Tensor) -> None:
        """Forget all other examples."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor | Region | Aim):
                setattr(self, name, value[which])

    def move(self, step: int) -> None:
        """Adapt the step sizes, then go from the present points to the next."""
        raise NotImplementedError


class DenseClimb(Climb):
    """APGD for linf and l2: momentum, and step sizes halved at checkpoints.

    References
    ----------
    Croce, Hein, ICML 2020, Algorithm 1 and section 3.2.
    """

    def __init__(
        self, start: Tensor, region: Region, aim: Aim, rows: Tensor, *, steps: int
    ) -> None:
        super().__init__(start, region, aim, rows)
        self.step_size.fill_(2 * region.epsilon)
        self.previous, self.gains_before = start, self.best_gains
        self.halved = torch.zeros_like(rows, dtype=torch.bool)
        marks = checkpoints(steps)
        self._spans = {end: end - begin for begin, end in itertools.pairwise(marks)}

    def move(self, step: int) -> None:
        """Halve step sizes if the step is a checkpoint; then step, with momentum."""
        if step in self._spans:
            self._check(self._spans[step])
        direction = geometry.steepest_rows(self.gradient.flatten(1), self.region.norm)
        stride = per_pixel(self.step_size, self.points) * direction.view_as(self.points)
        proposed = self.region.clip(self.points + stride.to(self.points))
        if step > 0:
            proposed = _NEW_SHARE * proposed + (1 - _NEW_SHARE) * self.points
            proposed.add_(self.points - self.previous, alpha=1 - _NEW_SHARE)
            proposed = self.region.clip(proposed)
        self.previous, self.points = self.points, proposed

    def _check(self, span: int) -> None:
        """Halve the step sizes of runs that rise too seldom or have found nothing better."""
        idle = (self.best_gains == self.gains_before) & ~self.halved
        self.halved = idle | (self.rises < _RISING_SHARE * span)
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        self.go_back(self.halved)
        self.rises, self.gains_before = torch.zeros_like(self.rises), self.best_gains


class SparseClimb(Climb):
    """APGD for l1: steps that move few pixels, ever fewer as the best point needs fewer.

    References
    ----------
    Croce, Hein, "Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image
    Classifiers", ICML 2021.
    """

    def __init__(
        self, start: Tensor, region: Region, aim: Aim, rows: Tensor, *, steps: int
    ) -> None:
        super().__init__(start, region, aim, rows)
        self.step_size.fill_(region.epsilon)
        self.support = self._changed()
        self.share = self._next_share().clamp_(max=_DENSEST)
        self._period = max(1, int(0.04 * steps))

    def move(self, step: int) -> None:
        """Adapt sparsity and step sizes every few steps; then step."""
        if step > 0 and step % self._period == 0:
            self._check()
        uphill = self.gradient.masked_fill(stuck(self.points, self.gradient), 0).flatten(1)
        numbers = (self.share * uphill.shape[1]).long().clamp_(min=1)
        largest = uphill.abs().topk(int(numbers.max())).values
        smallest_kept = largest.gather(1, numbers.unsqueeze(1) - 1)
        signs = uphill.sign() * (uphill.abs() >= smallest_kept)
        stride = self.step_size / signs.abs().sum(dim=1, dtype=torch.float32).clamp_(min=1)
        step_taken = (stride.unsqueeze(1) * signs).view_as(self.points).to(self.points)
        self.points = self.region.nearest(self.points + step_taken)

    def _check(self) -> None:
        """Aim at fewer pixels; shorten the steps of runs whose best point is as dense as before."""
        support = self._changed()
        sparser, self.support = support < 0.95 * self.support, support
        self.share = self._next_share()
        shorter = (self.step_size / _SPARSER).clamp_(min=self.region.epsilon / 10)
        self.step_size = torch.where(sparser, self.region.epsilon, shorter)
        self.go_back(sparser)

    def _changed(self) -> Tensor:
        """Count the pixels in which each best point differs from the clean image, (M,)."""
        return (self.best != self.region.images).flatten(1).sum(dim=1)

    def _next_share(self) -> Tensor:
        """Return the share of the pixels that the next steps move, (M,)."""
        return self.support / (_SPARSER * self.points[0].numel())


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which APGD looks back, 0 first, ever closer to each other.

    They are ceil(p_j steps) for p_0 = 0, p_1 = 0.22 and p_{j+1} = p_j +
    max(p_j - p_{j-1} - 0.03, 0.06), as long as p_j <= 1.
    """
    # In hundredths, which are whole numbers, so that no rounding moves a checkpoint.
    marks, width = [0], 22
    while marks[-1] + width <= 100:
        marks.append(marks[-1] + width)
        width = max(width - 3, 6)
    return sorted({math.ceil(mark * steps / 100) for mark in marks})
