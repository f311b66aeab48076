"""The ε explorer: a picture, a direction, and ε on a slider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball
from within_epsilon.widgets import pictures, scale
from within_epsilon.widgets.base import WithStops, state
from within_epsilon.widgets.recording import (
    Direction,
    Stop,
    check_one_image,
    class_index,
    class_names,
    directions_from,
    guess,
    in_float32,
    record_curve,
)
from within_epsilon.widgets.stills import triptych
from within_epsilon.wording import with_share


class EpsilonExplorer(WithStops):
    """See one image perturbed by ±ε in every pixel, and what the model then sees in it.

    Three directions: away from the true class (FGSM), towards a target class if one is named, and
    random signs, the control of the same size. Every stop of the slider is recorded: picture and
    probabilities are exact, nothing is interpolated.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k); its `categories`, if it has any, name the
        classes. Mode and parameters' gradients stay as they are.
    images : Tensor of shape (1, C, H, W)
        One image, C = 1 or 3, pixels in [0, 1]. Shown in 8 bits, computed in float32; a model of
        another precision gets them rounded to its own.
    label : int or str, optional
        The true class, by index or name; by default the clean answer, what the model sees in the
        clean image.
    target : int or str, optional
        A class to go towards.
    epsilon : float
        Where the slider starts, in pixel units; becomes a stop if it is none.
    epsilons : sequence of float, optional
        Stops; by default 0 and 1/16 to 16 levels of 255, or 0 to 0.5 for small pictures.
    direction : {"away", "towards", "random"}
        What is chosen at the start.
    seed : int
        Seed of the random signs, those of `attacks.random_noise`.
    batch_size : int
        Images to classify at a time while recording.

    Raises
    ------
    TypeError, ValueError
        If there is not exactly one image in [0, 1], a class is unknown, or an epsilon no radius.

    Notes
    -----
    With a kernel, `epsilon` and `direction` can be read, set and observed; an epsilon between two
    stops goes to the nearer one.

    References
    ----------
    Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    """

    kind = "epsilon"

    shape = state(traitlets.List(traitlets.Int()))
    clean = state(traitlets.Unicode())
    directions = state(traitlets.List(traitlets.Dict()))
    categories = state(traitlets.Dict())
    label = state(traitlets.Int())
    answer = state(traitlets.Unicode())  # what that class is called
    target = state(traitlets.Int(None, allow_none=True))
    balls = state(traitlets.List(traitlets.Unicode()))
    readouts = state(traitlets.List(traitlets.Unicode()))
    ticks = state(traitlets.List())
    epsilon = state(traitlets.Float())
    direction = state(traitlets.Unicode())

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        label: int | str | None = None,
        *,
        target: int | str | None = None,
        epsilon: float = 1 / 255,
        epsilons: Sequence[float] | None = None,
        direction: str = "away",
        seed: int = 0,
        batch_size: int = 8,
    ) -> None:
        check_one_image(images)
        warn_if_training(model)
        model = in_float32(model)
        images = images.detach().to(device_of(model), torch.float32)
        names = class_names(model, images)
        true = guess(model, images) if label is None else class_index("label", label, names)
        goal = None if target is None else class_index("target", target, names)
        small = pictures.is_small(images)
        wanted = epsilons or (scale.DIGIT_EPSILONS if small else scale.PHOTO_EPSILONS)
        stops = sorted({0.0, float(epsilon), *map(float, wanted)})
        balls = [str(Ball("linf", stop)) for stop in stops]
        self._images = images
        self._ways = {
            way.key: way for way in directions_from(model, images, true, goal, names, seed)
        }
        if direction not in self._ways:
            raise ValueError(
                f"direction: expected one of {', '.join(self._ways)}, received {direction!r}"
                + ("; name a target to go towards it" if direction == "towards" else "")
            )
        watch = sorted({true} if goal is None else {true, goal})
        curves = [
            record_curve(
                model, images, way.signs, stops, watch=watch, batch_size=batch_size, label=way.label
            )
            for way in self._ways.values()
        ]
        super().__init__(
            shape=list(images.shape[1:]),
            clean=pictures.encode_pixels(images),
            directions=list(map(_direction_state, self._ways.values(), curves)),
            categories=_mentioned(curves, names),
            label=true,
            answer="clean answer" if label is None else "true class",
            target=goal,
            epsilons=stops,
            balls=balls,
            readouts=[scale.readout(stop) for stop in stops],
            ticks=[list(tick) for tick in scale.ticks(stops)],
            epsilon=float(epsilon),
            direction=direction,
        )

    @traitlets.validate("direction")  # type: ignore[untyped-decorator]
    def _to_a_direction(self, proposal: dict[str, str]) -> str:
        if proposal["value"] not in self._ways:
            raise traitlets.TraitError(f"direction: expected one of {', '.join(self._ways)}")
        return proposal["value"]

    def perturbed(self) -> Tensor:
        """Return the perturbed image that stands on the screen, (1, C, H, W), float32."""
        signs = self._ways[self.direction].signs
        return Ball("linf", self.epsilon).perturb(self._images, self.epsilon * signs)

    def verdict(self) -> str:
        """Return the sentence that stands under the pictures."""
        way = next(way for way in self.directions if way["key"] == self.direction)
        place = self.epsilons.index(self.epsilon)
        (before, p_before), (after, p_after) = way["curve"][0][0], way["curve"][place][0]
        clean = with_share(self.categories[str(before)], p_before)
        perturbed = with_share(self.categories[str(after)], p_after)
        return f"{clean} → {perturbed}, {self.balls[place]}, {way['attack']}"

    def summary(self) -> str:
        """Return the true class, the threat model and the direction."""
        ball = self.balls[self.epsilons.index(self.epsilon)]
        return f"{self.categories[str(self.label)]!r}, {ball}, direction={self.direction!r}"

    def still(self) -> str:
        """Return clean | perturbation | adversarial, with the verdict below."""
        name = self.categories[str(self.label)]
        return triptych(
            self._images, self.perturbed(), self.epsilon, name, self.verdict(), clean=self.clean
        )


def _direction_state(way: Direction, curve: list[Stop]) -> dict[str, Any]:
    return {
        "key": way.key,
        "label": way.label,
        "attack": way.attack,
        "signs": pictures.encode_signs(way.signs),
        "curve": [[list(pair) for pair in stop] for stop in curve],
    }


def _mentioned(curves: list[list[Stop]], names: list[str]) -> dict[str, str]:
    """Return the names of the classes that some stop mentions."""
    indices = {index for curve in curves for stop in curve for index, _ in stop}
    return {str(index): names[index] for index in sorted(indices)}
