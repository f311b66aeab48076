"""Whether the loss jumps: between images so alike that a slope explains nothing."""

from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.evaluation.diagnosis.look import per_row

# Places on the way, how often the gap with the largest change is halved, and what part of the
# largest logit or loss that change must be in the end: a slope that climbs all of it in a hundredth
# of the way makes less than that of the last gap.
_PLACES, _HALVINGS, _PART = 128, 10, 1e-3


def jumps(losses: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, scale: Tensor) -> Tensor:
    """Look for the largest jump of each example's loss on the way from one image to another.

    Where the loss changes most from one place to the next, the gap is halved again and again, and
    of its halves that is kept in which it changes more. What a slope makes of a gap shrinks with
    it; a jump stays.

    Parameters
    ----------
    losses : callable
        Takes images (N, ...), returns losses (N,).
    start, end : Tensor of shape (N, ...)
        The ends of the ways.
    scale : Tensor of shape (N,)
        How large the logits are.

    Returns
    -------
    Tensor of shape (N,), float64
        The size of the jump, as a part of the largest logit or loss; 0 where there is none.
    """

    def at(shares: Tensor) -> Tensor:
        share = per_row(shares, start)
        return losses((start.double() + share * (end - start).double()).to(start)).double()

    n = len(start)
    grid = torch.linspace(0, 1, _PLACES + 1, dtype=torch.float64, device=start.device)
    found = torch.stack([at(share.expand(n)) for share in grid])
    widest = found.diff(dim=0).abs().argmax(dim=0)
    low, high = grid[widest], grid[widest + 1]
    below, above = (found.gather(0, row.unsqueeze(0))[0] for row in (widest, widest + 1))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        between = at(middle)
        first = (between - below).abs() >= (above - between).abs()
        low, below = torch.where(first, low, middle), torch.where(first, below, between)
        high, above = torch.where(first, middle, high), torch.where(first, between, above)
    largest = torch.maximum(scale.double(), found.abs().amax(dim=0)).clamp(min=1e-300)
    parts = (above - below).abs() / largest
    # In half precision, rounding alone makes stairs of so much.
    least = max(_PART, 100 * torch.finfo(start.dtype).eps)
    return torch.where(parts > least, parts, 0.0)
