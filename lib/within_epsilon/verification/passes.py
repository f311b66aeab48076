"""Bounds of every node, from the input to the logits, and linear bounds back to the input."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from within_epsilon.verification.domain import Domain
from within_epsilon.verification.flow import Flow
from within_epsilon.verification.nodes import Network
from within_epsilon.verification.rounding import DOUBLE, Arithmetic, gamma
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.values import Interval
from within_epsilon.verification.windows import (
    Rows,
    dense,
    dot,
    relaxed,
    split,
    units,
)

LowerSlope = Literal["adaptive", "zero", "one", "same"]


class Lines(NamedTuple):
    """What stands for a ReLU: no more than ``upper * z + height``, no less than ``lower * z``.

    Parameters
    ----------
    upper, height : Tensor of shape (N, ...), float64
        The line above; its height is 0 where the ReLU has no kink, and above 0 elsewhere.
    lower : Tensor of shape (N, ...), float64
        The slope of the line below.
    """

    upper: Tensor
    height: Tensor
    lower: Tensor


class Bounds:
    """Where each node of a network lies, for each of N problems.

    Parameters
    ----------
    network : Network
        The network.
    domain : Domain
        The inputs of the N problems.
    arithmetic : Arithmetic or None
        What the network is run in; None: rounding is not accounted for, and nothing is proved.
    lower_slope : {"adaptive", "zero", "one", "same"}
        The line below an unstable ReLU: the one with the smaller area between the lines, 0,
        z, or a parallel to the line above.

    Attributes
    ----------
    intervals : list of Interval
        One for each node known so far, shapes (N, ...).
    noises : list of Tensor or None
        How far each node's output is from what its rule says; None: not at all.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain,
        arithmetic: Arithmetic | None,
        lower_slope: LowerSlope = "adaptive",
    ) -> None:
        self.network, self.domain, self.arithmetic = network, domain, arithmetic
        self.lower_slope = lower_slope
        self.intervals = [domain.interval]
        self.noises: list[Tensor | None] = [None]
        self._lines: dict[int, Lines] = {}

    def copy(self) -> "Bounds":
        """Return bounds whose intervals may be replaced without changing these."""
        other = Bounds(self.network, self.domain, self.arithmetic, self.lower_slope)
        other.intervals, other.noises = list(self.intervals), self.noises
        return other

    def __getitem__(self, rows: Tensor) -> "Bounds":
        """Return the bounds of some of the problems."""
        part = Bounds(self.network, self.domain[rows], self.arithmetic, self.lower_slope)
        part.intervals = [Interval(x.lower[rows], x.upper[rows]) for x in self.intervals]
        part.noises = [None if noise is None else noise[rows] for noise in self.noises]
        return part

    def replace(self, node: int, interval: Interval) -> None:
        """Put tighter bounds of a node in place of those that were found."""
        self.intervals[node] = interval
        for i in [i for i in self._lines if node in self.network.nodes[i].inputs]:
            del self._lines[i]

    def extend(self) -> None:
        """Bound the next node by intervals."""
        node = self.network.nodes[len(self.intervals)]
        inputs = [self.intervals[i] for i in node.inputs]
        interval, noise, rule = node.rule.interval(*inputs), None, node.rule
        if self.arithmetic is not None and not rule.moves:
            sizes = rule.weigh(*(x.size for x in inputs))
            if rule.shift_size is not None:
                sizes = sizes + rule.shift_size
            own = max(rule.terms, rule.spread, node.shape.numel())
            noise = self.arithmetic.noise(sizes, rule.terms, own)
            if not rule.compares:
                interval = Interval(interval.lower - noise, interval.upper + noise)
        self.intervals.append(interval)
        self.noises.append(noise)

    def extend_all(self, tighten: Callable[[int], None] | None = None) -> None:
        """Bound all nodes in turn, and tighten those that a ReLU takes before going on."""
        taken = self.network.taken
        for i in range(len(self.intervals), len(self.network.nodes)):
            self.extend()
            if tighten is not None and i in taken:
                tighten(i)

    def lines(self, activation: int) -> Lines:
        """Return what stands for a ReLU, by its node's number."""
        if activation not in self._lines:
            node = self.network.nodes[activation]
            x, rule = self.intervals[node.inputs[0]], node.rule
            assert isinstance(rule, ReLURule)
            upper, height = rule.chord(x)
            # Where there is no kink, the line is the function.
            lower = torch.where(height > 0, self._choice(x, upper, rule.slope), upper)
            self._lines[activation] = Lines(upper, height, lower)
        return self._lines[activation]

    def _choice(self, x: Interval, upper: Tensor, flattest: float) -> Tensor:
        """Return slopes of the lines below ReLUs with a kink."""
        if self.lower_slope == "same":
            return upper
        if self.lower_slope == "adaptive":
            steep = (x.upper > -x.lower).to(upper)
            return steep.clamp(min=flattest) if flattest else steep
        return torch.full_like(upper, 1.0 if self.lower_slope == "one" else flattest)

    def backward(
        self,
        start: int,
        rows: Rows,
        slopes: Mapping[int, Tensor] | None = None,
        multipliers: Mapping[int, Tensor] | None = None,
        *,
        through: bool = True,
        seen: dict[int, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take linear functions of a node back to linear functions of the input below them.

        Parameters
        ----------
        start : int
            The node's number.
        rows : Tensor of shape (B, S, ...), float64, or Windows
            S functions' coefficients, the same for all problems (B = 1) or for each (B = N).
        slopes : mapping from int to Tensor of shape (N, 1 or S, ...), optional
            Slopes of the lines below ReLUs, by node, instead of `lower_slope`'s: from that of
            the ReLU below 0 up to 1. Where there is no kink they are not looked at.
        multipliers : mapping from int to Tensor of shape (N, S, ...), optional
            Added to the coefficients of nodes, by number: Lagrange multipliers of what is
            assumed of them.
        through : bool
            False: stop at ReLUs, and take their intervals.
        seen : dict, optional
            Receives the coefficients of every ReLU's outputs, by node.

        Returns
        -------
        coefficients : Tensor of shape (B, S, ...), float64
            Of the input; 0 if nothing reached it.
        constants : Tensor of shape (B or N, S), float64
            With all rounding subtracted: for every input x of the domain, the network's own
            value of the function is at least coefficients · x + constants.
        """
        flow = Flow(start, rows)
        rest = self._back(flow, start, slopes, multipliers, through=through, seen=seen)
        if rest is None:
            rest = self.domain.lower.new_zeros(flow.shape + self.network.nodes[0].shape)
        return dense(rest), flow.total(self.domain.lower)

    def _back(
        self,
        flow: Flow,
        start: int,
        slopes: Mapping[int, Tensor] | None,
        multipliers: Mapping[int, Tensor] | None = None,
        *,
        through: bool = True,
        seen: dict[int, Tensor] | None = None,
    ) -> Rows | None:
        """Take a flow back; return the input's coefficients, or None if nothing reached it."""
        for i in range(start, 0, -1):
            found = flow.pending.pop(i, None)
            if found is None:
                continue
            node = self.network.nodes[i]
            if multipliers and i in multipliers:
                found = dense(found) + multipliers[i]
                if i in flow.paid:
                    flow.pay(multipliers[i], node.rule.shift, self.noises[i])
            if not isinstance(node.rule, ReLURule):
                if i not in flow.paid:
                    flow.pay(found, node.rule.shift, self.noises[i])
                flow.send(node.inputs, node.rule.back(found))
                continue
            # From here on, what bounds a function and what bounds its negative differ.
            found = flow.divide(found)
            if seen is not None:
                seen[i] = dense(found)
            if through:
                self._relax(flow, i, found, slopes.get(i) if slopes else None)
            else:
                flow.pay(found, None, self.noises[i])
                flow.parts.append(least_of(dense(found), self.intervals[i]))
        rest = flow.pending.get(0)
        return rest if rest is None else flow.divide(rest)

    def _least(self, flow: Flow, rest: Rows | None) -> Tensor:
        """Bound what a flow has come to from below, (N, S)."""
        if rest is not None:
            flow.parts.append(self.domain.least(rest))
        return flow.total(self.domain.lower)

    def _relax(self, flow: Flow, activation: int, found: Rows, slopes: Tensor | None) -> None:
        """Take coefficients past a ReLU, along its line below or above, by their signs."""
        (before,) = self.network.nodes[activation].inputs
        noise, (upper, height, lower) = self.noises[activation], self.lines(activation)
        rising, falling = split(found)
        if slopes is not None:
            # Without a kink there is no choice.
            lower = torch.where(height.unsqueeze(1) > 0, slopes, lower.unsqueeze(1))
        own = self.noises[before]
        alone = self.network.uses[before] == 1
        if slopes is None and alone and noise is not None and own is not None:
            # The layer before is paid here, with the same coefficients. That is no more, as no
            # line has a negative slope and coefficients keep their signs; and the few roundings
            # of these sums are among the 16 that every allowance has to spare.
            shift = self.network.nodes[before].rule.shift
            shift = torch.zeros_like(own) if shift is None else shift
            flow.parts.append(dot(falling, torch.addcmul(height + noise, upper, shift + own)))
            flow.parts.append(dot(rising, lower * (shift - own) - noise))
            flow.paid.add(before)
        else:
            flow.pay(found, None, noise)
            flow.parts.append(dot(falling, height))
        flow.send((before,), (relaxed(rising, falling, lower, upper),))

    def least(
        self,
        start: int,
        rows: Tensor,
        slopes: Mapping[int, Tensor] | None = None,
        multipliers: Mapping[int, Tensor] | None = None,
        *,
        through: bool = True,
    ) -> Tensor:
        """Bound linear functions of a node from below, (N, S); see `backward`."""
        flow = Flow(start, rows)
        return self._least(flow, self._back(flow, start, slopes, multipliers, through=through))

    def ends(
        self, node: int, places: Tensor, slopes: Mapping[int, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Bound single numbers of a node from both sides.

        Parameters
        ----------
        node : int
            The node's number.
        places : Tensor of shape (S,), int64
            Which of its numbers, all laid in one line.
        slopes : mapping from int to Tensor of shape (N, 2 S, ...), optional
            As for `backward`: of the S lower ends, then of the S upper ones.

        Returns
        -------
        lower, upper : Tensor of shape (N, S)
            The ends.
        """
        flow = Flow(node, units(self.network.nodes[node].shape, places), both=True)
        least = self._least(flow, self._back(flow, node, slopes))
        lower, negated = least.chunk(2, dim=1)
        return lower, -negated


def least_of(rows: Tensor, x: Interval) -> Tensor:
    """Return the least value of linear functions (B, S, ...) on intervals, (N, S)."""
    middle, radius = (x.upper + x.lower) / 2, (x.upper - x.lower) / 2
    share = 2 * gamma(middle[0].numel() + 16, DOUBLE)
    return dot(rows, middle) - dot(rows.abs(), radius + share * x.size)


def add_safely(one: Tensor, other: Tensor) -> Tensor:
    """Return less than the sum, whatever rounding does."""
    return one + other - 4 * DOUBLE * (one.abs() + other.abs())
