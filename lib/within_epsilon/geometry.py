"""Norms, projections and steepest steps: the mathematics under `threat.Ball`.

Everything works on rows, one perturbation each; lengths are measured in float64.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]


def norm_of_rows(rows: Tensor, norm: Norm | Literal["l0"]) -> Tensor:
    """Measure each row.

    Parameters
    ----------
    rows : Tensor of shape (N, D), float64
        Vectors.
    norm : {"linf", "l2", "l1", "l0"}
        The norm; l0 counts the coordinates that are not 0.

    Returns
    -------
    Tensor of shape (N,), float64
        Norms; l2 neither overflows nor underflows on its squares.
    """
    if norm == "l0":
        return (rows != 0).sum(dim=1).to(rows)
    if norm == "l1":
        return rows.abs().sum(dim=1)
    if norm == "linf":
        return rows.abs().amax(dim=1)
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
    if not lengths.numel():
        return lengths  # which have no extremes
    extremes = torch.aminmax(lengths)
    if extremes.min.item() == 0 or extremes.max.item() == math.inf:
        # Squares may have left the range of floats: measure in units of the peak.
        peaks = divisor(rows.abs().amax(dim=1))
        lengths = peaks * torch.linalg.vector_norm(rows / peaks.unsqueeze(1), dim=1)
    return lengths


def project_rows(
    rows: Tensor, norm: Norm, epsilon: float | Tensor, room: Tensor | None = None
) -> Tensor:
    """Return the point of a ball nearest to each row, in Euclidean distance.

    Parameters
    ----------
    rows : Tensor of shape (N, D), float64
        Vectors of any finite size.
    norm : {"linf", "l2", "l1"}
        Which ball: linf cuts off each coordinate, l2 shortens the row, l1 shrinks all
        coordinates by one threshold, at most to 0.
    epsilon : float or Tensor of shape (N, 1), float64
        Radius, >= 0; one for all rows, or one for each.
    room : Tensor of shape (N, D), float64, optional
        For l1: how large each coordinate may be, >= 0; as large as it likes by default.

    Returns
    -------
    Tensor of shape (N, D), float64
        The nearest points of the ball; of ball and box, if there is `room`. A row inside
        stays as it is, bit for bit.

    References
    ----------
    Duchi, Shalev-Shwartz, Singer, Chandra, "Efficient Projections onto the l1-Ball for
    Learning in High Dimensions", ICML 2008, equation 3, applied to absolute values as in
    section 4. With room: Croce, Hein, "Mind the Box", ICML 2021, Proposition 2.1.
    """
    if norm == "linf":
        return torch.clamp(rows, -epsilon, epsilon)  # type: ignore[arg-type]
    if norm == "l2":
        lengths = divisor(norm_of_rows(rows, "l2")).unsqueeze(1)
        # A row inside is multiplied by exactly 1.
        return rows * (epsilon / lengths).clamp_(max=1)
    sizes = rows.abs()
    kept = sizes if room is None else torch.minimum(sizes, room)
    outside = kept.sum(dim=1, keepdim=True) > epsilon
    if not outside.any():
        return rows if room is None else torch.copysign(kept, rows)
    # Measured from the row's largest size, so that huge rows lose no digits of epsilon.
    peak = sizes.amax(dim=1, keepdim=True)
    below = sizes - peak
    if room is None:
        # No threshold lies below that which leaves all as it is.
        shrunk = _shrink(below, epsilon, torch.clamp(-peak, min=-epsilon))  # type: ignore[arg-type]
    else:
        shrunk = (below - _threshold_within(below, room, epsilon)).clamp_(min=0)
        shrunk = torch.minimum(shrunk, room)
    if isinstance(epsilon, Tensor) or epsilon == 0:
        shrunk = shrunk * (epsilon > 0)  # exactly, where rounding would leave a trace
    return torch.copysign(torch.where(outside, shrunk, kept), rows)


def _shrink(below: Tensor, epsilon: float | Tensor, threshold: Tensor) -> Tensor:
    """Return max(below - t, 0) whose rows sum to epsilon, from a lower bound on t, (N, 1).

    Newton's method on a convex function, from the left: it never oversteps the root, and
    as the function is made of finitely many straight pieces, it ends on the root's own.
    """
    before = None
    while True:
        above = (below - threshold).clamp_(min=0)
        number = above.sign().sum(dim=1, keepdim=True)
        # The threshold only rises, so as many as before are the same ones. Not asked as
        # equality, which a row of NaN never reaches.
        if before is not None and not (number < before).any():
            return above
        excess = above.sum(dim=1, keepdim=True).sub_(epsilon)
        threshold = excess.div_(number.clamp(min=1)).clamp_(min=0).add_(threshold)
        before = number


def _threshold_within(below: Tensor, room: Tensor, epsilon: float | Tensor) -> Tensor:
    """Return t with sum clamp(below - t, 0, room) = epsilon, where t in reach, (N, 1).

    Along t the sum falls piecewise linearly: a coordinate joins those that shrink where
    below - t = room and leaves them at 0. O(D log D), by sorting these 2 D places.
    """
    places, order = torch.cat([below - room, below], dim=1).sort(dim=1)
    joins = torch.where(order < below.shape[1], 1.0, -1.0).to(below)
    shrinking = joins.cumsum(dim=1)[:, :-1]
    falls = (shrinking * places.diff(dim=1)).cumsum(dim=1)
    sums = room.sum(dim=1, keepdim=True) - falls
    # The first place at which too little is left; the root lies on the piece before it.
    piece = (sums > epsilon).sum(dim=1, keepdim=True).clamp_(max=sums.shape[1] - 1)
    slope = shrinking.gather(1, piece).clamp_(min=1)
    return places.gather(1, piece + 1) - (epsilon - sums.gather(1, piece)) / slope


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
        wide, lengths = _divisible(rows)
        return wide.div(lengths).to(rows)
    largest = rows.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(rows).scatter_(1, largest, rows.gather(1, largest).sign())


def step_rows_l2(rows: Tensor, slopes: Tensor, length: float) -> Tensor:
    """Move float64 rows, in place, by a step of that l2 norm along their slopes, (N, D) each.

    Slopes may have any floating-point dtype; where all of a row are zero there is no step.
    """
    return rows.addcdiv_(*_divisible(slopes), value=length)


def _divisible(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and their l2 norms in float64, (N, 1), or the smallest number for zeros."""
    rows = rows.cpu() if rows.device.type == "mps" else rows
    if rows.dtype == torch.float64:
        lengths = norm_of_rows(rows, "l2")
    else:  # whose squares stay within float64's range
        lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return rows, divisor(lengths).unsqueeze(1)


def steepest_rows_l1(rows: Tensor, length: float, room: Tensor) -> Tensor:
    """Return the maximiser of <row, d> over all d of that l1 norm, with |d_i| <= room_i.

    Coordinates are filled in the order of their slopes, each until it has no room left,
    until the length is spent.

    Parameters
    ----------
    rows : Tensor of shape (N, D)
        Gradients, in any floating-point dtype.
    length : float
        How much all coordinates may move together, >= 0.
    room : Tensor of shape (N, D)
        How far each coordinate may move in the direction of its slope, >= 0.

    Returns
    -------
    Tensor of shape (N, D)
        Steps; zero where the slope is zero.
    """
    slopes = rows.abs().mul_(room > 0)
    # As many as mostly suffice, so that no row has to be sorted to its end.
    number = min(8, rows.shape[1])
    while True:
        places = slopes.topk(number, dim=1).indices
        space = room.gather(1, places)
        filled = space.cumsum(dim=1)
        if number == rows.shape[1] or bool((filled[:, -1] >= length).all()):
            break
        number = min(8 * number, rows.shape[1])
    # Differences of what is spent by then: their sum is no longer than asked.
    spent = filled.clamp_(max=length)
    moved = spent.clone()
    moved[:, 1:] -= spent[:, :-1]
    moved *= rows.gather(1, places).sign()
    return torch.zeros_like(rows).scatter_(1, places, moved)


def per_pixel(values: Tensor, images: Tensor) -> Tensor:
    """View one value per example, (N,), so that it applies to each of its pixels."""
    return values.view(-1, *[1] * (images.ndim - 1))


def divisor(sizes: Tensor) -> Tensor:
    """Return sizes >= 0 to divide by: the smallest positive number in the place of 0."""
    return sizes.clamp(min=torch.finfo(sizes.dtype).tiny)


def wider(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for narrower dtypes: wide enough that rounding confuses no two values."""
    return torch.promote_types(dtype, torch.float32)


def double(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, on the CPU if its own device has none (Apple's MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def round_towards(points: Tensor, centre: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to a narrower dtype, never away from a centre.

    Parameters
    ----------
    points : Tensor, float64
        What to round.
    centre : Tensor, float64
        Numbers that the dtype represents, between 0 and the points if it is negative.
    dtype : torch.dtype
        A floating-point dtype.

    Returns
    -------
    Tensor of that dtype
        The nearest numbers no further from the centre than the points are.
    """
    rounded = points.to(dtype)
    away = points - centre
    beyond = (rounded.double() - centre).abs_() > away.abs()
    if not beyond.any():
        return rounded
    # One place towards the centre. (torch.nextafter is not there for every device and dtype.)
    # Read as integers, floats of one sign keep their order, and neighbours differ by 1.
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[rounded.element_size()]
    outwards = away.sign_() * torch.where(points < 0, -1, 1)
    return (rounded.view(bits) - (beyond * outwards).to(bits)).view(dtype)
