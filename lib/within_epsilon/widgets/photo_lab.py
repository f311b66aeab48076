"""The photo lab: attack a photo, in the page itself or with the reader's own model."""

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
from within_epsilon.widgets.base import state
from within_epsilon.widgets.lab import Lab
from within_epsilon.widgets.recording import (
    check_one_image,
    class_index,
    class_names,
    gradient_signs,
    guess,
    in_float32,
    random_signs,
    record_curve,
)
from within_epsilon.widgets.stills import triptych

_STEP_SIZES = tuple(level / 255 for level in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4))


class PhotoLab(Lab):
    """Attack a photo: FGSM as ε is dragged, PGD step by step, random signs as their control.

    The reader may put a picture of their own in its place, save the adversarial image as an 8-bit
    PNG and load it back. In the book's page SqueezeNet itself runs; what it says along FGSM's
    directions and the random one is also recorded here, for before it has loaded and for where
    it cannot run.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k); its `categories`, if it has any, name the
        classes. Mode and parameters' gradients stay as they are.
    images : Tensor of shape (1, C, H, W)
        One image, C = 1 or 3, pixels in [0, 1]. Shown in 8 bits, computed in float32; a model of
        another precision gets them rounded to its own.
    label : int or str, optional
        The true class, by index or name. Without one the lab leads away from the clean answer,
        what the model sees in the clean image.
    targets : sequence of int or str
        Classes towards which FGSM is recorded too.
    epsilons : sequence of float, optional
        Stops of ε's slider, in pixel units; by default 0 and 1/16 to 16 levels of 255, or 0 to
        0.5 for small pictures.
    record : bool
        Whether to record at all: one prediction for each stop and direction, which only a page
        needs.
    batch_size : int
        Images to classify at a time while recording.
    **settings
        Where the lab starts: `epsilon` (1/255 by default), `attack` ("fgsm"), `steps`,
        `step_size`, `target`, `seed`; see `Lab`.

    Raises
    ------
    TypeError, ValueError
        If there is not exactly one image in [0, 1], a class is unknown, or an epsilon is no radius.
    traitlets.TraitError
        If another setting makes no sense.

    Notes
    -----
    With a kernel, `epsilon`, `attack`, `steps`, `step_size`, `target`, `label` and `image` can
    be read, set and observed (`image` through the trait `clean`): a photo dropped into the lab is
    in `image`. The page resizes it as `data.photo` does, to Pillow's pixels for a PNG.

    References
    ----------
    Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """

    kind = "photo_lab"

    shape = state(traitlets.List(traitlets.Int()))
    clean = state(traitlets.Unicode())
    recorded = state(traitlets.List(traitlets.Dict()))

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        label: int | str | None = None,
        *,
        targets: Sequence[int | str] = (),
        epsilons: Sequence[float] | None = None,
        record: bool = True,
        batch_size: int = 8,
        **settings: Any,
    ) -> None:
        check_one_image(images)
        warn_if_training(model)
        images = images.detach().to(device_of(model), torch.float32)
        float_model = in_float32(model)
        names = class_names(float_model, images)
        true = guess(float_model, images) if label is None else class_index("label", label, names)
        small = pictures.is_small(images)
        settings = {"epsilon": 1 / 255, "run_label": "Run PGD"} | settings
        if not small:
            settings = {"step_sizes": _STEP_SIZES} | settings
        super().__init__(
            {"network": model},
            images,
            epsilons=epsilons or (scale.DIGIT_EPSILONS if small else scale.LAB_EPSILONS),
            shape=list(images.shape[1:]),
            clean=pictures.encode_pixels(images),
            label=None if label is None else true,
            **settings,
        )
        if record:
            goals = [class_index("targets", target, names) for target in targets]
            self.recorded = self._record(images, true, goals, batch_size)

    def _record(
        self, images: Tensor, true: int, goals: list[int], batch_size: int
    ) -> list[dict[str, Any]]:
        """Return what the model says along FGSM's directions and along random signs."""
        (model,) = self.models
        ways: list[tuple[str, int | None, Tensor]] = [
            ("fgsm", None, gradient_signs(model, images, true)),
            *(("fgsm", i, gradient_signs(model, images, i, targeted=True)) for i in goals),
            ("noise", None, random_signs(images, self.seed)),
        ]
        watch = sorted({true, *goals})
        return [
            {
                "attack": attack,
                "target": target,
                "signs": pictures.encode_signs(signs),
                "curve": [
                    [list(pair) for pair in stop]
                    for stop in record_curve(
                        model, images, signs, self.epsilons, watch=watch, batch_size=batch_size
                    )
                ],
            }
            for attack, target, signs in ways
        ]

    @property
    def image(self) -> Tensor:
        """The clean image on the screen, (1, C, H, W), float32; can be set, in [0, 1]."""
        return pictures.decode_pixels(self.clean, self.shape)

    @image.setter
    def image(self, images: Tensor) -> None:
        check_one_image(images)
        if list(images.shape[1:]) != self.shape:
            raise ValueError(
                f"image: expected shape (1, {', '.join(map(str, self.shape))}), "
                f"received {tuple(images.shape)}"
            )
        self.label = None  # the old picture's class says nothing about this one
        self.clean = pictures.encode_pixels(images)

    def true_class(self, place: int = 0) -> int:
        """Return `label`, or what the model sees in the image where there is none."""
        model = self.models[place]
        return guess(model, self.image.to(device_of(model))) if self.label is None else self.label

    def summary(self) -> str:
        """Return the class to lead away from, the threat model and the attack."""
        name = self.categories[self.true_class()]
        return f"{name!r}, {Ball('linf', self.epsilon)}, {self.words()}"

    def still(self) -> str:
        """Return clean | perturbation | adversarial, with the verdict below."""
        name = self.categories[self.true_class()]
        return triptych(
            self.image, self.perturbed(), self.epsilon, name, self.verdict(), clean=self.clean
        )
