"""The PGD explorer: projected gradient descent on a plane through a real image and network."""

from __future__ import annotations

import html
from math import floor

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor, nn

from within_epsilon import plots
from within_epsilon.checks import check_labels
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.landscape import contour_figure, mulberry32
from within_epsilon.widgets.pictures import chart
from within_epsilon.widgets.plane import LOSSES, Plane, codes, record, spanning
from within_epsilon.widgets.recording import check_one_image, class_names, in_float32
from within_epsilon.wording import radius

Array = NDArray[np.float64]

STARTS = ("clean", "random")


class PGDExplorer(Explorer):
    """Walk PGD through the l-infinity ball, drawn as a square, on a network's own loss.

    Beside it stand the clean image, the perturbation of the path's last point and their sum.
    The square is the part of the ball spanned by two adversarial images: one axis moves the
    pixels on which their perturbations have the same sign, the other those on which they
    differ. So the first image's signs are the corner (epsilon, epsilon), the second's the
    corner (epsilon, -epsilon), and a sign step in the plane is a sign step of the two groups.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits; `categories`, if it has them, name the classes.
    image : Tensor of shape (1, C, H, W)
        The clean image, a small one: the page carries all of its pixels. Computed in float32,
        rounded for a model of another precision.
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
    shape = state(traitlets.List(traitlets.Int()))
    image = state(traitlets.List(traitlets.Float()))
    groups = state(traitlets.Unicode())
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
            shape=list(image.shape[1:]),
            image=[float(f"{value:.4g}") for value in image.flatten().tolist()],
            groups=codes(torch.stack([way.flatten() for way in plane.directions], dim=1)),
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
        said = f"{true} → {found}, ℓ∞ ε = {radius(epsilon)}, PGD, {self.steps} steps, {self.loss}."
        alt = (
            "Contours of the loss over the square of allowed changes, hatched where the "
            "network is fooled; the path of PGD from a square mark"
        )
        field = still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"
        digit = plots.triptych(*self.pictures(), (f"clean: {true}", f"after PGD: {found}"))
        return field + still_picture(chart(digit), f"The image, {true}, and what PGD made of it")

    def pictures(self) -> tuple[Tensor, Tensor]:
        """Return the clean image and that at the run's last point, (1, C, H, W)."""
        clean = torch.tensor(self.image).view(1, *self.shape)
        ways = torch.tensor([[int(code) % 3 - 1, int(code) // 3 - 1] for code in self.groups])
        moves = ways.float() @ torch.tensor(self.path()[-1], dtype=torch.float32)
        return clean, (clean + moves.view_as(clean)).clamp(0, 1)

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
