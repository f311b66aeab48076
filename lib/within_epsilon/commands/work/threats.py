"""The attack and the threat models that a user named."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import signature
from typing import Any

from torch import Tensor

from within_epsilon.attacks import REGISTRY, WithinBall, noise_control, takes
from within_epsilon.threat import Ball

_KINDS = ("white box", "minimal norm", "black box", "ensemble")
# What can be named: attacks on single images in a norm that --norm has, and noise beside them.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: entry.function
    for name, entry in REGISTRY.items()
    if entry.kind in _KINDS and entry.norms != ("l0",)
} | {"noise_control": noise_control}


def attack_of(name: str, steps: int | None, settings: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Return an attack by its name, with settings, to be called with a ball.

    Parameters
    ----------
    name : str
        What `attacks` calls it, such as "pgd".
    steps : int, optional
        Its steps.
    settings : mapping
        Any others.

    Raises
    ------
    ValueError
        If there is none of that name, or it takes no such setting.
    """
    if name not in FUNCTIONS:
        close = get_close_matches(name, FUNCTIONS) or list(FUNCTIONS)
        raise ValueError(f"--attack: there is no {name!r}; did you mean {', '.join(close)}?")
    function = FUNCTIONS[name]
    given = dict(settings) | ({} if steps is None else {"steps": steps})
    for setting in given:
        if not takes(function, setting) or setting in ("targeted", "callback", "indices", "norm"):
            raise ValueError(f"--set: {name} has no setting {setting!r} to give here")
        usual = signature(function).parameters[setting].default
        if isinstance(usual, int | float) and not isinstance(given[setting], int | float):
            raise ValueError(
                f"--set: expected a number for {name}'s {setting}, such as {usual}, received "
                f"{given[setting]!r}"
            )
    attack = partial(function, **given) if given else function
    return attack if takes(function, "ball") else WithinBall(attack)


def balls_of(norm: Any, epsilons: Sequence[float]) -> list[Ball]:
    """Return the threat models, by ascending radius.

    Raises
    ------
    ValueError
        If a radius is none in that norm, or 0.
    """
    balls = [Ball(norm, epsilon) for epsilon in sorted(set(epsilons))]
    if balls[0].epsilon == 0:
        raise ValueError("--epsilon: expected a radius above 0, received 0")
    return balls
