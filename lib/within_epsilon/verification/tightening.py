"""Linear bounds of the hidden numbers, met with the intervals' layer by layer."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from within_epsilon.verification.nodes import Network
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.values import Interval
from within_epsilon.verification.windows import Pair

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
    before : Interval of shape (N, ...)
        What was known of the node without the linear pass.
    """

    node: int
    places: Tensor
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
    x = bounds.intervals[node]
    places = ((x.lower < 0) & (x.upper > 0)).any(dim=0).flatten().nonzero().squeeze(1)
    return Target(node, places, x)


def refined(
    bounds: Bounds,
    target: Target,
    slopes: Mapping[int, Tensor] | None = None,
    *,
    meet: bool = True,
) -> Interval:
    """Return a node's interval, cut with the linear bounds of its doubtful numbers."""
    x = target.before
    lower, upper = bounds.ends(target.node, target.places, slopes)
    old = [end.flatten(1).index_select(1, target.places) for end in x]
    if meet:
        ends = torch.maximum(old[0], lower), torch.minimum(old[1], upper)
    else:
        doubt = (old[0] < 0) & (old[1] > 0)
        ends = torch.where(doubt, lower, old[0]), torch.where(doubt, upper, old[1])
    new = [
        end.flatten(1).index_copy(1, target.places, part).view_as(end)
        for end, part in zip(x, ends, strict=True)
    ]
    return Interval(*new)


def in_parts(network: Network, n: int, copies: int = 1) -> Iterator[slice]:
    """Yield slices of problems whose coefficients fit into memory."""
    numbers = [
        2 * network.nodes[node].shape.numel() * _longest(network, node) for node in network.taken
    ]
    some = max(1, MEMORY // (copies * max([1, *numbers])))
    for start in range(0, n, some):
        yield slice(start, min(n, start + some))


def _longest(network: Network, start: int) -> int:
    """Return how many coefficients one number of a node has at the most on its way back."""
    windows: dict[int, Pair | None] = {start: (1, 1)}
    longest = 1
    for i in range(start, -1, -1):
        if i not in windows:
            continue
        window, node = windows[i], network.nodes[i]
        whole = node.shape.numel()
        if window is None or len(node.shape) != 3:
            longest = max(longest, whole)
            before = None
        else:
            longest = max(longest, min(whole, node.shape[0] * window[0] * window[1]))
            before = None if node.rule.scatters else node.rule.span(window)
        for j in node.inputs:
            other = windows.get(j, before)
            if before is None or other is None:
                windows[j] = None
            else:
                windows[j] = max(before[0], other[0]), max(before[1], other[1])
    return longest
