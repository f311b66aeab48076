"""Where the chapters' modules put their checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], str | None]

CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], Check]:
    """Register the decorated function as the check of an exercise, "3.1" for example.

    The check receives the attempt and returns None if it is right, else the end of a sentence
    that begins with "wrong, because".
    """

    def register(function: Check) -> Check:
        if number in CHECKS and CHECKS[number].__qualname__ != function.__qualname__:
            raise ValueError(f"two checks for exercise {number}: name each exercise once")
        CHECKS[number] = function
        return function

    return register
