"""The leaves of a tree of cases: which ReLUs are taken to be on or off in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from within_epsilon.geometry import per_pixel
from within_epsilon.verification.ascent import Adam
from within_epsilon.verification.passes import Bounds, add_safely
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.slopes import Slopes, project
from within_epsilon.verification.tightening import doubtful, refined
from within_epsilon.verification.values import Interval


@dataclass(eq=False)
class Leaves:
    """Cases of one problem, M of them.

    Parameters
    ----------
    intervals : dict from int to Interval of shape (M, ...)
        Of each node that a ReLU takes, cut at 0 where a case says so.
    signs : dict from int to Tensor of shape (M, ...)
        For the same nodes, what a case says: 1 for z >= 0, -1 for z <= 0, 0 for nothing.
    slopes : dict from int to Tensor of shape (M, 1, ...)
        Slopes of the lines below, by ReLU.
    prices : dict from int to Tensor of shape (M, 1, ...)
        Lagrange multipliers >= 0 of what a case says, by node.
    rows : Tensor of shape (M, 1, k)
        The function of the logits that each case is about.
    lower : Tensor of shape (M,)
        Its bound from below.
    """

    intervals: dict[int, Interval]
    signs: dict[int, Tensor]
    slopes: Slopes
    prices: Slopes
    rows: Tensor
    lower: Tensor

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, rows: Tensor) -> Leaves:
        """Return some of the cases, which may occur more than once."""

        def some(group: Mapping[int, Tensor]) -> dict[int, Tensor]:
            return {i: part[rows] for i, part in group.items()}

        return Leaves(
            {i: Interval(x.lower[rows], x.upper[rows]) for i, x in self.intervals.items()},
            some(self.signs),
            some(self.slopes),
            some(self.prices),
            self.rows[rows],
            self.lower[rows],
        )

    def joined(self, other: Leaves) -> Leaves:
        """Return these cases and others."""

        def both(one: Mapping[int, Tensor], two: Mapping[int, Tensor]) -> dict[int, Tensor]:
            return {i: torch.cat([one[i], two[i]]) for i in one}

        ends = [
            both({i: x[k] for i, x in self.intervals.items()},
                 {i: x[k] for i, x in other.intervals.items()})
            for k in (0, 1)
        ]  # fmt: skip
        return Leaves(
            {i: Interval(ends[0][i], ends[1][i]) for i in self.intervals},
            both(self.signs, other.signs),
            both(self.slopes, other.slopes),
            both(self.prices, other.prices),
            torch.cat([self.rows, other.rows]),
            torch.cat([self.lower, other.lower]),
        )

    def split(self, nodes: Sequence[int], places: Tensor, which: Tensor) -> Leaves:
        """Return each case twice: with a ReLU on, and with it off.

        Parameters
        ----------
        nodes : sequence of int
            The nodes that ReLUs take.
        places : Tensor of shape (M,), int64
            The ReLU to split, counted through all of these nodes.
        which : Tensor of shape (M,), int64
            The cases, by number.

        Returns
        -------
        Leaves
            2 M cases: those with the ReLU on, then those with it off.
        """
        twice, m = self[torch.cat([which, which])], len(which)
        sides = torch.cat([torch.ones(m), -torch.ones(m)]).to(torch.int8)
        places, first = torch.cat([places, places]), 0
        for node in nodes:
            x, signs = twice.intervals[node], twice.signs[node].clone()
            size = signs[0].numel()
            here = ((places >= first) & (places < first + size)).nonzero()[:, 0]
            signs.flatten(1)[here, places[here] - first] = sides[here]
            twice.signs[node] = signs
            twice.intervals[node] = Interval(
                torch.where(signs > 0, x.lower.clamp(min=0), x.lower),
                torch.where(signs < 0, x.upper.clamp(max=0), x.upper),
            )
            first += size
        return twice


def root(bounds: Bounds, rows: Tensor, lower: Tensor, slopes: Slopes) -> Leaves:
    """Return one case for each function (S, k) that says nothing yet."""
    network, number = bounds.network, len(rows)
    intervals = {
        i: Interval(*(end.expand(number, *end.shape[1:]) for end in bounds.intervals[i]))
        for i in network.taken
    }
    return Leaves(
        intervals,
        {i: torch.zeros(x.lower.shape, dtype=torch.int8) for i, x in intervals.items()},
        slopes,
        {i: torch.zeros_like(x.lower).unsqueeze(1) for i, x in intervals.items()},
        rows.unsqueeze(1),
        lower,
    )


def bound(bounds: Bounds, leaves: Leaves, *, steps: int, refine: bool, enough: float) -> Tensor:
    """Bound cases from below, in place, by slopes and prices that Adam has raised.

    Parameters
    ----------
    bounds : Bounds
        Of the problem, N = 1.
    leaves : Leaves
        The cases; `intervals`, `slopes`, `prices` and `lower` are replaced by better ones.
    steps : int
        Steps of Adam.
    refine : bool
        Bound hidden numbers anew in every case.
    enough : float
        Stop early if all bounds are above it.

    Returns
    -------
    Tensor of shape (M, ...)
        An input at which each case's linear bound is least.
    """
    trial = bounds.copy()
    for node, x in leaves.intervals.items():
        trial.replace(node, x)
    empty = torch.zeros(len(leaves), dtype=torch.bool)
    with torch.no_grad():
        for node in bounds.network.taken:
            if refine and not bounds.network.nodes[node].tight:
                target = doubtful(trial, node)
                if len(target.places):
                    trial.replace(node, refined(trial, target))
            x = trial.intervals[node]
            # Nothing satisfies the case, as both ends are sound.
            empty |= (x.lower > x.upper).flatten(1).any(dim=1)
            trial.replace(node, Interval(x.lower, torch.maximum(x.lower, x.upper)))
            leaves.intervals[node] = trial.intervals[node]
    coefficients = _ascend(trial, leaves, steps, enough)
    leaves.lower = torch.where(empty, torch.inf, leaves.lower)
    return bounds.domain.lowest(coefficients)


def _ascend(trial: Bounds, leaves: Leaves, steps: int, enough: float) -> Tensor:
    """Raise the cases' bounds, in place; return the best bounds' coefficients, (M, ...)."""
    last = len(trial.network.nodes) - 1
    slopes = {i: s.detach().clone().requires_grad_() for i, s in leaves.slopes.items()}
    prices = {i: p.detach().clone().requires_grad_() for i, p in leaves.prices.items()}
    signed = {i: leaves.signs[i].unsqueeze(1).double() for i in prices}
    adam = Adam([*slopes.values(), *prices.values()], 0.1)
    best = torch.full_like(leaves.lower, -torch.inf)
    kept = torch.zeros(len(leaves), *trial.network.nodes[0].shape, dtype=torch.float64)
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            terms = {i: -prices[i] * signed[i] for i in prices}
            coefficients, constants = trial.backward(last, leaves.rows, slopes, terms)
            lower = add_safely(trial.domain.least(coefficients), constants)[:, 0]
        with torch.no_grad():
            better = lower > best
            best = torch.where(better, lower, best)
            kept = torch.where(per_pixel(better, kept), coefficients[:, 0], kept)
            for group, current in ((leaves.slopes, slopes), (leaves.prices, prices)):
                for i, part in current.items():
                    group[i] = torch.where(per_pixel(better, part), part, group[i])
        if step == steps or bool((torch.maximum(best, leaves.lower) > enough).all()):
            break
        adam.step(lower)
        project(trial, [slopes])
        with torch.no_grad():
            for part in prices.values():
                part.clamp_(min=0)
    # A case is part of what it was split from.
    leaves.lower = torch.maximum(leaves.lower, best)
    return kept


@torch.no_grad()
def choose(bounds: Bounds, leaves: Leaves, *, candidates: int, enough: float) -> Tensor:
    """Choose the ReLU to split in each case, (M,); -1 where all are decided.

    Of those with the best scores, each is tried: the one whose worse half is best wins.
    """
    score = scores(bounds, leaves)
    best = score.topk(min(candidates, score.shape[1]), dim=1)
    chosen, record = best.indices[:, 0].clone(), torch.full_like(leaves.lower, -torch.inf)
    everyone = torch.arange(len(leaves))
    for places, values in zip(best.indices.T, best.values.T, strict=True):
        halves = leaves.split(bounds.network.taken, places, everyone)
        trial = bounds.copy()
        for node, x in halves.intervals.items():
            trial.replace(node, x)
        terms = {i: -p * halves.signs[i].unsqueeze(1) for i, p in halves.prices.items()}
        last = len(bounds.network.nodes) - 1
        ends = trial.least(last, halves.rows, halves.slopes, terms)[:, 0]
        # What is closed is closed; beyond that, more is no better.
        on, off = ends.clamp(max=enough).chunk(2)
        value = torch.minimum(on, off) + 0.1 * torch.maximum(on, off)
        better = (value > record) & (values > -torch.inf)
        chosen, record = torch.where(better, places, chosen), torch.where(better, value, record)
    return torch.where(best.values[:, 0] > -torch.inf, chosen, -1)


@torch.no_grad()
def scores(bounds: Bounds, leaves: Leaves) -> Tensor:
    """Guess how much each split would raise a case's bound, (M, all numbers that ReLUs take).

    A ReLU in doubt with a negative coefficient costs the height of its triangle, with a positive
    one what its line below leaves out; one that is decided, or split, has minus infinity.
    """
    trial = bounds.copy()
    for node, x in leaves.intervals.items():
        trial.replace(node, x)
    seen: dict[int, Tensor] = {}
    trial.backward(len(bounds.network.nodes) - 1, leaves.rows, leaves.slopes, seen=seen)
    found: dict[int, Tensor] = {}
    for i in bounds.network.activations:
        node = bounds.network.nodes[i].inputs[0]
        x, height = leaves.intervals[node], trial.lines(i).height
        rule = bounds.network.nodes[i].rule
        assert isinstance(rule, ReLURule)
        score = torch.full_like(height, -torch.inf)
        if i in seen:
            coefficient, slope = seen[i][:, 0], leaves.slopes[i][:, 0]
            left_out = torch.maximum((slope - rule.slope) * -x.lower, (1 - slope) * x.upper)
            loss = -coefficient.clamp(max=0) * height + coefficient.clamp(min=0) * left_out
            score = torch.where(height > 0, loss, -torch.inf)
        score = score.expand(len(leaves), *score.shape[1:]).flatten(1)
        found[node] = torch.maximum(found[node], score) if node in found else score
    return torch.cat([found[node] for node in bounds.network.taken], dim=1)
