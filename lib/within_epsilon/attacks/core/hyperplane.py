"""The shortest steps onto a hyperplane that do not leave [0, 1], row by row."""

import torch
from torch import Tensor

from within_epsilon.geometry import Norm, divisor


def step_to_hyperplane(points: Tensor, slopes: Tensor, rises: Tensor, norm: Norm) -> Tensor:
    r"""Return the shortest steps within [0, 1] along which a linear function rises by so much.

    .. math:: \min_d \|d\| \quad \text{so that} \quad \langle w, d \rangle = r, \quad
              0 \le t + d \le 1

    Parameters
    ----------
    points : Tensor of shape (N, D), float64
        Where the steps begin: t, within [0, 1].
    slopes : Tensor of shape (N, D), float64
        The function's gradients w, finite.
    rises : Tensor of shape (N,), float64
        By how much it shall rise, r; it shall fall where that is negative.
    norm : {"linf", "l2", "l1"}
        How steps are measured.

    Returns
    -------
    Tensor of shape (N, D), float64
        The steps d. Where [0, 1] ends before r is reached, those that come nearest to it.

    Notes
    -----
    Every coordinate moves in the direction that helps, by a size of its own: the room that it
    has in [0, 1], or less. For linf the others have one size in common, for l2 sizes in
    proportion to their slopes, and how far they move is the root of a concave function made of
    straight pieces: Newton's method ends on the root's own piece. For l1 coordinates use up
    their room one after the other, the steepest first.

    References
    ----------
    The problem is that of Croce, Hein, "Minimally Distorted Adversarial Examples with a Fast
    Adaptive Boundary Attack", ICML 2020, section 2.2.
    """
    uphill = slopes * torch.where(rises < 0, -1.0, 1.0).to(slopes).unsqueeze(1)
    room = torch.where(uphill < 0, points, 1 - points).masked_fill(uphill == 0, 0)
    sizes, rises = uphill.abs(), rises.abs().unsqueeze(1)
    # In units of the steepest slope, so that no product of two leaves the range of floats.
    peaks = divisor(sizes.amax(dim=1, keepdim=True))
    sizes, rises = sizes / peaks, rises / peaks
    if norm == "l1":
        moves = _one_by_one(sizes, room, rises)
    else:
        moves = _together(sizes, sizes if norm == "l2" else torch.ones_like(rises), room, rises)
    return moves * uphill.sign()


def _together(slopes: Tensor, speeds: Tensor, room: Tensor, rises: Tensor) -> Tensor:
    """Return min(room, time * speeds), with the time at which <slopes, moves> is the rise."""
    gains, rates = slopes * room, slopes * speeds
    arrived = room <= 0
    while True:
        missing = rises - (gains * arrived).sum(dim=1, keepdim=True)
        rate = rates.masked_fill(arrived, 0).sum(dim=1, keepdim=True)
        times = missing.clamp_(min=0) / divisor(rate)
        # The time only grows, so those that have arrived stay.
        arriving = ~arrived & (speeds * times >= room)
        if not arriving.any():
            return torch.where(arrived, room, speeds * times)
        arrived |= arriving


def _one_by_one(slopes: Tensor, room: Tensor, rises: Tensor) -> Tensor:
    """Return moves of which only the last need be shorter than its room, the steepest first."""
    slopes, order = slopes.sort(dim=1, descending=True)
    room = room.gather(1, order)
    gains = slopes * room
    missing = (rises - (gains.cumsum(dim=1) - gains)).clamp_(min=0)
    moves = torch.minimum(room, missing / divisor(slopes))
    return torch.zeros_like(moves).scatter_(1, order, moves)
