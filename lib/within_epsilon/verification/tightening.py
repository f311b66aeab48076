"""Linear bounds of the hidden numbers, met with the intervals' layer by layer."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from within_epsilon.verification.nodes import Network
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.values import Interval

MEMORY = 2**21  # numbers in the largest tensor of coefficients: 16 MiB, which caches still help


class Target(NamedTuple):
    """Hidden numbers that a linear pass bounds.

    Parameters
    ----------
    node : int
        The node's number.
    places : Tensor of shape (S,), int64
        Which of its numbers, all laid in one line: those that may have either sign in any of
        the problems.
    rows : Tensor of shape (1, 2 S, ...), float64
        These numbers, and then minus these numbers, as linear functions of the node.
    before : Interval of shape (N, ...)
        What was known of the node without the linear pass.
    """

    node: int
    places: Tensor
    rows: Tensor
    before: Interval


@torch.no_grad()
def bound_all(bounds: Bounds, *, linear: bool = True, meet: bool = True) -> list[Target]:
    """Bound all nodes; what ReLUs take by linear bounds where their signs are in doubt.

    Parameters
    ----------
    bounds : Bounds
        Of the input alone.
    linear : bool
        False: by intervals only.
    meet : bool
        False: where the interval's bounds do not settle the sign, take the linear ones as they
        are.

    Returns
    -------
    list of Target
        What was bounded by linear passes.
    """
    targets: list[Target] = []

    def tighten(node: int) -> None:
        if bounds.network.nodes[node].tight and bounds.domain.norm == "linf":
            return
        target = doubtful(bounds, node)
        if len(target.places):
            targets.append(target)
            bounds.replace(node, refined(bounds, target, meet=meet))

    if linear and meet:
        bounds.extend_all(tighten)
    else:
        bounds.extend_all()
        for node in bounds.network.taken if linear else []:
            tighten(node)
    return targets


def doubtful(bounds: Bounds, node: int) -> Target:
    """Select a node's numbers that may have either sign."""
    x, shape = bounds.intervals[node], bounds.network.nodes[node].shape
    places = ((x.lower < 0) & (x.upper > 0)).any(dim=0).flatten().nonzero().squeeze(1)
    rows = torch.zeros(2 * len(places), shape.numel(), dtype=torch.float64)
    first = torch.arange(len(places))
    rows[first, places], rows[first + len(places), places] = 1.0, -1.0
    return Target(node, places, rows.view(1, len(rows), *shape), x)


def refined(
    bounds: Bounds,
    target: Target,
    slopes: Mapping[int, Tensor] | None = None,
    multipliers: Mapping[int, Tensor] | None = None,
    *,
    meet: bool = True,
) -> Interval:
    """Return a node's interval, cut with the linear bounds of its doubtful numbers."""
    x = target.before
    lower, negated = bounds.least(target.node, target.rows, slopes, multipliers).chunk(2, dim=1)
    old = [end.flatten(1)[:, target.places] for end in x]
    if meet:
        ends = torch.maximum(old[0], lower), torch.minimum(old[1], -negated)
    else:
        doubt = (old[0] < 0) & (old[1] > 0)
        ends = torch.where(doubt, lower, old[0]), torch.where(doubt, -negated, old[1])
    new = [
        end.flatten(1).index_copy(1, target.places, part).view_as(end)
        for end, part in zip(x, ends, strict=True)
    ]
    return Interval(*new)


def in_parts(network: Network, n: int, copies: int = 1) -> Iterator[slice]:
    """Yield slices of problems whose coefficients fit into memory."""
    taken = [network.nodes[network.nodes[i].inputs[0]].shape.numel() for i in network.activations]
    widest = max(node.shape.numel() for node in network.nodes)
    some = max(1, MEMORY // (copies * 2 * max([1, *taken]) * widest))
    for start in range(0, n, some):
        yield slice(start, min(n, start + some))
