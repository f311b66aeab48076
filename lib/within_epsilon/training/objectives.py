"""What training minimises: functions of a model and a minibatch that return one loss per image.

An objective is called ``objective(model, images, labels)`` and returns losses (N,) with a graph to
the model's parameters; `fit` minimises their mean. A function will do. Where it takes ``indices``
too, it is told where in the split the examples stand. Those that attack draw their random numbers
from torch's global generator, which `fit` seeds and keeps in its checkpoints.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe, settings, takes
from within_epsilon.checks import check_logits
from within_epsilon.evaluation.core.judging import check_attack
from within_epsilon.losses import cross_entropy, kl_divergence
from within_epsilon.losses.entropy import divergence_from
from within_epsilon.modes import training_modules
from within_epsilon.threat import Ball, check_ball

Objective: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]
Attack: TypeAlias = Callable[..., Tensor]


def check_objective(objective: object) -> None:
    """Require a function of a model, images and labels, before any training.

    Raises
    ------
    TypeError
        If it is something else, such as an attack, or a class of which one is to be made.
    """
    wanted = (
        "objective: expected a function of a model, images and labels that returns losses (N,), "
        "such as training.Adversarial(attack, ball)"
    )
    if not callable(objective) or isinstance(objective, type):
        raise TypeError(f"{wanted}, received {objective!r}")
    try:
        called = signature(objective.forward if isinstance(objective, nn.Module) else objective)
    except ValueError:  # compiled functions have no signature
        return
    rows = {"indices": "indices"} if "indices" in called.parameters else {}
    try:
        called.bind("model", "images", "labels", **rows)
    except TypeError as error:
        raise TypeError(f"{wanted}, received {objective!r} ({error})") from error


def standard(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the images as they are: training without an adversary.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.

    Returns
    -------
    Tensor of shape (N,)
        One loss per image.
    """
    # A copy, for a model may write into its input, and the images are needed again.
    return cross_entropy(check_logits(model(images.clone()), len(images)), labels)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Show a model as it will be used; afterwards its parts' modes are what they were."""
    training = [part for part in model.modules() if getattr(part, "training", False)]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def under_attack(model: nn.Module) -> Iterator[None]:
    """Hold a model still while it is attacked: in eval mode, its parameters constants.

    The adversary meets the network as it will be used. Constants need no graph: on a small
    network an attack takes a tenth less. Afterwards modes and parameters are what they were.
    """
    free = [theta for theta in model.parameters() if theta.requires_grad]
    with in_eval_mode(model):
        try:
            for theta in free:
                theta.requires_grad_(False)
            yield
        finally:
            for theta in free:
                theta.requires_grad_(True)


def attacked(
    attack: Attack, model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, **options: Any
) -> Tensor:
    """Attack a model that is being trained, with a seed from torch's global generator.

    See `under_attack`. Every call has its own seed: else an attack that starts at random would
    start at the same points in every epoch, and the network would learn those.
    """
    if takes(attack, "seed"):
        options["seed"] = int(torch.randint(2**31 - 1, ()))
    with under_attack(model):
        return attack(model, images, labels, ball, **options)


def check_climbs(attack: Attack) -> None:
    """Require that an attack's settings make it raise the loss, before any training.

    Raises
    ------
    TypeError
        If it cannot be called as an attack is.
    ValueError
        If it is targeted, which leads images to their true classes, or a length of its steps is
        not positive.
    """
    # Some are given a loss with every call.
    asks = callable(attack) and takes(attack, "loss")
    check_attack(partial(attack, loss=cross_entropy) if asks else attack)
    given = settings(attack)
    for name in ("step_size", "alpha"):
        length = given.get(name)
        if isinstance(length, int | float) and not length > 0:
            raise ValueError(
                f"attack: expected {name} > 0, received {length}; below 0 it walks down the loss, "
                "and training is not adversarial"
            )


@dataclass(frozen=True)
class Adversarial:
    r"""The loss of attacked images: adversarial training.

    .. math:: \max_{\|\delta\| \le \epsilon} \ell(h_\theta(x + \delta), y)

    The attack looks for the maximum; the gradient in the parameters is taken where it has ended.

    Parameters
    ----------
    attack : callable
        ``attack(model, images, labels, ball)``, such as `attacks.fgsm` or
        ``functools.partial(pgd, steps=7)``.
    ball : Ball
        The threat model.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2. Danskin's theorem is why the maximiser may be
    held fixed; it asks for the maximum itself, which an attack need not have found.
    """

    attack: Attack
    ball: Ball

    def __post_init__(self) -> None:
        check_ball(self.ball)
        check_climbs(self.attack)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Attack the images, and return the losses there, (N,)."""
        images_adv = attacked(self.attack, model, images, labels, self.ball)
        return standard(model, images_adv, labels)

    def __str__(self) -> str:
        """Name the attack and the threat model."""
        return f"{describe(self.attack)}, {self.ball}"


@dataclass(frozen=True)
class Trades:
    r"""Cross-entropy of clean images, and beta times how far an attack moves the predictions.

    .. math:: \ell(h_\theta(x), y) + \beta \max_{\|\delta\| \le \epsilon}
              \mathrm{KL}\bigl(\sigma(h_\theta(x)) \,\|\, \sigma(h_\theta(x + \delta))\bigr)

    Parameters
    ----------
    attack : callable
        As in `Adversarial`; it takes a ``loss``, and starts at random: at the clean image the
        divergence is 0 and so is its gradient.
    ball : Ball
        The threat model.
    beta : float
        The price of a prediction that moves, >= 0: more of it costs accuracy on clean images.

    References
    ----------
    Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically Principled Trade-off between
    Robustness and Accuracy", ICML 2019; 1 / lambda there is beta here. Their attack starts at
    Gaussian noise of size 0.001; here it starts where the library's attacks do.
    """

    attack: Attack
    ball: Ball
    beta: float = 6.0

    def __post_init__(self) -> None:
        check_ball(self.ball)
        check_climbs(self.attack)
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta: expected a finite number >= 0, received {self.beta}")
        if not takes(self.attack, "loss") or settings(self.attack).get("random_start") is not True:
            raise ValueError(
                "attack: expected one that takes a loss and starts at random, such as "
                f"functools.partial(pgd, steps=7), received {describe(self.attack)}; at the clean "
                "image there is no gradient to follow"
            )

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Attack the predictions, and return the losses (N,)."""
        clean = check_logits(model(images.clone()), len(images))
        before = clean.detach()
        if training_modules(model):  # in eval mode the predictions are others
            with under_attack(model), torch.no_grad():
                before = model(images.clone())
        divergence = divergence_from(before)
        images_adv = attacked(
            self.attack,
            model,
            images,
            labels,
            self.ball,
            loss=lambda logits, _: divergence(logits),
        )
        moved = kl_divergence(clean, check_logits(model(images_adv), len(images)))
        return cross_entropy(clean, labels) + self.beta * moved

    def __str__(self) -> str:
        """Name beta, the attack and the threat model."""
        return f"TRADES, β = {self.beta:g}, {describe(self.attack)}, {self.ball}"
