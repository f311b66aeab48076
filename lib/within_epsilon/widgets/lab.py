"""What every lab shares: an image under attack, live in the page and beside a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from within_epsilon import attacks
from within_epsilon.checks import check_logits
from within_epsilon.losses import softmax
from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball
from within_epsilon.widgets import engine, scale
from within_epsilon.widgets.base import WithStops, state
from within_epsilon.widgets.kernel import Answers
from within_epsilon.widgets.recording import class_index, class_names, in_float32
from within_epsilon.wording import radius, with_share

ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "noise": "random signs"}


class Lab(WithStops):
    """Base of the labs: attacks one image with one or two networks, by their gradients.

    With a kernel the front end asks these very models (see `kernel`); in a page, the engine that
    runs there, or what was recorded here. A subclass has an `image` and records.

    Parameters
    ----------
    networks : mapping of str to nn.Module
        The network under attack by the name that the lab calls it; a second one sees what becomes
        of the same image, and can be attacked in its turn. Both take images in [0, 1] and know
        the same classes.
    images : Tensor of shape (1, C, H, W)
        An image of the shape that they take.
    epsilons : iterable of float
        Stops of ε's slider, in pixel units.
    epsilon, attack, steps, step_size, label, target, seed
        Where the lab starts; `attack` is "fgsm", "pgd" or "noise", `label` and `target` are
        classes by index or name. All but `seed` can be read, set and observed. `step_size` None
        is 2.5 ε / steps, `label` None what the network sees.
    step_counts, step_sizes : sequences
        Stops of the sliders for PGD's steps and their length.
    run_label : str
        What the button says that runs PGD step by step.

    Raises
    ------
    ValueError
        If there are not one or two networks, a class is unknown, or an epsilon is no radius.
    traitlets.TraitError
        If an attack is unknown, or steps or step_size not positive, at the start or later.
    """

    networks = state(traitlets.List(traitlets.Dict()))
    attacked = state(traitlets.Int(0))
    attack = state(traitlets.Unicode())
    epsilon = state(traitlets.Float())
    steps = state(traitlets.Int())
    step_size = state(traitlets.Float(None, allow_none=True))
    label = state(traitlets.Int(None, allow_none=True))
    target = state(traitlets.Int(None, allow_none=True))
    seed = state(traitlets.Int(0))
    categories = state(traitlets.List(traitlets.Unicode()))
    readouts = state(traitlets.List(traitlets.Unicode()))
    ticks = state(traitlets.List())
    step_counts = state(traitlets.List(traitlets.Int()))
    step_sizes = state(traitlets.List(traitlets.Float()))
    run_label = state(traitlets.Unicode())

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        images: Tensor,
        *,
        epsilons: Iterable[float],
        epsilon: float,
        attack: str = "fgsm",
        steps: int = 20,
        step_size: float | None = None,
        label: int | str | None = None,
        target: int | str | None = None,
        seed: int = 0,
        step_counts: Sequence[int] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80, 100),
        step_sizes: Sequence[float] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        run_label: str = "Attack",
        **others: Any,
    ) -> None:
        if not 1 <= len(networks) <= 2:
            raise ValueError(f"networks: expected one or two, received {len(networks)}")
        for model in networks.values():
            warn_if_training(model)
        self.models = [in_float32(model) for model in networks.values()]
        self._shape = tuple(images.shape[1:])
        names = class_names(self.models[0], images.to(device_of(self.models[0]), torch.float32))
        stops = sorted({Ball("linf", stop).epsilon for stop in (0.0, epsilon, *epsilons)})
        super().__init__(
            networks=[{"name": name} for name in networks],
            attack=attack,
            epsilon=float(epsilon),
            steps=steps,
            step_size=step_size,
            label=None if label is None else class_index("label", label, names),
            target=None if target is None else class_index("target", target, names),
            seed=seed,
            categories=names,
            epsilons=stops,
            readouts=[scale.readout(stop) for stop in stops],
            ticks=[list(tick) for tick in scale.ticks(stops)],
            step_counts=sorted({*step_counts, steps}),
            step_sizes=sorted({*step_sizes, *([] if step_size is None else [step_size])}),
            run_label=run_label,
            **others,
        )
        self._answers = Answers(self._say, self.models, self._shape)
        self.on_msg(lambda _, content, buffers: self._answers.hear(content, buffers))

    def _say(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.send(content, buffers)

    @traitlets.validate("attack")  # type: ignore[untyped-decorator]
    def _to_an_attack(self, proposal: dict[str, str]) -> str:
        if proposal["value"] not in ATTACKS:
            raise traitlets.TraitError(
                f"attack: expected one of {', '.join(ATTACKS)}, received {proposal['value']!r}"
            )
        return proposal["value"]

    @traitlets.validate("steps", "step_size")  # type: ignore[untyped-decorator]
    def _positive(self, proposal: dict[str, Any]) -> Any:
        if proposal["value"] is not None and proposal["value"] <= 0:
            raise traitlets.TraitError(
                f"{proposal['trait'].name}: expected a number > 0, received {proposal['value']}"
            )
        return proposal["value"]

    def page_state(self) -> dict[str, Any]:
        """Return what the front end starts from in a page, where networks must be told of."""
        references = [engine.reference(model, self._shape) for model in self.models]
        named = [own | found for own, found in zip(self.networks, references, strict=True)]
        return super().page_state() | {"networks": named}

    @property
    def image(self) -> Tensor:
        """The clean image on the screen, (1, C, H, W), float32."""
        raise NotImplementedError

    def true_class(self, place: int) -> int:
        """Return the class to lead away from: the image's own, or what that network sees."""
        raise NotImplementedError

    def perturbed(self) -> Tensor:
        """Return the image after the attack that the lab is set to, (1, C, H, W), float32."""
        return self.attack_with(self.attacked, self.attack, self.epsilon, self.target)

    def attack_with(self, place: int, attack: str, epsilon: float, target: int | None) -> Tensor:
        """Attack the image on the screen by the network at that place; see `perturbed`."""
        model, ball = self.models[place], Ball("linf", epsilon)
        images = self.image.to(device_of(model))
        if attack == "noise":
            return attacks.random_noise(images, ball, seed=self.seed)
        labels = torch.tensor([self.true_class(place) if target is None else target])
        call = (model, images, labels.to(images.device), ball)
        if attack == "fgsm":
            return attacks.fgsm(*call, targeted=target is not None)
        return attacks.pgd(
            *call,
            steps=self.steps,
            step_size=self.step_size,
            targeted=target is not None,
            seed=self.seed,
        )

    def verdict(self) -> str:
        """Return the sentence that stands under the pictures."""
        model = self.models[self.attacked]
        sights = []
        for images in (self.image, self.perturbed()):
            probabilities = look(model, images)
            best = int(probabilities.argmax())
            sights.append(with_share(self.categories[best], float(probabilities[best])))
        return f"{' → '.join(sights)}, {Ball('linf', self.epsilon)}, {self.words()}"

    def words(self) -> str:
        """Return the attack in words: "PGD towards 7, 20 steps"."""
        name = ATTACKS[self.attack]
        if self.target is not None and self.attack != "noise":
            name += f" towards {self.categories[self.target]}"
        if self.attack != "pgd":
            return name
        name += f", {self.steps} {'step' if self.steps == 1 else 'steps'}"
        return name if self.step_size is None else f"{name}, step size {radius(self.step_size)}"


@torch.no_grad()
def look(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's probabilities for one image, (k,), float64, on the CPU."""
    logits = check_logits(model(images.to(device_of(model))), 1)
    return softmax(logits.cpu().double())[0]
