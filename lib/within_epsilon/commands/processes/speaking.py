"""Of many processes that end for one reason, one says it."""

import os
import time
from collections.abc import Callable

# Seconds in which the first process of a machine says what is wrong with a command that all have.
_WAIT = 5.0
# Asks all processes of this run, once they are connected.
_asked: list[Callable[[], bool]] = []


def ask_by(first: Callable[[], bool]) -> None:
    """Let the processes agree on who speaks.

    Parameters
    ----------
    first : callable
        Tells whether no other process has asked before.
    """
    _asked[:] = [first]


def speaks() -> bool:
    """Tell whether this process is to say why the run ends.

    Returns
    -------
    bool
        True for a process alone, and for the first of many that asks; for those that are not
        connected yet, True at once on the first of a machine, which makes torchrun end the others
        while they wait here, and True after that for one that is still there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    if not _asked:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(_WAIT)
        return True
    try:
        return _asked[0]()
    except Exception:  # the others are out of reach: better said twice than not at all
        return True
