"""Where inputs may lie, and the smallest value of a linear function there."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from within_epsilon.checks import check_images, check_shape
from within_epsilon.geometry import Norm, norm_of_rows
from within_epsilon.region import SLACK
from within_epsilon.threat import Ball, check_ball
from within_epsilon.verification.rounding import DOUBLE, gamma
from within_epsilon.verification.values import Interval
from within_epsilon.verification.windows import Rows, dense, dot, sizes_of


@dataclass(frozen=True, eq=False)
class Box:
    """All inputs between two ends, number by number; they need not be pixels.

    Parameters
    ----------
    lower, upper : Tensor of shape (N, ...)
        The ends, N boxes.

    Raises
    ------
    ValueError
        If their shapes differ, or a lower end is above its upper one, or not finite.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        check_shape("upper", self.upper, self.lower)
        if self.lower.ndim < 2:
            raise ValueError(
                f"lower: expected a batch of shape (N, ...), received {tuple(self.lower.shape)}; "
                "add a batch dimension to a single box with lower.unsqueeze(0)"
            )
        if not (self.lower <= self.upper).all() or not self.lower.isfinite().all():
            raise ValueError(
                "lower: expected finite ends, none above the upper one, received some that are; "
                "exchange them"
            )
        if not self.upper.isfinite().all():
            raise ValueError("upper: expected finite ends, received infinity; name a bound")


class Domain:
    """The inputs of N problems: boxes, and for l2 and l1 the balls inside them.

    Parameters
    ----------
    lower, upper : Tensor of shape (N, ...), float64
        Ends of a box around all inputs.
    norm : {"linf", "l2", "l1"}
        linf: the whole box; else: its part within epsilon of the centre.
    centre : Tensor of shape (N, ...), float64
        The clean images.
    epsilon : float
        The radius.
    """

    def __init__(
        self,
        lower: Tensor,
        upper: Tensor,
        norm: Norm = "linf",
        centre: Tensor | None = None,
        epsilon: float = 0.0,
    ) -> None:
        self.lower, self.upper, self.norm, self.epsilon = lower, upper, norm, epsilon
        self.centre = (lower + upper) / 2 if centre is None else centre

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, rows: Tensor | slice) -> "Domain":
        """Return some of the problems."""
        if isinstance(rows, slice) and rows == slice(0, len(self)):
            return self
        return Domain(
            self.lower[rows], self.upper[rows], self.norm, self.centre[rows], self.epsilon
        )

    @property
    def interval(self) -> Interval:
        """The box around all inputs."""
        return Interval(self.lower, self.upper)

    def is_empty(self) -> Tensor:
        """Tell which boxes lie beyond their balls, for certain, (N,), bool."""
        nearest = torch.clamp(self.centre, self.lower, self.upper)
        distance = norm_of_rows((nearest - self.centre).flatten(1), self.norm)
        return distance > self.epsilon * (1 + 1e-9) if self.norm != "linf" else distance < 0

    def least(self, rows: Rows) -> Tensor:
        """Bound linear functions from below.

        Parameters
        ----------
        rows : Tensor of shape (B, S, ...), float64, or Windows
            S functions' coefficients, the same for all problems (B = 1) or for each (B = N).

        Returns
        -------
        Tensor of shape (N, S), float64
            No input has a smaller value, rounding included. For boxes and l1 the bound is
            attained; for l2 it is the better one of the ball's and the box's.
        """
        share, middle, radius = self._box
        values = dot(rows, middle) - dot(sizes_of(rows), radius)
        if self.norm == "linf":
            return values
        rows = dense(rows).flatten(2)
        start = dot(rows, self.centre) - share * dot(rows.abs(), self.centre.abs())
        # Coordinates that cannot move add no length.
        moving = rows * (self.upper > self.lower).flatten(1).unsqueeze(1)
        if self.norm == "l2":
            length = torch.linalg.vector_norm(moving, dim=2)
            return torch.maximum(values, start - self.epsilon * (1 + share) * length)
        return torch.maximum(values, start - self._spent(moving, share))

    @cached_property
    def _box(self) -> tuple[float, Tensor, Tensor]:
        """What dot products may be off by, relative to their sizes; middle, and radius with that.

        Kept, since every layer's bounds end here.
        """
        share = 2 * gamma(self.lower[0].numel() + 16, DOUBLE)
        middle, radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        return share, middle, radius + share * (middle.abs() + radius)

    def lowest(self, rows: Tensor) -> Tensor:
        """Return where one linear function (M, ...) each is least, or nearly so, if N = 1."""
        if self.norm == "linf":
            return torch.where(rows > 0, self.lower, self.upper)
        moving = (rows * (self.upper > self.lower)).flatten(1)
        if self.norm == "l1":
            largest = moving.abs() >= moving.abs().amax(dim=1, keepdim=True)
            moving = moving.sign() * largest
        length = torch.linalg.vector_norm(moving, dim=1, keepdim=True).clamp(min=1e-300)
        points = self.centre - self.epsilon * (moving / length).view_as(rows)
        return torch.clamp(points, self.lower, self.upper)

    def _spent(self, rows: Tensor, share: float) -> Tensor:
        """Return how far linear functions can fall when l1 is spent where it counts most."""
        falls, rises = self.centre - self.lower, self.upper - self.centre
        room = torch.where(rows > 0, falls.flatten(1).unsqueeze(1), rises.flatten(1).unsqueeze(1))
        slopes, order = rows.abs().sort(dim=2, descending=True)
        filled = room.gather(2, order).cumsum(dim=2).clamp(max=self.epsilon)
        spent = torch.diff(filled, dim=2, prepend=torch.zeros_like(filled[..., :1]))
        # Rounding of what is filled moves it between slopes, from the largest at worst.
        most = share * self.epsilon * slopes[..., 0]
        return (1 + share) * (slopes * spent).sum(dim=2) + most


def domain_of(images: Tensor | Box, ball: Ball | None, *, exactly: bool) -> Domain:
    """Prepare the inputs that a threat model or a box allows.

    Parameters
    ----------
    images : Tensor of shape (N, ...), or Box
        Clean pixels in [0, 1], or the inputs themselves.
    ball : Ball or None
        The threat model around images; None with a box.
    exactly : bool
        True: what the ball is in real numbers. False: what `Ball.admits` accepts, which is
        2^-20 wider, relative to epsilon.

    Raises
    ------
    TypeError, ValueError
        If images are no pixels in [0, 1], or a box comes with a ball or images without one.
    """
    if isinstance(images, Box):
        if ball is not None:
            raise TypeError(
                "ball: expected None beside a Box, which says by itself where inputs lie, "
                f"received {ball}"
            )
        return Domain(images.lower.detach().cpu().double(), images.upper.detach().cpu().double())
    check_images(images)
    check_ball(ball)
    assert ball is not None
    clean = images.detach().cpu().double()
    epsilon = ball.epsilon if exactly else ball.epsilon * (1 + SLACK)
    radius = torch.full_like(clean, epsilon)
    if ball.mask is not None:
        radius = radius * ball.mask.cpu()
    # Both operations round: the ends go outwards by a last place where there is a radius at all.
    step = 2.0**-51 * radius.sign()
    lower, upper = (clean - radius - step).clamp(min=0), (clean + radius + step).clamp(max=1)
    return Domain(lower, upper, ball.norm, clean, epsilon)
