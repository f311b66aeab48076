"""The attacks by name: how they are marked, guarded and called."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

from torch import Tensor, nn

from within_epsilon.checks import (
    check_counts,
    check_images,
    check_indices,
    check_labels,
    check_model,
)
from within_epsilon.geometry import Norm
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import untouched
from within_epsilon.threat import Ball, check_ball

Kind = Literal["white box", "minimal norm", "black box", "universal", "ensemble"]
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Entry:
    """What the library knows of an attack.

    Parameters
    ----------
    name : str
        What reports and tables call it.
    kind : str
        The folder that it stands in, or "ensemble".
    norms : tuple of str
        The norms that it takes.
    function : callable
        The attack itself.
    stages : callable, optional
        Of an ensemble: ``stages(ball, **settings)`` returns its attacks, in order.
    """

    name: str
    kind: Kind
    norms: tuple[str, ...]
    function: Callable[..., Any]
    stages: Callable[..., tuple[Callable[..., Tensor], ...]] | None = None


REGISTRY: dict[str, Entry] = {}

# Arguments that count something, in whichever attack: at least 1.
_COUNTS = (
    *("steps", "restarts", "targets", "queries", "samples", "rivals", "binary_search_steps"),
    *("epochs", "batch_size", "size"),
)


def attack(
    name: str,
    kind: Kind,
    norms: tuple[Norm | Literal["l0"], ...] = ("linf", "l2", "l1"),
    stages: Callable[..., tuple[Callable[..., Tensor], ...]] | None = None,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Mark a function as an attack: put it into the registry, and guard what it is given.

    The function is called with checked arguments and images detached, inside
    `runtime.untouched`: whatever it or the model does, buffers, modes and global random
    states are afterwards what they were.

    Parameters
    ----------
    name, kind, norms, stages
        See `Entry`.

    Returns
    -------
    callable
        The decorator.
    """

    def mark(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            given = call.arguments
            _check_arguments(given, norms)
            warn_if_training(given["model"], stacklevel=3)
            given["images"] = given["images"].detach()
            with untouched(given["model"], given.get("seed", 0)):
                return function(*call.args, **call.kwargs)

        guarded.__signature__ = signature  # type: ignore[attr-defined] # asked for often
        REGISTRY[function.__name__] = Entry(name, kind, norms, guarded, stages)
        return guarded

    return mark


def _check_arguments(given: Mapping[str, Any], norms: tuple[str, ...]) -> None:
    check_model(given["model"])
    check_images(given["images"])
    check_labels(given["labels"], len(given["images"]))
    if "ball" in given:
        check_ball(given["ball"])
    if "norm" in given and given["norm"] not in norms:
        raise ValueError(f"norm: expected {' or '.join(norms)}, received {given['norm']!r}")
    check_indices(given.get("indices"), len(given["images"]))
    check_counts(**{name: given[name] for name in _COUNTS if given.get(name) is not None})
    step_size = given.get("step_size")
    if step_size is not None and not step_size > 0:
        raise ValueError(
            f"step_size: expected a length > 0, received {step_size}; "
            "to descend towards a class, set targeted=True"
        )
    loss = given.get("loss", cross_entropy)
    if not callable(loss):
        raise TypeError(f"loss: expected a function such as losses.dlr, received {loss!r}")
    if loss is margin:
        raise ValueError(
            "loss: expected a loss for the attack to raise, received margin, which falls "
            "as the attack succeeds; use losses.margin_loss"
        )


def entry_of(attack: Callable[..., Any]) -> Entry | None:
    """Return what the registry knows of an attack or a `functools.partial` of one."""
    function = function_of(attack)
    return next((entry for entry in REGISTRY.values() if entry.function is function), None)


def stages_of(attack: Callable[..., Tensor], ball: object) -> tuple[Callable[..., Tensor], ...]:
    """Return the attacks of an ensemble, in order; any other attack alone.

    Parameters
    ----------
    attack : callable
        A function or a `functools.partial` of one.
    ball : Ball
        The threat model, on which the choice may depend.
    """
    entry = entry_of(attack)
    if entry is None or entry.stages is None:
        return (attack,)
    return entry.stages(ball, **accepted(entry.stages, **settings(attack)))


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
    parameters = _parameters(attack.search if isinstance(attack, WithinBall) else attack)
    return {k: p.default for k, p in parameters.items() if p.default is not p.empty}


def _parameters(attack: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return an attack's parameters, as `inspect.signature` does, which is slow with partials."""
    if hasattr(attack, "__wrapped__") and not hasattr(attack, "__signature__"):
        return _parameters(attack.__wrapped__)
    if not isinstance(attack, functools.partial) or attack.args:
        return dict(inspect.signature(attack).parameters)
    given = attack.keywords
    return {
        name: p.replace(default=given[name]) if name in given and p.kind in _BY_NAME else p
        for name, p in _parameters(attack.func).items()
    }


def takes(attack: Callable[..., Any], name: str) -> bool:
    """Tell whether an attack can be called with a keyword argument of that name."""
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in _parameters(attack).values())


def accepted(attack: Callable[..., Any], **given: Any) -> dict[str, Any]:
    """Return those of the given settings, None left out, that an attack takes."""
    return {k: v for k, v in given.items() if v is not None and takes(attack, k)}


def room_for(attack: Callable[..., Any], images: int | None) -> dict[str, Any]:
    """Return ``at_once`` for an attack that takes it and has not been told."""
    return {"at_once": images} if settings(attack).get("at_once", 0) is None else {}


def function_of(attack: Callable[..., Any]) -> Callable[..., Any]:
    """Return what an attack calls in the end: itself, unless it is a partial or `WithinBall`."""
    while isinstance(attack, functools.partial | WithinBall):
        attack = attack.search if isinstance(attack, WithinBall) else attack.func
    return attack


@dataclass(frozen=True)
class WithinBall:
    """A minimal-norm attack, to be called like those that take a ball.

    It fools whom the search fools within the ball; what lies further away is brought back.

    Parameters
    ----------
    search : callable
        Such as `attacks.fmn` or ``functools.partial(fmn, steps=50)``.
    """

    search: Callable[..., Any]

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        ball: Ball,
        *,
        indices: Tensor | Sequence[int] | None = None,
        at_once: int | None = None,
    ) -> Tensor:
        """Return adversarial images of the same shape, within ball and [0, 1]."""
        given = {"mask": ball.mask, "indices": indices, **room_for(self.search, at_once)}
        found = self.search(model, images, labels, ball.norm, **given)
        return ball.within(images).clip(found.images_adv)


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def name_of(attack: Callable[..., Any]) -> str:
    """Return what reports call an attack, without its settings."""
    entry, function = entry_of(attack), function_of(attack)
    name = str(getattr(function, "__name__", type(function).__name__))
    return entry.name if entry else name.replace("_", " ")
