"""What an attack is called, and with which settings, for reports and verdicts."""

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Protocol

from torch import Tensor, nn

from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball
from within_epsilon.wording import radius

_NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd": "APGD",
    "multi_targeted": "targeted APGD-DLR",
    "autoattack": "AutoAttack: APGD-CE, targeted APGD-DLR, FMN, Square",
    "square": "Square Attack",
    "fmn": "FMN",
    "deepfool": "DeepFool",
    "carlini_wagner": "Carlini and Wagner",
    "boundary": "boundary attack",
}


class Attack(Protocol):
    """How every attack is called; its other settings travel in `functools.partial`."""

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        ball: Ball,
        *,
        indices: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Return adversarial images of the same shape, within ball and [0, 1]."""


def settings(attack: Callable[..., Any]) -> dict[str, Any]:
    """Return the attack's optional arguments with their values, partial's included.

    Parameters
    ----------
    attack : callable
        A function or a `functools.partial` of one.

    Returns
    -------
    dict
        Argument name to value.
    """
    parameters = inspect.signature(attack).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def takes(attack: Callable[..., Any], name: str) -> bool:
    """Tell whether an attack can be called with a keyword argument of that name."""
    parameters = inspect.signature(attack).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def describe(attack: Callable[..., Any]) -> str:
    """Name an attack and those of its settings that decide how strong it is.

    Parameters
    ----------
    attack : callable
        A function or a `functools.partial` of one.

    Returns
    -------
    str
        Such as "PGD, 40 steps, 5 restarts"; for an ensemble its members and what was
        set otherwise than by default. A setting that is not of the usual kind is left out.
    """
    values = settings(attack)
    function = function_of(attack)
    name = _name(function)
    words = [_NAMES.get(name, name.replace("_", " "))]
    if name == "autoattack":
        defaults = settings(function)
        values = {key: value for key, value in values.items() if value != defaults.get(key)}
    numbers: dict[str, Any] = {
        key: value for key, value in values.items() if isinstance(value, Real)
    }
    if "targets" in numbers:
        words.append(_count(numbers["targets"], "target"))
    if "steps" in numbers:
        words.append(_count(numbers["steps"], "step"))
    if "queries" in numbers:
        words.append(f"{numbers['queries']:,} {'query' if numbers['queries'] == 1 else 'queries'}")
    if "step_size" in numbers:
        words.append(f"step size {radius(numbers['step_size'])}")
    if numbers.get("restarts", 1) > 1:
        words.append(_count(numbers["restarts"], "restart"))
    if numbers.get("momentum"):
        words.append(f"momentum {numbers['momentum']:g}")
    if numbers.get("random_start") is False:
        words.append("clean start")
    loss = values.get("loss", cross_entropy)
    if callable(loss) and loss is not cross_entropy:
        words.append(_name(function_of(loss)).replace("_", " "))
    if numbers.get("targeted"):
        words.append("targeted")
    return ", ".join(words)


def function_of(attack: Callable[..., Any]) -> Callable[..., Any]:
    """Return what an attack calls in the end: itself, unless it is a `functools.partial`."""
    while isinstance(attack, functools.partial):
        attack = attack.func
    return attack


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
