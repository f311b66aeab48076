"""A class's own variant of the checks: other random inputs, the same exercises."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from within_epsilon.data import Split
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


def drawn(split: Split, count: int) -> tuple[Tensor, Tensor]:
    """Return that many images of a split and their labels: the first ones in the book.

    A class with a seed of its own has others, drawn without replacement.
    """
    if variant(0) == 0:
        return split[:count]
    generator = torch.Generator().manual_seed(variant(0))
    return split[torch.randperm(len(split), generator=generator)[:count]]


def jittered(values: Tensor) -> Tensor:
    """Return numbers that were chosen by hand, for a class of its own each up to 5% off."""
    if variant(0) == 0:
        return values
    generator = torch.Generator().manual_seed(variant(values.numel()))
    off = 2 * torch.rand(values.shape, generator=generator, dtype=torch.float64) - 1
    return (values * (1 + 0.05 * off)).to(values)
