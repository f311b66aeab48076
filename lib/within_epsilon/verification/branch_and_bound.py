"""Branch and bound: cases of ReLUs on and off, each closed by a linear bound of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_counts, check_labels
from within_epsilon.threat import Ball
from within_epsilon.verification import leaves as cases
from within_epsilon.verification.certificate import Certificate, conclude
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.falsify import Found, Reach, falsify, reach_of, replay, some_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.program import Encoder
from within_epsilon.verification.rounding import arithmetic_of, dtype_of
from within_epsilon.verification.slopes import optimise
from within_epsilon.verification.solver import solve_lp
from within_epsilon.verification.tightening import bound_all

# ReLUs that are tried in each case before one is split.
CANDIDATES = 12


@dataclass(frozen=True)
class Progress:
    """Where a search is.

    Parameters
    ----------
    lower, upper : float
        The bracket of the least margin by now.
    open : int
        Cases that are not closed.
    closed : int
        Cases that are.
    seconds : float
        Since it began.
    """

    lower: float
    upper: float
    open: int
    closed: int
    seconds: float


def branch_and_bound(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    gap: float | None = None,
    time_limit: float = 60.0,
    steps: int = 10,
    batch: int = 64,
    refine: bool | None = None,
    arithmetic: str | None = None,
    callback: Callable[[int, Progress], None] | None = None,
) -> list[Certificate]:
    """Certify images or refute them, by splitting into cases until every case is settled.

    Parameters
    ----------
    model : nn.Module
        Takes inputs, returns logits (N, K); see `read_network` for the layers it may have.
    images : Tensor of shape (N, ...), or Box
        Clean pixels in [0, 1], or the inputs themselves.
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball, optional
        The threat model around images, of any norm; None with a box.
    gap : float, optional
        Go on until the bracket of the least margin is no wider. By default only its sign is
        asked for.
    time_limit : float
        Seconds for each image.
    steps : int
        Steps of Adam on slopes and multipliers of each case.
    batch : int
        Cases bounded together.
    refine : bool, optional
        Bound hidden numbers anew in every case: fewer cases, each of which takes longer. By
        default where a network is small.
    arithmetic : {None, "real"}
        None: certificates hold for the network as torch runs it on a CPU; see `crown`.
    callback : function, optional
        Called with an image's number and a `Progress` after every batch of cases.

    Returns
    -------
    list of N Certificate
        What is known when all cases are closed, or when the time is over. No solver is
        trusted: where every ReLU is decided and the linear bound does not suffice, a linear
        program's prices make one that does.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or an argument is none of these.

    Notes
    -----
    A case takes some ReLUs to be on (z >= 0) and others off (z <= 0), where z is the network's
    own float; 0 belongs to both. What it says of z is used twice: the interval of z ends at 0,
    so that the ReLU is a line; and a multiplier times z is added to the linear bound.

    References
    ----------
    Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", JMLR
    2020; Wang et al., "Beta-CROWN", NeurIPS 2021.
    """
    check_counts(batch=batch)
    way = arithmetic_of(model, arithmetic)
    domain = domain_of(images, ball, exactly=arithmetic == "real")
    network = read_network(model, domain.lower.shape[1:])
    check_labels(labels, len(domain), network.nodes[-1].shape[0])
    rows = objective_rows(labels, len(domain), network.nodes[-1].shape[0])
    certificates = []
    for i in range(len(domain)):
        start, one = time.perf_counter(), slice(i, i + 1)
        tree = _Tree(
            model,
            Bounds(network, domain[one], way),
            partial(_reach, *some_of(images, ball, one), dtype_of(model)),
            rows[one],
            start + time_limit,
            gap,
        )
        tree.steps, tree.batch = steps, batch
        tree.begin(partial(falsify, model, *some_of(images, ball, one), rows[one]))
        tree.refine = tree.is_small() if refine is None else refine
        while tree.open is not None and not tree.over():
            tree.advance()
            if callback is not None:
                callback(i, tree.progress(time.perf_counter() - start))
        certificates.append(
            conclude(
                tree.lower,
                tree.worst,
                "branch_and_bound",
                way.name,
                time.perf_counter() - start,
                tree.lower > 0,
            )
        )
    return certificates


def _reach(images: Tensor | Box, ball: Ball | None, dtype: torch.dtype, copies: int) -> Reach:
    """Return what is allowed around one image, for a batch of points."""
    return reach_of(images, ball, dtype, torch.zeros(copies, dtype=torch.int64))


class _Tree:
    """The search for one image: cases that are open, and what those that are closed leave."""

    def __init__(
        self,
        model: nn.Module,
        bounds: Bounds,
        reach: Callable[[int], Reach],
        rows: Tensor,
        until: float,
        gap: float | None,
    ) -> None:
        self.model, self.bounds, self.reach, self.rows = model, bounds, reach, rows
        self.until, self.gap = until, gap
        self.steps, self.batch, self.refine = 10, 64, False
        self.open: cases.Leaves | None = None
        self.worst: Found | None = None
        # The least bound of all that is closed, and how many that are.
        self.done, self.closed = float("inf"), 0

    @property
    def lower(self) -> float:
        """What no margin is below."""
        still = float("inf") if self.open is None else self.open.lower.min().item()
        return min(still, self.done, self.upper)

    @property
    def upper(self) -> float:
        """The least margin of an allowed input that was tried."""
        return float("inf") if self.worst is None else self.worst.values[0].item()

    @property
    def enough(self) -> float:
        """A case whose bound is above this is closed."""
        return 0.0 if self.gap is None else self.upper - self.gap

    def over(self) -> bool:
        """Tell whether there is nothing left to find out, or no time."""
        refuted = self.gap is None and self.upper < 0
        return refuted or time.perf_counter() > self.until

    def progress(self, seconds: float) -> Progress:
        """Say where the search is."""
        still = 0 if self.open is None else len(self.open)
        return Progress(self.lower, self.upper, still, self.closed, seconds)

    def is_small(self) -> bool:
        """Tell whether hidden numbers can be bounded in every case without much ado."""
        network = self.bounds.network
        sizes = [network.nodes[i].shape.numel() for i in network.taken[1:]]
        return sum(sizes) <= 256

    def try_points(self, points: Tensor) -> None:
        """Run the network on inputs, and keep the worst."""
        points = self.reach(len(points)).clip(points)
        with torch.no_grad():
            logits = self.model(points).double()
        values = (self.rows[0] @ logits.T).amin(dim=0)
        first = int(values.argmin())
        if values[first] >= self.upper:
            return
        found = replay(self.model, points[first : first + 1], self.rows)
        if self.reach(1).admits(found.points).all() and found.values[0] < self.upper:
            self.worst = found

    def begin(self, attack: Callable[[], Found]) -> None:
        """Bound the whole region; attack and optimise slopes where that does not suffice."""
        bounds, last = self.bounds, len(self.bounds.network.nodes) - 1
        self.try_points(self.reach(1).centre)
        targets = bound_all(bounds)
        with torch.no_grad():
            ways = [bounds.least(last, self.rows, through=way)[0] for way in (True, False)]
            lower = torch.maximum(*ways)
        self.done = lower.amin().item()
        if (lower > self.enough).all():
            return
        self.try_points(attack().points)
        if self.over() or bool((lower > self.enough).all()):
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
        chosen = cases.choose(self.bounds, some, candidates=CANDIDATES, enough=self.enough)
        for leaf in (chosen < 0).nonzero()[:, 0]:
            self._by_program(some[leaf.view(1)])
        free = (chosen >= 0).nonzero()[:, 0]
        if len(free):
            halves = some.split(self.bounds.network.taken, chosen[free], free)
            points = cases.bound(
                self.bounds, halves, steps=self.steps, refine=self.refine, enough=self.enough
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
