"""Cases by ReLUs: each is on or off."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.verification import leaves as cases
from within_epsilon.verification.falsify import Found
from within_epsilon.verification.program import Encoder
from within_epsilon.verification.search import Search
from within_epsilon.verification.slopes import optimise
from within_epsilon.verification.solver import solve_lp
from within_epsilon.verification.tightening import bound_all

# ReLUs that are tried in each case before one is split, in small networks and in others: with 12,
# two digits of the shipped network were open after 30 seconds that take 7 with 48.
FEW, MANY = 12, 48


class ByReLU(Search):
    """A search whose cases take ReLUs to be on or off."""

    steps, batch = 10, 64
    refine: bool | None = None
    open: cases.Leaves | None = None

    def still(self) -> Tensor:
        """Return the bounds of the cases that are open."""
        return torch.zeros(0) if self.open is None else self.open.lower

    def is_small(self) -> bool:
        """Tell whether hidden numbers can be bounded in every case without much ado."""
        network = self.bounds.network
        sizes = [network.nodes[i].shape.numel() for i in network.taken[1:]]
        return sum(sizes) <= 256

    def begin(self, attack: Callable[[], Found]) -> None:
        """Bound the whole region; attack and optimise slopes where that does not suffice."""
        bounds, last = self.bounds, len(self.bounds.network.nodes) - 1
        self.refine = self.is_small() if self.refine is None else self.refine
        self.try_points(self.reach(1).centre)
        targets = bound_all(bounds)
        with torch.no_grad():
            ways = [bounds.least(last, self.rows, through=way)[0] for way in (True, False)]
            lower = torch.maximum(*ways)
        self.done = lower.amin().item()
        if (lower > self.enough).all():
            return
        self.try_points(attack().points)
        if self.settled() or bool((lower > self.enough).all()) or not bounds.network.taken:
            return
        left = lower <= self.enough
        slopes = optimise(bounds, targets, self.rows[:, left], 20)
        with torch.no_grad():
            better = bounds.least(last, self.rows[:, left], slopes)[0]
        better = torch.maximum(better, lower[left])
        apart = {i: part[0].unsqueeze(1) for i, part in slopes.items()}
        self.done = min([float("inf"), *lower[~left].tolist()])
        self._keep(cases.root(bounds, self.rows[0, left], better, apart))

    def _keep(self, leaves: cases.Leaves) -> None:
        """Close what can be closed, and put the rest to what is open."""
        shut = leaves.lower > self.enough
        self.closed += int(shut.sum())
        if shut.any():
            self.done = min(self.done, leaves.lower[shut].amin().item())
        rest = leaves[(~shut).nonzero()[:, 0]]
        if len(rest):
            self.open = rest if self.open is None else self.open.joined(rest)

    def advance(self) -> None:
        """Split the worst cases, and bound what comes of it."""
        assert self.open is not None
        order = self.open.lower.argsort()
        some, others = self.open[order[: self.batch]], order[self.batch :]
        self.open = self.open[others] if len(others) else None
        candidates = FEW if self.is_small() else MANY
        chosen = cases.choose(self.bounds, some, candidates=candidates, enough=self.enough)
        for leaf in (chosen < 0).nonzero()[:, 0]:
            self._by_program(some[leaf.view(1)])
        free = (chosen >= 0).nonzero()[:, 0]
        if len(free):
            halves = some.split(self.bounds.network.taken, chosen[free], free)
            points = cases.bound(
                self.bounds, halves, steps=self.steps, refine=bool(self.refine), enough=self.enough
            )
            self.try_points(points)
            self._keep(halves)

    def _by_program(self, leaf: cases.Leaves) -> None:
        """Close a case in which all ReLUs are decided: it is a linear program."""
        bounds, last = self.bounds.copy(), len(self.bounds.network.nodes) - 1
        for node, x in leaf.intervals.items():
            bounds.replace(node, x)
        for i in bounds.network.activations:
            relu = bounds.network.nodes[i]
            bounds.replace(i, relu.rule.interval(bounds.intervals[relu.inputs[0]]))
        encoder = Encoder(bounds)
        goal = encoder.express(last, leaf.rows)
        constant = float(goal.constant[0] - goal.noise[0])
        left = self.until - time.perf_counter()
        value, point = solve_lp(encoder.program(binaries=False), goal.matrix[0], constant, left)
        if point is not None:
            shape = bounds.network.nodes[0].shape
            self.try_points(torch.from_numpy(point[: shape.numel()]).view(1, *shape))
        self.closed += 1
        self.done = min(self.done, max(value, leaf.lower.item()))
