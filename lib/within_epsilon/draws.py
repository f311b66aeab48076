"""Uniform draws, one generator per example."""

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor

from within_epsilon.geometry import Norm, divisor, norm_of_rows


def draw_uniform(generators: Iterable[torch.Generator], *shape: int) -> Tensor:
    """Draw numbers in [0, 1), a tensor of that shape from each of N generators, (N, ...)."""
    return torch.stack([torch.rand(shape, generator=g, dtype=torch.float32) for g in generators])


def draw_rows(
    norm: Norm,
    shape: tuple[int, int],
    generators: Iterable[torch.Generator],
    *,
    inside: bool,
    shortened: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Draw from the unit ball, one row per generator.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        The norm.
    shape : (int, int)
        Number of rows, N, and of coordinates, D.
    generators : iterable of N torch.Generator
        Sources of randomness, on the CPU; each draws its row before the next is asked for.
    inside : bool
        True for uniform inside the ball; False for its boundary: a random corner for
        linf, a uniform point of the sphere for l2 and l1.
    shortened : bool
        Multiply each row by a factor uniform in [0, 1].
    mask : Tensor of shape (N, D) or (1, D), bool, optional
        Which coordinates may differ from 0: the draw is from the ball of these alone.

    Returns
    -------
    Tensor of shape (N, D), float64
        The draws, on the CPU.

    References
    ----------
    Barthe, Guédon, Mendelson, Naor, "A Probabilistic Approach to the Geometry of the
    l_p^n-Ball", Annals of Probability 2005, Theorem 1: coordinates g_i of density
    proportional to exp(-|t|^p), divided by (sum |g_i|^p + Z)^(1/p) with Z exponential;
    without Z, a point of the sphere.
    """
    # Z is drawn as further coordinates: the size of one for l1; for l2 the squares of
    # two, since they sum to an exponential variable.
    further = {"linf": 0, "l2": 2, "l1": 1}[norm] if inside else 0
    number, size = shape
    rows = torch.empty(number, size + further, dtype=torch.float64)
    factors = torch.empty(number, 1, dtype=torch.float32) if shortened else None
    each = repeat(None, number) if factors is None else factors.unbind()
    for row, factor, generator in zip(rows.unbind(), each, generators, strict=True):
        if norm == "l2":
            row.normal_(generator=generator)
        else:
            row.uniform_(-1, 1, generator=generator)
        if factor is not None:
            factor.uniform_(generator=generator)
    if norm == "linf":
        rows = rows if inside else torch.where(rows < 0, -1.0, 1.0).double()
    elif norm == "l1":
        # -log(1 - u) turns a uniform size into an exponential one.
        rows = -rows.sign() * torch.log1p(-rows.abs())
    if mask is not None:
        rows[:, :size] *= mask.to(rows)
    if norm != "linf":
        rows /= divisor(norm_of_rows(rows, norm)).unsqueeze(1)
    if factors is not None:
        rows *= factors
    return rows[:, :size]
