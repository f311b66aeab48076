"""The digit lab: draw a digit or take one from the test set, and attack it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient
from within_epsilon.data import digits
from within_epsilon.runtime import device_of
from within_epsilon.widgets import scale
from within_epsilon.widgets.base import state
from within_epsilon.widgets.lab import ATTACKS, Lab, look
from within_epsilon.widgets.pictures import digits_as_text
from within_epsilon.widgets.recording import check_one_image
from within_epsilon.widgets.stills import triptych

_SHAPE = (1, 8, 8)
_START = 19  # a zero of the test set
_ON_SHELF = 4  # test digits of each class in the page


class DigitLab(Lab):
    """Draw a digit by finger, mouse or keyboard, see what a network makes of it, and attack it.

    In the page the network runs in the browser: a network that the book ships is fetched, any
    other of the engine's layers travels inside the page. Beside a kernel it is the very model.

    Parameters
    ----------
    model : nn.Module
        Takes images (N, 1, 8, 8) in [0, 1], returns logits (N, 10).
    second : nn.Module, optional
        Another network that looks at the same image and can be attacked in its turn, such as a
        robust one.
    names : sequence of str, optional
        What the networks are called, each by a name of its own.
    images : Tensor of shape (1, 1, 8, 8), optional
        The digit that the lab starts with; a zero of the test set by default.
    label : int or str, optional
        Its class, by index or name; by default what the network sees, or the test set's for the
        default digit.
    attack, epsilon, steps, step_size, target, seed
        See `Lab`.
    epsilons : sequence of float
        Stops of the slider.

    Raises
    ------
    TypeError, ValueError
        If the image is none of (1, 1, 8, 8) in [0, 1], the names are too few or alike, a class is
        unknown, or an epsilon is no radius.
    traitlets.TraitError
        If another setting makes no sense.

    Notes
    -----
    `image`, `label`, `epsilon`, `attack`, `steps`, `step_size` and `target` can be read and set
    while the lab stands; `perturbed` and `verdict` compute what it shows. A drawing is treated as
    the data were: enlarged to the full height, set on a bitmap of 32 x 32 and counted in blocks of
    4 x 4, which makes the 17 levels of a pixel.

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998: how the bitmaps were made.
    """

    kind = "digit_lab"

    pixels = state(traitlets.List(traitlets.Float()))
    strokes = state(traitlets.List())
    gallery = state(traitlets.List(traitlets.Dict()))

    def __init__(
        self,
        model: nn.Module,
        second: nn.Module | None = None,
        *,
        names: Sequence[str] = ("the network", "the second network"),
        images: Tensor | None = None,
        label: int | str | None = None,
        attack: str = "fgsm",
        epsilon: float = 0.1,
        epsilons: Sequence[float] = scale.DIGIT_EPSILONS,
        steps: int = 20,
        step_size: float | None = None,
        target: int | str | None = None,
        seed: int = 0,
    ) -> None:
        if images is None:
            images, labels = digits().test[_START : _START + 1]
            label = int(labels) if label is None else label
        check_digit(images)
        models = [model] if second is None else [model, second]
        networks = dict(zip(names, models, strict=False))
        if len(networks) < len(models):
            raise ValueError(
                f"names: expected {len(models)} that differ, one for each network, "
                f"received {list(names)}"
            )
        super().__init__(
            networks,
            images,
            epsilons=epsilons,
            epsilon=epsilon,
            attack=attack,
            steps=steps,
            step_size=step_size,
            target=target,
            seed=seed,
            run_label="Watch the steps",
            pixels=images.flatten().tolist(),
            label=label,
            gallery=shelf(),
        )

    @property
    def image(self) -> Tensor:
        """The clean image on the screen, (1, 1, 8, 8), float32."""
        return torch.tensor(self.pixels, dtype=torch.float32).view(1, *_SHAPE)

    @image.setter
    def image(self, images: Tensor) -> None:
        check_digit(images)
        self.strokes = []
        self.label = None
        self.pixels = images.detach().float().flatten().tolist()

    def true_class(self, place: int) -> int:
        """Return the class to lead away from: the digit's own, or what that network sees."""
        if self.label is not None:
            return int(self.label)
        return int(look(self.models[place], self.image).argmax())

    def summary(self) -> str:
        """Return the digit, the networks and the threat model."""
        names = " and ".join(network["name"] for network in self.networks)
        return f"{self.categories[self.true_class(self.attacked)]!r}, {names}, ε = {self.epsilon:g}"

    def still(self) -> str:
        """Return clean | perturbation | adversarial, with the verdict below."""
        name = self.categories[self.true_class(self.attacked)]
        return triptych(self.image, self.perturbed(), self.epsilon, name, self.verdict())

    def page_state(self) -> dict[str, Any]:
        """Return what the front end starts from, with a record for where no network runs."""
        return super().page_state() | {"record": self._record()}

    def _record(self) -> dict[str, Any]:
        """Record all attacks on the digit that the lab is set to, over all stops."""
        goals = [None] if self.target is None else [None, self.target]
        runs, gradients = [], []
        for place in range(len(self.models)):
            for target in goals:
                label = self.true_class(place) if target is None else target
                gradients.append(self._record_gradient(place, label))
                known = ATTACKS if target is None else ("fgsm", "pgd")
                runs += [self._record_attack(place, attack, target) for attack in known]
        clean = [_short(look(model, self.image)) for model in self.models]
        return {"clean": clean, "gradients": gradients, "attacks": runs}

    def _record_gradient(self, place: int, label: int) -> dict[str, Any]:
        model = self.models[place]
        images = self.image.to(device_of(model))
        _, gradient = input_gradient(model, images, torch.tensor([label], device=images.device))
        return {"attacked": place, "label": label, "gradient": _short(gradient.flatten())}

    def _record_attack(self, place: int, attack: str, target: int | None) -> dict[str, Any]:
        stops = []
        for epsilon in self.epsilons:
            images_adv = self.attack_with(place, attack, epsilon, target).cpu()
            delta = (images_adv - self.image).flatten()
            # One step moves every pixel by epsilon, or as far as the pixel range lets it.
            moves = delta / max(epsilon, 1e-9) if attack == "pgd" else delta.sign()
            data = (127 * moves).round().clamp(-127, 127).to(torch.int8).numpy().tobytes()
            seen = [_short(look(model, images_adv)) for model in self.models]
            stop = {"probabilities": seen.pop(place), "moves": base64.b64encode(data).decode()}
            stops.append(stop | ({"other": seen[0]} if seen else {}))
        return {"attacked": place, "attack": attack, "target": target, "stops": stops}


def check_digit(images: Tensor) -> None:
    """Refuse what is not one digit, (1, 1, 8, 8) in [0, 1]."""
    check_one_image(images)
    if tuple(images.shape[1:]) != _SHAPE:
        raise ValueError(
            f"images: expected one digit of shape (1, 1, 8, 8), received {tuple(images.shape)}; "
            "a network for other digits has another explorer, EpsilonExplorer"
        )


def shelf() -> list[dict[str, Any]]:
    """Return the first few test digits of each class, a character for each pixel."""
    images, labels = digits().test[:]
    places = [i for d in range(10) for i in (labels == d).nonzero()[:_ON_SHELF, 0].tolist()]
    return [
        {"label": int(labels[place]), "pixels": pixels}
        for place, pixels in zip(places, digits_as_text(images[places]), strict=True)
    ]


def _short(numbers: Tensor) -> list[float]:
    """Return numbers with the five digits that anybody can see of them."""
    return [float(f"{number:.5g}") for number in numbers.tolist()]
