"""Norms, projections and uniform draws: the mathematics under `threat.Ball`.

Everything works on rows, one perturbation each; lengths are measured in float64.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]


def norm_of_rows(rows: Tensor, norm: Norm) -> Tensor:
    """Measure each row.

    Parameters
    ----------
    rows : Tensor of shape (N, D), float64
        Vectors.
    norm : {"linf", "l2", "l1"}
        The norm.

    Returns
    -------
    Tensor of shape (N,), float64
        Norms; l2 neither overflows nor underflows on its squares.
    """
    if norm == "l1":
        return rows.abs().sum(dim=1)
    if norm == "linf":
        return rows.abs().amax(dim=1)
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
    shortest, longest = torch.aminmax(lengths)
    if shortest == 0 or longest == torch.inf:
        # Squares may have left the range of floats: measure in units of the peak.
        peaks = rows.abs().amax(dim=1).clamp_(min=torch.finfo(rows.dtype).tiny)
        lengths = peaks * torch.linalg.vector_norm(rows / peaks.unsqueeze(1), dim=1)
    return lengths


def project_rows_l2(rows: Tensor, epsilon: float) -> Tensor:
    """Shorten the rows that are longer than epsilon to that length.

    Parameters
    ----------
    rows : Tensor of shape (N, D), float64
        Vectors.
    epsilon : float
        Radius of the l2 ball.

    Returns
    -------
    Tensor of shape (N, D), float64
        The nearest points of the ball.
    """
    lengths = norm_of_rows(rows, "l2").unsqueeze(1)
    # Rows inside are multiplied by exactly 1; with epsilon 0 nothing is divided by 0.
    lengths.clamp_(min=max(epsilon, torch.finfo(rows.dtype).tiny))
    return rows * (torch.full_like(lengths, epsilon) / lengths)


def project_rows_l1(rows: Tensor, epsilon: float) -> Tensor:
    """Shrink all coordinates of a row by one threshold, at most to 0, until they sum to epsilon.

    Parameters
    ----------
    rows : Tensor of shape (N, D), float64
        Vectors.
    epsilon : float
        Radius of the l1 ball.

    Returns
    -------
    Tensor of shape (N, D), float64
        The nearest points of the ball, in Euclidean distance.

    References
    ----------
    Duchi, Shalev-Shwartz, Singer, Chandra, "Efficient Projections onto the l1-Ball for
    Learning in High Dimensions", ICML 2008: the sorting algorithm of Figure 1, applied
    to absolute values as in section 4. O(D log D).
    """
    sizes = rows.abs()
    outside = sizes.sum(dim=1, keepdim=True) > epsilon
    if not outside.any():
        return rows
    # Measured from the row's largest size, so that huge rows lose no digits of epsilon;
    # what lies more than epsilon below it becomes 0 in any case.
    below = (sizes - sizes.amax(dim=1, keepdim=True)).clamp_(min=-epsilon)
    ordered = below.sort(dim=1, descending=True).values
    ranks = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=rows.dtype)
    thresholds = (ordered.cumsum(dim=1) - epsilon) / ranks
    # The threshold of the last rank whose coordinate survives it is the right one.
    survivors = (ordered > thresholds).sum(dim=1, keepdim=True)
    threshold = thresholds.gather(1, survivors.clamp_(min=1) - 1)
    return torch.where(outside, rows.sign() * (below - threshold).clamp_(min=0), rows)


def steepest_rows(rows: Tensor, norm: Norm) -> Tensor:
    """Return the maximiser of <row, d> over the unit ball of the norm; see `Ball.steepest`.

    Parameters
    ----------
    rows : Tensor of shape (N, D)
        Gradients, in any floating-point dtype.
    norm : {"linf", "l2", "l1"}
        The norm.

    Returns
    -------
    Tensor of shape (N, D)
        Unit vectors; zero for a row of zeros.
    """
    if norm == "linf":
        return rows.sign()
    if norm == "l2":
        wide = double(rows)
        # A row of zeros stays one when divided by the smallest number.
        lengths = norm_of_rows(wide, "l2").clamp_(min=torch.finfo(wide.dtype).tiny)
        return (wide / lengths.unsqueeze(1)).to(rows)
    largest = rows.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(rows).scatter_(1, largest, rows.gather(1, largest).sign())


def draw_rows(
    norm: Norm, size: int, generators: Sequence[torch.Generator], *, inside: bool
) -> Tensor:
    """Draw from the unit ball, one row per generator.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        The norm.
    size : int
        Number of coordinates, D.
    generators : sequence of N torch.Generator
        Sources of randomness, on the CPU.
    inside : bool
        True for uniform inside the ball; False for its boundary: a random corner for
        linf, a uniform point of the sphere for l2 and l1.

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
    rows = torch.empty(len(generators), size + further, dtype=torch.float64)
    for row, generator in zip(rows, generators, strict=True):
        if norm == "l2":
            row.normal_(generator=generator)
        else:
            row.uniform_(-1, 1, generator=generator)
    if norm == "linf":
        return rows if inside else torch.where(rows < 0, -1.0, 1.0).double()
    if norm == "l1":
        # -log(1 - u) turns a uniform size into an exponential one.
        rows = -rows.sign() * torch.log1p(-rows.abs())
    return (rows / norm_of_rows(rows, norm).unsqueeze(1))[:, :size]


def double(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, on the CPU if its own device has none (Apple's MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def step_back(pixels: Tensor, towards: Tensor) -> Tensor:
    """Subtract one unit in the last place from non-negative pixels where `towards` is 1.

    Where it is -1, add one. (torch.nextafter is not there for every device and dtype.)
    """
    # Read as integers, non-negative floats keep their order and neighbours differ by 1.
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[pixels.element_size()]
    return (pixels.view(bits) - towards.to(pixels.device, bits)).view(pixels.dtype)
