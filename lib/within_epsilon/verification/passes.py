"""Bounds of every node, from the input to the logits, and linear bounds back to the input."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from within_epsilon.verification.domain import Domain, dot
from within_epsilon.verification.nodes import Network
from within_epsilon.verification.rounding import DOUBLE, Arithmetic, gamma
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.values import Interval

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
        self._lines.clear()

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
            flattest = torch.full_like(upper, rule.slope)
            choices = {
                "adaptive": torch.where(x.upper > -x.lower, 1.0, flattest),
                "zero": flattest,
                "one": torch.ones_like(upper),
                "same": upper,
            }
            # Where there is no kink, the line is the function.
            lower = torch.where(height > 0, choices[self.lower_slope], upper)
            self._lines[activation] = Lines(upper, height, lower)
        return self._lines[activation]

    def backward(
        self,
        start: int,
        rows: Tensor,
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
        rows : Tensor of shape (B, S, ...), float64
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
        pending = {start: rows}
        parts: list[Tensor] = []
        for i in range(start, 0, -1):
            found = pending.pop(i, None)
            if found is None:
                continue
            node, noise = self.network.nodes[i], self.noises[i]
            if multipliers and i in multipliers:
                found = found + multipliers[i]
            if noise is not None:
                parts.append(-dot(found.abs(), noise))
            if not isinstance(node.rule, ReLURule):
                if node.rule.shift is not None:
                    parts.append(dot(found, node.rule.shift.unsqueeze(0)))
                befores: Iterable[Tensor | None] = node.rule.back(found)
            else:
                falling = found.clamp(max=0)
                if seen is not None:
                    seen[i] = found
                if not through:
                    parts.append(least_of(found, self.intervals[i]))
                    continue
                upper, height, lower = self.lines(i)
                lower, line = lower.unsqueeze(1), upper.unsqueeze(1)
                if slopes and i in slopes:
                    # Without a kink there is no choice.
                    lower = torch.where(height.unsqueeze(1) > 0, slopes[i], lower)
                parts.append(dot(falling, height))
                befores = ((found - falling) * lower + falling * line,)
            for j, before in zip(node.inputs, befores, strict=True):
                if before is not None:
                    pending[j] = pending[j] + before if j in pending else before
        coefficients = pending.get(0)
        if coefficients is None:
            coefficients = rows.new_zeros(*rows.shape[:2], *self.network.nodes[0].shape)
        return coefficients, sum_safely(parts, rows)

    def to_activations(self, start: int, rows: Tensor) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """Write linear functions of a node in terms of the ReLUs and inputs before it.

        Parameters
        ----------
        start : int
            The node's number.
        rows : Tensor of shape (1, S, ...), float64
            S functions' coefficients.

        Returns
        -------
        coefficients : dict from int to Tensor of shape (1, S, ...)
            Of each ReLU node, and of the input, 0, that the functions depend on.
        constants : Tensor of shape (1, S)
            What is added.
        noise : Tensor of shape (N, S)
            How far the network's own values may be from that.
        """
        pending, ends = {start: rows}, {}
        constants = rows.new_zeros(rows.shape[:2])
        noise = rows.new_zeros(len(self.domain), rows.shape[1])
        for i in range(start, -1, -1):
            found = pending.pop(i, None)
            if found is None:
                continue
            node = self.network.nodes[i]
            if i == 0 or isinstance(node.rule, ReLURule):
                ends[i] = found
                continue
            own = self.noises[i]
            if own is not None:
                noise = noise + dot(found.abs(), own)
            if node.rule.shift is not None:
                constants = constants + dot(found, node.rule.shift.unsqueeze(0))
            for j, before in zip(node.inputs, node.rule.back(found), strict=True):
                if before is not None:
                    pending[j] = pending[j] + before if j in pending else before
        return ends, constants, noise * (1 + 2.0**-20)

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
        coefficients, constants = self.backward(start, rows, slopes, multipliers, through=through)
        return add_safely(self.domain.least(coefficients), constants)


def least_of(rows: Tensor, x: Interval) -> Tensor:
    """Return the least value of linear functions (B, S, ...) on intervals, (N, S)."""
    middle, radius = (x.upper + x.lower) / 2, (x.upper - x.lower) / 2
    share = 2 * gamma(middle[0].numel() + 16, DOUBLE)
    return dot(rows, middle) - dot(rows.abs(), radius + share * x.size)


def add_safely(one: Tensor, other: Tensor) -> Tensor:
    """Return less than the sum, whatever rounding does."""
    return one + other - 4 * DOUBLE * (one.abs() + other.abs())


def sum_safely(parts: list[Tensor], like: Tensor) -> Tensor:
    """Return less than the sum of parts (1 or N, S), whatever rounding does."""
    if not parts:
        return like.new_zeros(like.shape[:2])
    total, sizes = parts[0], parts[0].abs()
    for part in parts[1:]:
        total, sizes = total + part, sizes + part.abs()
    return total - 2 * gamma(len(parts) + 4, DOUBLE) * sizes
