"""What reports call an attack: its name and the settings that decide how strong it is."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from within_epsilon.attacks.core.registry import (
    entry_of,
    function_of,
    name_of,
    settings,
    stages_of,
)
from within_epsilon.threat import Ball
from within_epsilon.wording import radius

# Said whatever their value, in this order; all other settings where they are not the default.
_ALWAYS = ("targets", "steps", "binary_search_steps", "queries", "samples")
_NEVER = ("indices", "at_once", "callback", "norm", "seed")
_VERSIONS = {"fast": "fast ensemble", "standard": "AutoAttack, standard version"}


def describe(attack: Callable[..., Any]) -> str:
    """Name an attack and the settings that decide how strong it is.

    Parameters
    ----------
    attack : callable
        A function or a `functools.partial` of one.

    Returns
    -------
    str
        Such as "PGD, 40 steps, 5 restarts": the number of steps, queries and the like, and
        every other setting that differs from the function's default, but for the seed.
    """
    entry, function = entry_of(attack), function_of(attack)
    values, defaults = settings(attack), settings(function)
    words = [name_of(attack)]
    if entry is not None and entry.stages is not None:
        names = ", ".join(map(name_of, stages_of(attack, Ball("linf", 0.0))))
        words = [f"{_VERSIONS.get(values.pop('version', ''), entry.name)} ({names})"]
    words += [_count(values[key], key) for key in _ALWAYS if isinstance(values.get(key), int)]
    words += [
        _phrase(key, value)
        for key, value in values.items()
        if key not in (*_ALWAYS, *_NEVER) and not _same(value, defaults.get(key))
    ]
    return ", ".join(words)


def _phrase(key: str, value: Any) -> str:
    if key == "restarts":
        return _count(value, key)
    if key == "random_start" and value is False:
        return "clean start"
    words = key.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if callable(value):
        return str(getattr(function_of(value), "__name__", value)).replace("_", " ")
    if isinstance(value, Tensor):
        return f"{words} given"
    return f"{words} {radius(value) if isinstance(value, float) else value}"


def _same(one: Any, other: Any) -> bool:
    plain = (bool, int, float, str, tuple, type(None))
    return one is other or (isinstance(one, plain) and isinstance(other, plain) and one == other)


def _count(number: int, key: str) -> str:
    several = key.replace("_", " ")
    one = "query" if key == "queries" else several.removesuffix("s")
    return f"{number:,} {one if number == 1 else several}"
