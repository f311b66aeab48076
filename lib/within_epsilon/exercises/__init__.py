"""Checks for the exercises: `check("3.1", attempt)` says what it thinks and never raises.

Each chapter's checks stand in a module of their own. A check takes the reader's attempt, tries it
on cases of its own and returns None when all is well, or a sentence that says what is wrong.
"""

from __future__ import annotations

import importlib
from typing import Any

from within_epsilon.exercises.registry import CHECKS, Check

__all__ = ["check", "verdict"]

CORRECT = "correct"
NOT_ATTEMPTED = "not attempted yet"
WRONG = "wrong, because "


def verdict(exercise: str, attempt: Any) -> str:
    """Return what `check` prints.

    Parameters
    ----------
    exercise : "chapter.number", for example "3.1"
    attempt : the reader's function or value; None, `...` or a function that returns one of these
        or raises NotImplementedError counts as not attempted

    Returns
    -------
    "correct", "not attempted yet" or "wrong, because …"
    """
    number = str(exercise)  # the number 3.1 is understood too
    chapter = number.partition(".")[0]
    judge = _find(number, chapter)
    if judge is None:
        known = [name for name in CHECKS if name.startswith(f"{chapter}.")]
        return f"there is no exercise {number!r}; that chapter has {', '.join(known) or 'none'}"
    if attempt is None or attempt is ...:
        return NOT_ATTEMPTED
    calls = _Calls(attempt)
    try:
        complaint = judge(calls if callable(attempt) else attempt)
    except NotImplementedError:
        return NOT_ATTEMPTED
    except Exception as error:  # whatever a reader's code does, the notebook goes on
        if calls.empty:
            return NOT_ATTEMPTED
        return f"{WRONG}it stopped with {type(error).__name__}: {error}"
    if complaint is None:
        return CORRECT
    return NOT_ATTEMPTED if calls.empty else WRONG + complaint


def check(exercise: str, attempt: Any) -> None:
    """Print the verdict on an attempt at an exercise; never raise."""
    print(f"Exercise {exercise}: {verdict(exercise, attempt)}")


class _Calls:
    """A function that remembers whether all it ever returned was nothing: an unfilled stub."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._returned_something = False
        self._called = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        result = self._function(*arguments, **options)
        self._called = True
        if result is not None and result is not ...:
            self._returned_something = True
        return result

    @property
    def empty(self) -> bool:
        return self._called and not self._returned_something


def _find(exercise: str, chapter: str) -> Check | None:
    """Return the check of an exercise, after importing its chapter's module."""
    try:
        importlib.import_module(f"{__name__}.chapter{chapter}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.chapter{chapter}":
            raise
        return None
    return CHECKS.get(exercise)
