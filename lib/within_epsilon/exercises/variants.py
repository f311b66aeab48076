"""A class's own variant of the checks: other random inputs, the same exercises."""

from __future__ import annotations

import os

from within_epsilon.runtime import derive_seed

VARIABLE = "WITHIN_EPSILON_SEED"


def variant(seed: int) -> int:
    """Return the seed that a check draws its inputs with.

    Parameters
    ----------
    seed : the check's own, which tells its streams apart

    Returns
    -------
    The same where ``$WITHIN_EPSILON_SEED`` is not set or 0, as in the book; else another, the same
    for all who set the same.

    Raises
    ------
    ValueError
        If the variable is no whole number from 0 on.
    """
    setting = os.environ.get(VARIABLE, "") or "0"
    if not setting.isdecimal():
        raise ValueError(f"{VARIABLE}: expected a whole number from 0 on, received {setting!r}")
    return seed if int(setting) == 0 else derive_seed(int(setting), seed)
