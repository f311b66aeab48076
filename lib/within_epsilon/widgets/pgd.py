"""The PGD explorer: projected gradient descent on a plane through a real image and network."""

from __future__ import annotations

import html
from collections.abc import Callable
from math import floor
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor, nn

from within_epsilon import plots
from within_epsilon.attacks import input_gradient
from within_epsilon.checks import check_labels
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.landscape import contour_figure, mulberry32
from within_epsilon.widgets.pictures import chart
from within_epsilon.widgets.recording import check_one_image, class_names, in_float32
from within_epsilon.wording import radius

Array = NDArray[np.float64]

LOSSES = ("cross-entropy", "margin loss", "cross-entropy × 1000")
STARTS = ("clean", "random")


class PGDExplorer(Explorer):
    """Walk PGD through the l-infinity ball, drawn as a square, on a network's own loss.

    The square is the part of the ball spanned by two adversarial images: one axis moves the
    pixels on which their perturbations have the same sign, the other those on which they
    differ. So the first image's signs are the corner (epsilon, epsilon), the second's the
    corner (epsilon, -epsilon), and a sign step in the plane is a sign step of the two groups.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits; `categories`, if it has them, name the classes.
    image : Tensor of shape (1, C, H, W)
        The clean image; computed in float32, rounded for a model of another precision.
    label : Tensor of shape (1,), int64
        Its class.
    ball : Ball
        The threat model, linf with 0 < epsilon <= 0.5.
    first, second : Tensor of shape (1, C, H, W)
        Two other images, such as what two attacks found. Only the signs of their
        perturbations count.
    step_size : float, optional
        epsilon / 4 by default.
    steps : int
        1 to 40.
    start : {"clean", "random"}
        Where a run starts; `seed` says which random point of the square.
    loss : {"cross-entropy", "margin loss", "cross-entropy × 1000"}
        What the run climbs; the last is the cross-entropy of logits multiplied by 1000.
    seed : int
        Seed of the start.

    Raises
    ------
    ValueError
        If the ball is another, or the two perturbations have the same or opposite signs
        everywhere: then they span no plane.

    Notes
    -----
    Losses and the signs of their gradients are recorded on a grid over the square, and a run
    takes the signs of the nearest point of the grid. With a kernel, `step_size`, `steps`,
    `start`, `loss` and `seed` can be read, set and observed.
    """

    kind = "pgd"

    epsilon = state(traitlets.Float())
    names = state(traitlets.List(traitlets.Unicode()))
    label = state(traitlets.Int())
    pixels = state(traitlets.List(traitlets.Int()))
    size = state(traitlets.Int())
    answers = state(traitlets.List(traitlets.Int()))
    surfaces = state(traitlets.Dict())
    step_size = state(traitlets.Float(min=0.0))
    steps = state(traitlets.Int(10, min=1, max=40))
    start = state(traitlets.Enum(STARTS, default_value="clean"))
    loss = state(traitlets.Enum(LOSSES, default_value=LOSSES[0]))
    seed = state(traitlets.Int(0, min=0))

    def __init__(
        self,
        model: nn.Module,
        image: Tensor,
        label: Tensor,
        ball: Ball,
        first: Tensor,
        second: Tensor,
        *,
        step_size: float | None = None,
        steps: int = 10,
        start: str = "clean",
        loss: str = LOSSES[0],
        seed: int = 0,
    ) -> None:
        if ball.norm != "linf" or not 0 < ball.epsilon <= 0.5:
            raise ValueError(
                f'ball: expected Ball("linf", epsilon) with 0 < epsilon <= 0.5, received {ball}'
            )
        check_one_image(image)
        check_labels(label, 1)
        device = device_of(model)
        image, first, second = (each.to(device, torch.float32) for each in (image, first, second))
        model = in_float32(model)
        plane = Plane(model, image, *spanning(first - image, second - image))
        super().__init__(
            epsilon=ball.epsilon,
            names=class_names(model, image),
            label=int(label),
            pixels=[int(direction.abs().sum()) for direction in plane.directions],
            **record(plane, label, ball.epsilon),
            step_size=ball.epsilon / 4 if step_size is None else step_size,
            steps=steps,
            start=start,
            loss=loss,
            seed=seed,
        )

    def path(self) -> Array:
        """Return the points that the run visits, (steps + 1, 2), the start included."""
        random = mulberry32(self.seed)
        at = np.zeros(2)
        if self.start == "random":
            at = self.epsilon * (2 * np.array([next(random), next(random)]) - 1)
        points = [at]
        for _ in range(self.steps):
            code = int(self.surfaces[self.loss]["signs"][self._node(points[-1])])
            step = self.step_size * np.array([code % 3 - 1, code // 3 - 1])
            points.append(np.clip(points[-1] + step, -self.epsilon, self.epsilon))
        return np.array(points)

    def answer(self, point: Array) -> int:
        """Return the class that the model sees at a point of the square, (2,)."""
        return int(self.answers[self._node(point)])

    def _node(self, point: Array) -> int:
        """Return the place of the grid's nearest point."""
        column, row = (floor((at / self.epsilon + 1) / 2 * (self.size - 1) + 0.5) for at in point)
        return int(row * self.size + column)

    def summary(self) -> str:
        """Return the true class, the radius and the settings of the run."""
        return (
            f"{self.names[self.label]!r}, ε = {radius(self.epsilon)}, {self.steps} steps of "
            f"{self.step_size:g}, {self.start} start, {self.loss}"
        )

    def still(self) -> str:
        """Return the surface with the path on it, and the verdict below."""
        path, n, epsilon = self.path(), self.size, self.epsilon
        places = np.linspace(-epsilon, epsilon, n)
        grid = np.reshape(self.surfaces[self.loss]["values"], (n, n))
        power = 1.0 if self.loss == "margin loss" else 2.5
        figure, axes = contour_figure(places, places, grid, side=4.5, power=power)
        gains = np.reshape(self.surfaces["margin loss"]["values"], (n, n))
        self._shade(axes, places, gains)
        axes.plot(*path.T, color=plots.DIRECTION, marker=".", linewidth=1.5)
        axes.plot(*path[0], marker="s", color="white", markeredgecolor="black")
        axes.set(xlim=(-epsilon, epsilon), ylim=(-epsilon, epsilon), aspect="equal")
        axes.set_xticks([-epsilon, 0, epsilon], ["−ε", "0", "ε"])
        axes.set_yticks([-epsilon, 0, epsilon], ["−ε", "0", "ε"])
        axes.set_xlabel(f"across: {self.pixels[0]} pixels")
        axes.set_ylabel(f"up: the other {self.pixels[1]}")
        true, found = self.names[self.label], self.names[self.answer(path[-1])]
        said = f"{true} → {found}, l∞ ε = {radius(epsilon)}, PGD, {self.steps} steps, {self.loss}."
        alt = (
            "Contours of the loss over the square of allowed changes, hatched where the "
            "network is fooled; the path of PGD from a square mark"
        )
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"

    def _shade(self, axes: Axes, places: Array, gains: Array) -> None:
        """Hatch where the network is fooled, and say so along the right edge."""
        if not (gains > 0).any():
            return
        region = axes.contourf(
            places, places, gains, levels=[0, np.inf], colors="none", hatches=["////"]
        )
        region.set_edgecolor(plots.ADVERSARY)
        region.set_linewidth(0)
        axes.contour(places, places, gains, levels=[0], colors=plots.ADVERSARY)
        rows = np.flatnonzero(gains[:, -1] > 0)
        if len(rows):
            height = places[rows].mean()
            beyond = 1.02 * self.epsilon
            axes.text(beyond, height, "fooled", rotation=-90, ha="left", va="center")


class Plane(nn.Module):
    """A model seen on a plane through an image: two "pixels", 0.5 each at the image itself.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits.
    image : Tensor of shape (1, C, H, W)
        The middle of the plane.
    across, up : Tensor of shape (1, C, H, W)
        Its directions.
    """

    def __init__(self, model: nn.Module, image: Tensor, across: Tensor, up: Tensor) -> None:
        super().__init__()
        self.model, self.image = model, image
        self.directions = (across, up)
        self.training = model.training  # train() would set the model's parts too

    def forward(self, points: Tensor) -> Tensor:
        """Return the logits at points (N, 2) in [0, 1]; pixels are clipped to [0, 1]."""
        shares = (points - 0.5).unbind(dim=1)
        moves = sum(
            share.view(-1, 1, 1, 1) * direction
            for share, direction in zip(shares, self.directions, strict=True)
        )
        logits: Tensor = self.model((self.image + moves).clamp(0, 1))
        return logits


def spanning(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Split the pixels by whether two perturbations have the same sign there.

    Parameters
    ----------
    first, second : Tensor of shape (1, C, H, W)
        Perturbations. Where one leaves a pixel alone, the other's sign counts for both.

    Returns
    -------
    across, up : Tensor of shape (1, C, H, W) in {-1, 0, 1}
        across + up has the first's signs, across - up the second's.

    Raises
    ------
    ValueError
        If one of the two is zero everywhere.
    """
    one, two = first.sign(), second.sign()
    one, two = torch.where(one == 0, two, one), torch.where(two == 0, one, two)
    across, up = (one + two) / 2, (one - two) / 2
    if not across.any() or not up.any():
        raise ValueError(
            "first, second: expected perturbations whose signs agree on some pixels and differ "
            "on others, which span a plane; give what two different runs found"
        )
    return across, up


def record(plane: Plane, label: Tensor, epsilon: float, size: int = 33) -> dict[str, Any]:
    """Record losses, their gradients' signs and answers on a grid over the square.

    Parameters
    ----------
    plane : Plane
    label : Tensor of shape (1,), the true class
    epsilon : half the square's side
    size : points along a side, odd, so that the image is one of them

    Returns
    -------
    size, answers, surfaces : as in the state; rows go from -epsilon upwards, and a sign code is
        (sign across + 1) + 3 (sign up + 1)
    """
    line = 0.5 + torch.linspace(-epsilon, epsilon, size)
    up, across = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([across.flatten(), up.flatten()], dim=1).to(plane.image)
    labels = label.to(points.device).expand(len(points))
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        LOSSES[0]: cross_entropy,
        LOSSES[1]: margin_loss,
        LOSSES[2]: lambda logits, labels: cross_entropy(1000 * logits, labels),
    }
    surfaces = {}
    for name, loss in losses.items():
        values, gradient = input_gradient(plane, points, labels, loss)
        codes = gradient.sign().long() + 1
        surfaces[name] = {
            # Four digits are more than a drawing shows.
            "values": [float(f"{value:.4g}") for value in values.tolist()],
            "signs": "".join(map(str, (codes[:, 0] + 3 * codes[:, 1]).tolist())),
        }
    with torch.no_grad():
        answers = plane(points).argmax(dim=1).tolist()
    return {"size": size, "answers": answers, "surfaces": surfaces}
