"""Where the chapters' modules put their checks, and how a check says that it is not satisfied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], str | None]

CHECKS: dict[str, Check] = {}


class Wrong(Exception):  # noqa: N818 - a judgement, no failure of the program
    """The end of a sentence that begins with "wrong, because".

    Parameters
    ----------
    reason : what is wrong, in the reader's terms
    attempted : whether something was done although every call returned nothing
    """

    def __init__(self, reason: str, *, attempted: bool = False) -> None:
        super().__init__(reason)
        self.attempted = attempted


class NotAttempted(Exception):  # noqa: N818
    """The attempt is still the stub."""


def exercise(number: str) -> Callable[[Check], Check]:
    """Register the decorated function as the check of an exercise, "3.1" for example.

    The check receives the attempt and returns None if it is right, else the end of a sentence
    that begins with "wrong, because"; what it calls may raise that sentence as `Wrong`.
    """

    def register(function: Check) -> Check:
        if number in CHECKS and CHECKS[number].__qualname__ != function.__qualname__:
            raise ValueError(f"two checks for exercise {number}: name each exercise once")
        CHECKS[number] = function
        return function

    return register
