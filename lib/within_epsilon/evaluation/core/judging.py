"""Running attacks on a batch, past examples that cannot be judged."""

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.attacks import (
    count_evaluations,
    describe,
    in_turn,
    noise_control,
    settings,
    stages_of,
    takes,
)
from within_epsilon.attacks.core.registry import accepted, entry_of, function_of
from within_epsilon.checks import BadExampleError, check_images
from within_epsilon.evaluation.core.examples import Batch
from within_epsilon.reports.outcomes import MOST_STAGES
from within_epsilon.runtime import device_of, untouched
from within_epsilon.threat import Ball, check_ball

Attack = Callable[..., Tensor]


class Judged(NamedTuple):
    """What became of a batch.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        See `attacks.in_turn`; the clean image where an example is bad.
    fell_to : Tensor of shape (N,), int64
        As `attacks.in_turn` gives; -2 where an example is bad.
    bad : dict
        Why, by the example's position in the data set.
    """

    images_adv: Tensor
    fell_to: Tensor
    bad: dict[int, str]


def judge(model: nn.Module, batch: Batch, ball: Ball, stages: Sequence[Attack]) -> Judged:
    """Run attacks in turn on a batch; halve it where it holds an example that cannot be judged.

    Raises
    ------
    TypeError, ValueError
        As `attacks.in_turn`.
    """
    if batch.unreadable:
        return _bad(batch, batch.unreadable)
    images, labels, indices = batch[:3]
    unusable = images.flatten(1).isnan().any(dim=1)
    if unusable.any():
        if unusable.all():
            return _bad(batch, "images: expected pixels in [0, 1], received NaN")
        return _part_by_part(model, batch, ball, stages, ~unusable)
    check_images(images)
    allowed = ball[indices]
    try:
        return Judged(*in_turn(model, images, labels, allowed, stages, indices=indices), {})
    except BadExampleError as error:
        if len(images) == 1:
            return _bad(batch, str(error))
        first = torch.arange(len(images)) < len(images) // 2
        return _part_by_part(model, batch, ball, stages, first)


def _part_by_part(
    model: nn.Module, batch: Batch, ball: Ball, stages: Sequence[Attack], first: Tensor
) -> Judged:
    """Judge the examples marked in `first` and the others apart."""
    whole = Judged(batch.images.clone(), torch.full((len(first),), -2), {})
    for rows in (first.nonzero().squeeze(1).cpu(), (~first).nonzero().squeeze(1).cpu()):
        judged = judge(model, batch.rows(rows), ball, stages)
        whole.images_adv[rows] = judged.images_adv
        whole.fell_to[rows] = judged.fell_to.cpu()
        whole.bad.update(judged.bad)
    return whole


def _bad(batch: Batch, reason: str) -> Judged:
    positions = batch.indices.tolist()
    fell_to = torch.full((len(positions),), -2)
    return Judged(batch.images, fell_to, dict.fromkeys(positions, reason))


def on_device(batch: Batch, model: nn.Module) -> Batch:
    """Move a batch to where the model is; its positions stay."""
    device = device_of(model)
    return batch._replace(images=batch.images.detach().to(device), labels=batch.labels.to(device))


class Guarded:
    """An attack that leaves the model untouched and counts what it spends.

    Parameters
    ----------
    attack : callable
        ``attack(model, images, labels, ball)``, with further settings by `functools.partial`.
    seed : int
        Of the global random generators while it runs.

    Attributes
    ----------
    attack : callable
        The attack itself.
    own : bool
        Whether it is not one of the library's.
    forwards, gradients : int
        Examples classified and differentiated so far.
    """

    def __init__(self, attack: Attack, seed: int = 0) -> None:
        functools.update_wrapper(self, attack)  # its signature, for those who ask
        self.attack, self.seed = attack, seed
        self.own = entry_of(attack) is None and function_of(attack) is not noise_control
        self.forwards = self.gradients = 0

    def __call__(self, model: nn.Module, *args: Any, **named: Any) -> Tensor:
        """Call the attack."""
        with (
            # The library's attacks see to that themselves.
            untouched(model, self.seed) if self.own else nullcontext(),
            count_evaluations(model) as spent,
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=".*train mode")  # said once already
            try:
                return self.attack(model, *args, **named)
            finally:
                self.forwards += spent.forwards
                self.gradients += spent.gradients


def attacks_of(attack: Any, ball: object, seed: int | None = None) -> list[Attack]:
    """Check one or several attacks; return them as a list, with the seed for those who take one.

    Raises
    ------
    TypeError, ValueError
        If one cannot be called as ``attack(model, images, labels, ball)``, or is targeted.
    """
    check_ball(ball)
    several = isinstance(attack, Sequence) and not isinstance(attack, str)
    attacks: list[Attack] = list(attack) if several else [attack]
    if not attacks:
        raise ValueError("attack: expected at least one, received none")
    for one in attacks:
        check_attack(one)
    if seed is None:
        return attacks
    return [functools.partial(one, seed=seed) if takes(one, "seed") else one for one in attacks]


def check_attack(attack: object) -> None:
    """Require what can be called as ``attack(model, images, labels, ball)``, untargeted.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    if not callable(attack):
        raise TypeError(f"attack: expected one such as attacks.pgd, received {attack!r}")
    try:  # as it will be called
        extra = accepted(attack, indices=[])
        inspect.signature(attack).bind("model", "images", "labels", "ball", **extra)
        if takes(attack, "norm") and not takes(attack, "ball"):
            raise TypeError("it takes a norm, and no ball")
    except (TypeError, ValueError) as error:
        raise TypeError(
            "attack: expected one to call as attack(model, images, labels, ball), received "
            f"{describe(attack)} ({error}); give settings with functools.partial, and bring "
            "a minimal-norm attack's `.images_adv` back with ball.within(images).clip(...), or "
            "give the attack to robust_curve"
        ) from error
    require_untargeted(attack)


def require_untargeted(attack: Any) -> None:
    """Require an attack that leads away from the true class.

    Raises
    ------
    ValueError
        If it is targeted.
    """
    if settings(attack).get("targeted"):
        raise ValueError(
            "attack: expected an untargeted one, received targeted=True, which would lead "
            "images to their true classes; drop it"
        )


def stages_in(attacks: Sequence[Attack], ball: Ball, seed: int | None) -> list[Guarded]:
    """Return the attacks, ensembles taken apart, guarded.

    Raises
    ------
    ValueError
        If there are more than a report has letters for.
    """
    stages = [Guarded(stage, seed or 0) for one in attacks for stage in stages_of(one, ball)]
    if len(stages) > MOST_STAGES:
        raise ValueError(
            f"attack: expected at most {MOST_STAGES}, received {len(stages)}; evaluate some first, "
            "and the others on what is left standing"
        )
    return stages
