"""Checks for the exercises: `check("3.1", attempt)` says what it thinks and never raises.

Each chapter's checks stand in a module of their own. A check takes the reader's attempt, tries it
on cases of its own and returns None when all is well, or a sentence that says what is wrong.
`answers` converts what comes back, `calls` calls and tells what went wrong, `watch` looks on.
"""

from __future__ import annotations

import importlib
from typing import Any

from within_epsilon.exercises.answers import describe, plain
from within_epsilon.exercises.calls import Calls, sandbox
from within_epsilon.exercises.registry import CHECKS, Check, NotAttempted, Wrong

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
    "correct", "not attempted yet" or "wrong, because …"; for an attempt that stopped with an
    exception, the line of the reader's code and the input follow on lines of their own
    """
    number = str(exercise)  # the number 3.1 is understood too
    chapter = number.partition(".")[0]
    judge = _find(number, chapter)
    if judge is None:
        known = [name for name in CHECKS if name.startswith(f"{chapter}.")]
        return f"there is no exercise {number!r}; that chapter has {', '.join(known) or 'none'}"
    if attempt is None or attempt is ...:
        return NOT_ATTEMPTED
    calls = Calls(attempt)
    try:
        with sandbox():
            complaint = judge(calls if callable(attempt) else plain(attempt))
    except NotAttempted:
        return NOT_ATTEMPTED
    except Wrong as wrong:
        return WRONG + str(wrong) if wrong.attempted or not calls.empty else NOT_ATTEMPTED
    except (Exception, SystemExit) as error:  # whatever a reader's code does, the notebook goes on
        if not callable(attempt):
            return f"{WRONG}the check wants the function itself, not {describe(attempt)}"
        return NOT_ATTEMPTED if calls.empty or calls.is_stub(error) else WRONG + calls.story(error)
    if complaint is None:
        return CORRECT
    return NOT_ATTEMPTED if calls.empty else WRONG + complaint


def check(exercise: str, attempt: Any) -> None:
    """Print the verdict on an attempt at an exercise; never raise."""
    print(f"Exercise {exercise}: {verdict(exercise, attempt)}")


def _find(exercise: str, chapter: str) -> Check | None:
    """Return the check of an exercise, after importing its chapter's module."""
    try:
        importlib.import_module(f"{__name__}.chapter{chapter}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.chapter{chapter}":
            raise
        return None
    return CHECKS.get(exercise)
