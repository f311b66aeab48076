"""The linear explorer: a line between two classes, and what an adversary makes of every margin."""

from __future__ import annotations

import html
import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from within_epsilon import plots
from within_epsilon.geometry import Norm
from within_epsilon.threat import Ball
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart

Array = NDArray[np.float64]

NORMS = ("linf", "l2", "l1")
LENGTHS = (0.5, 1.0, 2.0)
# Corners of the unit ball, counter-clockwise; the circle gets many.
_CORNERS = {"linf": [(1, 1), (-1, 1), (-1, -1), (1, -1)], "l1": [(1, 0), (0, 1), (-1, 0), (0, -1)]}


class WorstCase(NamedTuple):
    """What the worst perturbation does to each of N points.

    Parameters
    ----------
    margins : array of shape (N,)
        y <w, x>, before.
    price : float
        epsilon times the dual norm of w: what every margin loses.
    deltas : array of shape (N, 2)
        A worst perturbation of each point.
    """

    margins: Array
    price: float
    deltas: Array

    @property
    def worst(self) -> Array:
        """The margins afterwards, (N,)."""
        return self.margins - self.price


def worst_case(inputs: ArrayLike, labels: ArrayLike, weight: ArrayLike, ball: Ball) -> WorstCase:
    """Return the exact worst case of a linear classifier without bias, nothing clipped.

    Parameters
    ----------
    inputs : array of shape (N, 2)
    labels : array of shape (N,), -1 or +1
    weight : array of shape (2,)
    ball : the threat model

    Returns
    -------
    WorstCase
    """
    x, y = np.asarray(inputs, dtype=float), np.asarray(labels, dtype=float)
    w = np.asarray(weight, dtype=float)
    step = ball.steepest(torch.from_numpy(w).unsqueeze(0))[0].numpy()
    return WorstCase(y * (x @ w), ball.epsilon * float(w @ step), -ball.epsilon * y[:, None] * step)


class LinearExplorer(Explorer):
    """Turn the weights of a linear classifier and see which points an adversary can move across.

    The classifier says sign(<w, x>) of points in the plane; its line passes through 0. Every
    point stands in the middle of its ball, and the strip around the line is where margins do not
    survive: y <w, x> <= epsilon times the dual norm of w.

    Parameters
    ----------
    inputs : array or Tensor of shape (N, 2)
        Points, best between -1 and 1; 4 to 60 of them.
    labels : array or Tensor of shape (N,)
        -1 or +1.
    angle : float
        Direction of w in degrees, counter-clockwise from the first axis.
    length : {0.5, 1, 2}
        Euclidean length of w.
    epsilon : float
        Radius of the ball, 0 to 1.
    norm : {"linf", "l2", "l1"}
        The ball's norm.
    point : int
        Whose margin to take apart.

    Raises
    ------
    ValueError
        If shapes, labels or coordinates are others.

    Notes
    -----
    With a kernel, `angle`, `length`, `epsilon`, `norm` and `point` can be read, set and observed.
    """

    kind = "linear"

    inputs = state(traitlets.List())
    labels = state(traitlets.List(traitlets.Int()))
    reach = state(traitlets.Float())
    angle = state(traitlets.Float(45.0, min=-180.0, max=180.0))
    length = state(traitlets.Enum(LENGTHS, default_value=1.0))
    epsilon = state(traitlets.Float(0.2, min=0.0, max=1.0))
    norm = state(traitlets.Enum(NORMS, default_value="linf"))
    point = state(traitlets.Int(0, min=0))

    def __init__(
        self,
        inputs: ArrayLike | torch.Tensor,
        labels: ArrayLike | torch.Tensor,
        *,
        angle: float = 45.0,
        length: float = 1.0,
        epsilon: float = 0.2,
        norm: Norm = "linf",
        point: int = 0,
    ) -> None:
        x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 2 or y.shape != x.shape[:1]:
            raise ValueError(
                f"inputs, labels: expected shapes (N, 2) and (N,), received {x.shape} and {y.shape}"
            )
        if not np.isin(y, (-1, 1)).all():
            raise ValueError(
                f"labels: expected -1 and +1, received {sorted(set(y.tolist()))[:5]}; from 0 "
                "and 1 make 2 * labels - 1"
            )
        if not (np.isfinite(x).all() and 4 <= len(y) <= 60 and 0 <= point < len(y)):
            raise ValueError(
                "inputs, point: expected 4 to 60 points of finite coordinates and the place of "
                f"one, received {len(y)} points and {point}"
            )
        # Three digits travel lighter, and the kernel computes with the same numbers.
        x = x.round(3)
        super().__init__(
            inputs=x.tolist(),
            labels=y.astype(int).tolist(),
            reach=math.ceil(10 * np.abs(x).max() + 1) / 10,
            angle=angle,
            length=length,
            epsilon=epsilon,
            norm=norm,
            point=point,
        )

    def weight(self) -> Array:
        """Return w, (2,)."""
        radians = math.radians(self.angle)
        return float(self.length) * np.array([math.cos(radians), math.sin(radians)])

    def worst_case(self) -> WorstCase:
        """Return margins, price and worst perturbations as they are now."""
        ball = Ball(self.norm, self.epsilon)
        return worst_case(self.inputs, self.labels, self.weight(), ball)

    def summary(self) -> str:
        """Return the direction and the threat model."""
        return f"angle={self.angle:g}, {Ball(self.norm, self.epsilon)}"

    def still(self) -> str:
        """Return points, balls, line and strip, with the verdict below."""
        case = self.worst_case()
        with plt.style.context(plots.STYLE):
            figure, axes = plt.subplots(figsize=(6, 4.2))
        plt.close(figure)
        axes.set(xlim=(-1.4 * self.reach, 1.4 * self.reach), ylim=(-self.reach, self.reach))
        axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        self._draw_line(axes, case)
        self._draw_points(axes, case)
        n, ball = len(self.labels), Ball(self.norm, self.epsilon)
        wrong, falls = (int((values <= 0).sum()) for values in (case.margins, case.worst))
        said = f"w at {self.angle:g}°: {wrong} of {n} points wrong; at worst, {ball}, {falls}."
        alt = (
            "Two clouds of points with a ball around each, a line between them and a strip on "
            f"both sides of it; {falls} of {n} points lie in the strip or beyond the line."
        )
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"

    def _draw_line(self, axes: Axes, case: WorstCase) -> None:
        """Draw the line <w, x> = 0, the strip around it and the arrow w."""
        w = self.weight() / self.length
        along = 3 * self.reach * np.array([[-w[1], w[0]], [w[1], -w[0]]])
        strip = case.price / self.length * w
        edge = np.vstack([along + strip, along[::-1] - strip])
        axes.fill(*edge.T, color=plots.ADVERSARY, alpha=0.15, linewidth=0)
        axes.plot(*along.T, color="#222222")
        arrow = {"arrowstyle": "-|>", "color": plots.DIRECTION, "linewidth": 2}
        axes.annotate("", 0.5 * self.reach * w, (0, 0), arrowprops=arrow)
        axes.annotate("w", 0.56 * self.reach * w, ha="center", va="center", color=plots.DIRECTION)

    def _draw_points(self, axes: Axes, case: WorstCase) -> None:
        """Draw each point in its ball: filled where it stands, hollow where it falls."""
        turn = np.linspace(0, 2 * math.pi, 60)
        unit = np.array(_CORNERS.get(self.norm, np.stack([np.cos(turn), np.sin(turn)], axis=1)))
        for i, (x, y) in enumerate(zip(np.array(self.inputs), self.labels, strict=True)):
            colour = plots.TRUE if case.worst[i] > 0 else plots.ADVERSARY
            axes.fill(*(x + self.epsilon * unit).T, fill=False, edgecolor=colour, linewidth=0.8)
            inside = colour if case.worst[i] > 0 else "white"
            axes.plot(*x, "o" if y > 0 else "s", color=inside, markeredgecolor=colour)
