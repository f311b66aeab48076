"""Look for counterexamples, and try them on the network itself."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.geometry import per_pixel, round_towards
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball
from within_epsilon.verification.domain import Box
from within_epsilon.verification.rounding import dtype_of


class Reach:
    """The inputs that a threat model or a box allows, in the network's own dtype.

    Parameters
    ----------
    images : Tensor of shape (N, ...), or Box
        Clean images, or the inputs themselves.
    ball : Ball or None
        The threat model around images.
    dtype : torch.dtype
        The network's.
    """

    def __init__(self, images: Tensor | Box, ball: Ball | None, dtype: torch.dtype) -> None:
        self.box = images if isinstance(images, Box) else None
        if isinstance(images, Box):
            lower, upper = images.lower.detach().cpu(), images.upper.detach().cpu()
            self.exact = lower.double(), upper.double()
            middle = (self.exact[0] + self.exact[1]) / 2
            start = middle.to(dtype).double()
            self.centre = start.to(dtype)
            self.lower, self.upper = (
                round_towards(end, torch.clamp(start, *self.exact), dtype) for end in self.exact
            )
            self.norm = "linf"
        else:
            assert ball is not None
            self.centre = images.detach().cpu().to(dtype)
            self.region, self.norm = ball.within(self.centre), ball.norm
            self.epsilon = ball.epsilon

    def admits(self, points: Tensor) -> Tensor:
        """Tell which points are allowed, (N,), bool."""
        if self.box is None:
            return self.region.admits(points)
        wide = points.double()
        inside = (wide >= self.exact[0]) & (wide <= self.exact[1])
        return inside.flatten(1).all(dim=1)

    def clip(self, points: Tensor) -> Tensor:
        """Bring points into what is allowed."""
        points = points.to(self.centre.dtype)
        if self.box is None:
            return self.region.clip(points)
        return torch.clamp(points, self.lower, self.upper)

    def step(self, points: Tensor, uphill: Tensor, share: float) -> Tensor:
        """Take a step of a share of the radius, and come back."""
        if self.box is None:
            return self.region.step(points, uphill, share * self.epsilon)
        length = share * (self.upper - self.lower) / 2
        return torch.clamp(points + length * uphill.sign(), self.lower, self.upper)

    def random(self, generator: torch.Generator) -> Tensor:
        """Draw points, towards the corners."""
        noise = torch.rand(self.centre.shape, generator=generator, dtype=torch.float64) * 2 - 1
        if self.box is not None:
            lower, upper = self.lower.double(), self.upper.double()
            return self.clip((lower + upper) / 2 + noise * (upper - lower) / 2)
        return self.clip(self.centre.double() + noise * self.epsilon)


class Found(NamedTuple):
    """The worst inputs that were found.

    Parameters
    ----------
    points : Tensor of shape (N, ...)
        Allowed inputs, in the network's dtype.
    values : Tensor of shape (N,), float64
        The least of each problem's functions there, of the network as torch runs it, one
        input at a time.
    """

    points: Tensor
    values: Tensor


def falsify(
    model: nn.Module,
    images: Tensor | Box,
    ball: Ball | None,
    rows: Tensor,
    *,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
) -> Found:
    """Look for inputs at which linear functions of the logits are small, one run for each.

    Parameters
    ----------
    model : nn.Module
        Takes inputs, returns logits (N, k).
    images : Tensor of shape (N, ...), or Box
        Clean pixels in [0, 1], or the inputs themselves.
    ball : Ball or None
        The threat model around images; None with a box.
    rows : Tensor of shape (1 or N, S, k), float64
        Coefficients of the functions, such as `objective_rows` returns.
    steps : int
        Steps down the function's gradient, the first of half the radius, the last a hundredth.
    restarts : int
        Runs; the first starts from the middle, others from random places.
    seed : int
        Of the random places.

    Returns
    -------
    Found
        The worst of all points of all runs, tried alone.
    """
    n = len(images.lower) if isinstance(images, Box) else len(images)
    rows = rows.expand(n, *rows.shape[1:])
    number, dtype = rows.shape[1], dtype_of(model)
    every = torch.arange(n).repeat_interleave(number)
    reach = reach_of(images, ball, dtype, every)
    functions = rows.flatten(0, 1)
    best = reach.clip(reach.centre)
    record = _values(model, best, functions)
    for run in range(restarts):
        generator = torch.Generator().manual_seed(seed + run)
        points = reach.clip(reach.random(generator) if run else reach.centre)
        for step in range(steps):
            points = points.detach().requires_grad_()
            values = _values(model, points, functions)
            (slopes,) = torch.autograd.grad(values.sum(), points)
            points = reach.step(points.detach(), -slopes, 0.5 * 0.02 ** (step / max(1, steps - 1)))
            values = _values(model, points, functions).detach()
            better = values < record
            record = torch.where(better, values, record)
            best = torch.where(per_pixel(better, best), points, best)
    worst = record.detach().view(n, number).argmin(dim=1) + torch.arange(n) * number
    return replay(model, best[worst].detach(), rows)


@torch.no_grad()
def replay(model: nn.Module, points: Tensor, rows: Tensor) -> Found:
    """Run the network on each point alone, and return the least of its functions."""
    alone = [
        _values(model, point.unsqueeze(0), own) for point, own in zip(points, rows, strict=True)
    ]
    return Found(points, torch.stack([values.min() for values in alone]))


def some_of(
    images: Tensor | Box, ball: Ball | None, rows: Tensor | slice
) -> tuple[Tensor | Box, Ball | None]:
    """Return some of the problems, which may occur more than once."""
    if isinstance(images, Box):
        return Box(images.lower[rows], images.upper[rows]), None
    return images[rows], None if ball is None else ball[rows]


def reach_of(
    images: Tensor | Box, ball: Ball | None, dtype: torch.dtype, rows: Tensor | slice
) -> Reach:
    """Return what is allowed in some of the problems."""
    return Reach(*some_of(images, ball, rows), dtype)


def _values(model: nn.Module, points: Tensor, functions: Tensor) -> Tensor:
    """Return linear functions (M, k) of the logits of points (M or 1, ...), (M,), float64."""
    logits: Tensor = model(points.to(device_of(model))).cpu().double()
    return (logits * functions).sum(dim=1)
