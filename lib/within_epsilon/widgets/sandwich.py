"""The sandwich explorer: every margin between what an attack finds and what bounds prove."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import traitlets
from numpy.typing import NDArray
from torch import Tensor, nn

from within_epsilon import plots
from within_epsilon.checks import check_labels
from within_epsilon.data import digits
from within_epsilon.plots.style import canvas
from within_epsilon.threat import Ball
from within_epsilon.verification import crown, ibp
from within_epsilon.verification.falsify import falsify
from within_epsilon.verification.objective import objective_rows, rivals
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.digit_lab import check_digit, shelf
from within_epsilon.widgets.pictures import chart
from within_epsilon.widgets.proof_networks import digits_mlp, layers_of

EPSILONS = tuple(round(0.005 * step, 3) for step in range(41))
CLASSES = 10
_START = 19  # a zero of the test set


class Sandwich(NamedTuple):
    """What is known of each rival's least margin over the ball, arrays of shape (9,).

    Parameters
    ----------
    rivals : array of int
        The other classes, in order.
    ibp, crown : array of float
        Lower bounds, for real arithmetic.
    attack : array of float
        The margin at the worst allowed image that an attack on this rival found.
    """

    rivals: NDArray[np.int64]
    ibp: NDArray[np.float64]
    crown: NDArray[np.float64]
    attack: NDArray[np.float64]


class SandwichExplorer(Explorer):
    """Raise epsilon and see each margin between an attack's value and two proved bounds.

    Everything is computed in the page, for a small network on digits of 8 x 8: the least margin
    over the ball lies below what the attack reached, and above what CROWN and intervals prove.

    Parameters
    ----------
    model : nn.Module, optional
        Takes (N, 1, 8, 8) in [0, 1], returns logits (N, 10): `Linear` layers with `ReLU`
        between them; `digits_mlp` by default. Its weights travel in the page.
    images : Tensor of shape (1, 1, 8, 8), optional
        The digit to start with; one of the test set by default.
    label : int, optional
        Its class; by default what the network sees, or the test set's for the default digit.
    epsilon : float
        Radius of the l-infinity ball, in pixel units.
    epsilons : sequence of float
        Stops of the slider.

    Raises
    ------
    TypeError, ValueError
        If the model is another one, or the image none of (1, 1, 8, 8) in [0, 1].

    Notes
    -----
    With a kernel, `pixels`, `label`, `epsilon` and `strokes` can be read, set and observed.
    Bounds are those of `crown` and `ibp` with ``arithmetic="real"``, computed in float64 with its
    rounding subtracted; `sandwich` computes them with the library. The page's attack takes 20
    steps for each rival, from the clean digit and from the corner where CROWN's bound is least.

    References
    ----------
    Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably
    Robust Models", 2018. Zhang et al., "Efficient Neural Network Robustness Certification with
    General Activation Functions", NeurIPS 2018.
    """

    kind = "sandwich"

    layers = state(traitlets.List(traitlets.Dict()))
    pixels = state(traitlets.List(traitlets.Float()))
    strokes = state(traitlets.List())
    label = state(traitlets.Int(None, allow_none=True))
    epsilon = state(traitlets.Float(0.0, min=0.0, max=1.0))
    epsilons = state(traitlets.List(traitlets.Float()))
    gallery = state(traitlets.List(traitlets.Dict()))

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        images: Tensor | None = None,
        label: int | None = None,
        epsilon: float = 0.0,
        epsilons: Sequence[float] = EPSILONS,
    ) -> None:
        self.model = digits_mlp() if model is None else model
        layers = layers_of(self.model, 64)
        if images is None:
            images, labels = digits().test[_START : _START + 1]
            label = int(labels) if label is None else label
        check_digit(images)
        images = images.detach().float().cpu()
        if label is not None:
            check_labels(torch.tensor([label]), 1, CLASSES)
        with torch.no_grad():
            classes = self.model(images).shape[1]
        if classes != CLASSES:
            raise ValueError(f"model: expected one with {CLASSES} logits, received {classes}")
        if epsilon not in epsilons:
            raise ValueError(
                f"epsilon: expected one of the slider's stops, received {epsilon}; name it in "
                "epsilons"
            )
        super().__init__(
            layers=layers,
            pixels=images.flatten().tolist(),
            label=label,
            epsilon=epsilon,
            epsilons=list(epsilons),
            gallery=shelf(),
        )

    @property
    def image(self) -> Tensor:
        """The clean image on the screen, (1, 1, 8, 8), float32."""
        return torch.tensor(self.pixels, dtype=torch.float32).view(1, 1, 8, 8)

    @property
    def true_class(self) -> int:
        """The class to hold on to: the digit's own, or of a drawing what the network sees."""
        if self.label is not None:
            return int(self.label)
        with torch.no_grad():
            return int(self.model(self.image).argmax())

    def sandwich(self) -> Sandwich:
        """Compute bounds with the library, and an attack on each rival."""
        image, ball = self.image, Ball("linf", self.epsilon)
        labels = torch.tensor([self.true_class])
        rows = objective_rows(labels, 1, CLASSES)
        low = ibp(self.model, image, labels, ball, arithmetic="real").lower[0]
        linear = crown(self.model, image, labels, ball, arithmetic="real").lower[0]
        one_each = image.expand(CLASSES - 1, -1, -1, -1)
        attack = falsify(self.model, one_each, ball, rows[0].unsqueeze(1)).values
        others = rivals(labels, CLASSES)[0]
        return Sandwich(others.numpy(), low.numpy(), linear.numpy(), attack.numpy())

    def summary(self) -> str:
        """Return the digit and the threat model."""
        return f"{self.true_class}, {Ball('linf', self.epsilon)}"

    def verdict(self) -> str:
        """Say what is known of the digit, in a sentence."""
        found, label = self.sandwich(), self.true_class
        with torch.no_grad():
            seen = int(self.model(self.image).argmax())
        if seen != label:
            return f"wrong already: the network reads this {label} as a {seen}"
        if self.epsilon == 0:
            return "ε = 0: nothing may change, so attack and bounds say the same"
        threat = f"ℓ∞ ε = {self.epsilon:g}"
        if found.attack.min() < 0:
            rival = int(found.rivals[found.attack.argmin()])
            return f"refuted: a change within {threat} makes the {label} a {rival}"
        for name, lower in (("intervals", found.ibp), ("CROWN", found.crown)):
            if lower.min() > 0:
                return f"proved: no change within {threat} makes the {label} another digit ({name})"
        return f"unknown: {threat}, the bounds do not suffice, and the attack finds nothing"

    def still(self) -> str:
        """Return each rival's bounds and attack on one axis, with the verdict below."""
        found = self.sandwich()
        figure, axes = canvas(6, 3.6)
        places = np.arange(len(found.rivals))
        axes.hlines(places, found.crown, found.attack, color=plots.UNKNOWN, linewidth=5)
        axes.axvline(0, color="#222222", linewidth=1)
        axes.plot(found.ibp, places, "|", color=plots.NEUTRAL, markersize=12, label="intervals")
        axes.plot(found.crown, places, ">", color=plots.PROVED, label="CROWN")
        axes.plot(found.attack, places, "D", color=plots.ADVERSARY, markersize=5, label="attack")
        axes.set_yticks(places, [f"over {rival}" for rival in found.rivals])
        axes.invert_yaxis()
        axes.set_xlabel(f"margin of {self.true_class}, ℓ∞ ε = {self.epsilon:g}, real arithmetic")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        said = self.verdict() + "."
        alt = (
            f"For each of nine rivals two lower bounds of the margin and an attack's value. {said}"
        )
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"
