"""The ball explorer: three balls in the plane, a point to bring back, a gradient to follow."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import traitlets
from matplotlib.patches import Polygon

from within_epsilon import plots
from within_epsilon.geometry import Norm
from within_epsilon.plots.style import canvas
from within_epsilon.threat import Ball
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart

Point = tuple[float, float]

NORMS = ("linf", "l2", "l1")
VIEWS = ("project", "climb")
# Two pixels: with room on all sides, and one of them nearly black.
IMAGES: dict[str, Point] = {"grey": (0.5, 0.5), "dark": (0.1, 0.6)}
_NAMES = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
_DUALS = {"linf": "l1", "l2": "l2", "l1": "linf"}
_REACH = 0.6  # how far a point can be dragged, in either coordinate


class Allowed(NamedTuple):
    """What becomes of a perturbation of two pixels."""

    projected: Point  # onto the ball
    clipped: Point  # and then to pixels in [0, 1]
    nearest: Point  # of all that the ball and the pixels allow


class BallExplorer(Explorer):
    """Drag a perturbation of two pixels and see the nearest allowed one; or follow a gradient.

    One view projects the point onto the chosen ball, clips the pixels to [0, 1] and shows where
    the nearest point of both is. The other takes the point for a gradient g and shows the step
    in the ball on which <g, delta> is largest: epsilon times the dual norm of g.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        The ball that is chosen at the start; the others are outlined.
    view : {"project", "climb"}
        What the point is: a perturbation, or a gradient.
    image : {"grey", "dark"}
        The two clean pixels: (0.5, 0.5), or (0.1, 0.6), where the range is in the way.
    point : pair of float
        Where the point starts, -0.6 to 0.6 each.
    epsilon : float
        Radius of all three balls, 0.05 to 0.5, in units of pixels.

    Raises
    ------
    traitlets.TraitError
        If one of them is anything else.

    Notes
    -----
    With a kernel, `norm`, `view`, `image` and `point` can be read, set and observed.
    """

    kind = "balls"

    norm = state(traitlets.Enum(NORMS, default_value="l2"))
    view = state(traitlets.Enum(VIEWS, default_value="project"))
    image = state(traitlets.Enum(tuple(IMAGES), default_value="grey"))
    images = state(traitlets.List())
    point = state(traitlets.List(traitlets.Float(min=-_REACH, max=_REACH), minlen=2, maxlen=2))
    epsilon = state(traitlets.Float(0.3, min=0.05, max=0.5))

    def __init__(
        self,
        norm: str = "l2",
        view: str = "project",
        image: str = "grey",
        point: Sequence[float] = (-0.5, 0.4),
        epsilon: float = 0.3,
    ) -> None:
        super().__init__(
            norm=norm,
            view=view,
            image=image,
            images=[[name, list(pixels)] for name, pixels in IMAGES.items()],
            point=[float(value) for value in point],
            epsilon=epsilon,
        )

    def summary(self) -> str:
        """Return ball, view and point."""
        return f"{Ball(self.norm, self.epsilon)}, view={self.view!r}, point={self.point}"

    def verdict(self) -> str:
        """Return the sentence that stands under the balls."""
        point, ball = cast(Point, tuple(self.point)), Ball(self.norm, self.epsilon)
        if self.view == "climb":
            step, dual = climb(self.norm, self.epsilon, point)
            return (
                f"g = {_pair(point)}: the best step in {ball} is {_pair(step)}, and ⟨g, δ⟩ = "
                f"ε · {_NAMES[_DUALS[self.norm]]} norm of g = {self.epsilon:g} · {dual:.2f} = "
                f"{self.epsilon * dual:.3f}."
            )
        way = allowed(self.norm, self.epsilon, IMAGES[self.image], point)
        said = f"δ = {_pair(point)} has {_NAMES[self.norm]} norm {length(self.norm, point):.2f}"
        if math.dist(point, way.projected) < 1e-9:
            said += f" and lies in {ball}."
        else:
            said += f"; the nearest point in {ball} is {_distant(way.projected, point)}."
        if math.dist(way.clipped, way.projected) < 1e-9:
            return said
        said += f" Clipping the pixels then makes it {_distant(way.clipped, point)}; "
        if math.dist(way.clipped, way.nearest) < 1e-3:
            return said + "no allowed point is nearer."
        return said + f"the nearest allowed point is {_distant(way.nearest, point)}."

    def still(self) -> str:
        """Return the three balls with the point and where it goes, the verdict below."""
        point = cast(Point, tuple(self.point))
        figure, axes = canvas(4.5, 4.5)
        for norm in NORMS:
            edge, width = ("#222222", 2.0) if norm == self.norm else (plots.NEUTRAL, 1.0)
            corners = outline(norm, self.epsilon)
            axes.add_patch(Polygon(corners, fill=False, edgecolor=edge, linewidth=width))
        if self.view == "project":
            colour = plots.ADVERSARY
            goal = allowed(self.norm, self.epsilon, IMAGES[self.image], point).clipped
        else:
            colour = plots.DIRECTION
            goal, _ = climb(self.norm, self.epsilon, point)
        axes.plot(*zip(point, goal, strict=True), color=colour, linewidth=1.5)
        axes.plot(*point, marker="o", color="white", markeredgecolor=colour, markersize=9)
        axes.plot(*goal, marker="s", color=colour, markersize=8)
        axes.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH), aspect="equal")
        axes.set(xlabel=r"$\delta_1$, the first pixel", ylabel=r"$\delta_2$, the second pixel")
        alt = (
            "Around the origin a square, a circle within it and a diamond within the circle; "
            "a point outside, joined to the place in the chosen ball where it goes."
        )
        return still_picture(chart(figure), alt) + f"<p>{html.escape(self.verdict())}</p>"


def length(norm: str, point: Point) -> float:
    """Return a point's norm."""
    ball = Ball(cast(Norm, norm), 1)
    return float(ball.length(torch.tensor([point], dtype=torch.float64)))


def allowed(norm: str, epsilon: float, pixels: Point, point: Point) -> Allowed:
    """Project a perturbation of two pixels onto a ball, clip the pixels, and look for nearer.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        The ball's norm.
    epsilon : float
        Its radius.
    pixels : pair of float
        The clean pixels, in [0, 1].
    point : pair of float
        The perturbation.

    Returns
    -------
    Allowed
        Three perturbations; the nearest to within 1e-9.

    Notes
    -----
    The nearest point of ball and range together is the point shrunk as the projection shrinks
    it, by some strength, and then clipped: the constraints on single pixels do not couple. The
    strength is found by bisection.
    """
    delta = torch.tensor([point], dtype=torch.float64)
    clean = torch.tensor([pixels], dtype=torch.float64)
    ball = Ball(cast(Norm, norm), epsilon)

    def clip(change: torch.Tensor) -> torch.Tensor:
        return (clean + change).clamp(0, 1) - clean

    def shrink(strength: float) -> torch.Tensor:
        if norm == "l2":
            return clip(delta / (1 + strength))
        return clip(delta.sign() * (delta.abs() - strength).clamp(min=0))

    projected = ball.project(delta)
    nearest = clip(projected) if norm == "linf" else clip(delta)
    if not ball.contains(nearest):
        weak, strong = 0.0, 100.0
        for _ in range(60):
            middle = (weak + strong) / 2
            inside = bool(ball.length(shrink(middle)) <= epsilon)
            weak, strong = (weak, middle) if inside else (middle, strong)
        nearest = shrink(strong)
    return Allowed(*(cast(Point, tuple(row[0].tolist()))
                     for row in (projected, clip(projected), nearest)))  # fmt: skip


def climb(norm: str, epsilon: float, gradient: Point) -> tuple[Point, float]:
    """Return the step in the ball that raises <g, delta> most, and the dual norm of g."""
    rows = torch.tensor([gradient], dtype=torch.float64)
    step = epsilon * Ball(cast(Norm, norm), epsilon).steepest(rows)
    return cast(Point, tuple(step[0].tolist())), length(_DUALS[norm], gradient)


def outline(norm: str, epsilon: float) -> list[Point]:
    """Return the corners of a ball's outline in the plane; the circle has many."""
    if norm == "linf":
        return [(a * epsilon, b * epsilon) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    count = 4 if norm == "l1" else 120
    angles = [2 * math.pi * i / count for i in range(count)]
    return [(epsilon * math.cos(angle), epsilon * math.sin(angle)) for angle in angles]


def _number(value: float) -> str:
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _pair(point: Point) -> str:
    return f"({_number(point[0])}, {_number(point[1])})"


def _distant(place: Point, point: Point) -> str:
    return f"{_pair(place)}, {math.dist(place, point):.2f} away"
