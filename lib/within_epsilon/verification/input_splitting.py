"""Cases by inputs: a box is halved until linear bounds suffice in every part."""

from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.verification.domain import Domain
from within_epsilon.verification.falsify import Found
from within_epsilon.verification.passes import Bounds, add_safely
from within_epsilon.verification.search import Search
from within_epsilon.verification.tightening import bound_all, in_parts


class ByInput(Search):
    """A search whose cases are parts of the region, cut along one input at a time."""

    batch = 64

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        domain = self.bounds.domain
        self.lowers, self.uppers = domain.lower[:0], domain.upper[:0]
        # Each part's bound, and the input to cut it along.
        self.least = torch.zeros(0, dtype=torch.float64)
        self.axes = torch.zeros(0, dtype=torch.int64)

    def still(self) -> Tensor:
        """Return the bounds of the parts that are open."""
        return self.least

    def begin(self, attack: Callable[[], Found]) -> None:
        """Bound the whole, and attack where that does not suffice."""
        domain = self.bounds.domain
        self.try_points(self.reach(1).centre)
        self._bound(domain.lower, domain.upper, torch.full((1,), -torch.inf).double())
        if not self.over():
            self.try_points(attack().points)

    def advance(self) -> None:
        """Halve the worst parts, and bound the halves."""
        order = self.least.argsort()
        some, others = order[: self.batch], order[self.batch :]
        lower, upper = self.lowers[some].flatten(1), self.uppers[some].flatten(1)
        axes, before = self.axes[some].unsqueeze(1), self.least[some]
        shape = (-1, *self.lowers.shape[1:])
        self.lowers, self.uppers = self.lowers[others], self.uppers[others]
        self.least, self.axes = self.least[others], self.axes[others]
        # One float is the end of both halves, so that nothing falls between them.
        middle = (lower.gather(1, axes) + upper.gather(1, axes)) / 2
        lowers = torch.cat([lower, lower.scatter(1, axes, middle)]).view(shape)
        uppers = torch.cat([upper.scatter(1, axes, middle), upper]).view(shape)
        self._bound(lowers, uppers, torch.cat([before, before]))

    @torch.no_grad()
    def _bound(self, lowers: Tensor, uppers: Tensor, before: Tensor) -> None:
        """Bound parts of what had bounds before, close what can be closed, and keep the rest."""
        whole, network = self.bounds.domain, self.bounds.network
        last = len(network.nodes) - 1
        for some in in_parts(network, len(lowers)):
            size = len(lowers[some])
            centre = whole.centre.expand(size, *whole.centre.shape[1:])
            part = Domain(lowers[some], uppers[some], whole.norm, centre, whole.epsilon)
            bounds = Bounds(network, part, self.bounds.arithmetic)
            bound_all(bounds)
            coefficients, constants = bounds.backward(last, self.rows)
            linear = add_safely(part.least(coefficients), constants)
            values = torch.maximum(linear, bounds.least(last, self.rows, through=False))
            least, worst = values.max(dim=1) if self.joint else values.min(dim=1)
            # A part is no worse than the whole, and one beyond the ball is empty.
            least = torch.maximum(least, before[some]).masked_fill(part.is_empty(), torch.inf)
            wide = coefficients.expand(size, *coefficients.shape[1:])
            steepest = wide[torch.arange(size), worst]
            self.try_points(torch.where(steepest > 0, part.lower, part.upper))
            effect = (steepest.abs() * (part.upper - part.lower)).flatten(1)
            self._keep(part, least, effect.argmax(dim=1))

    def _keep(self, part: Domain, least: Tensor, axes: Tensor) -> None:
        shut = least > self.enough
        self.closed += int(shut.sum())
        self.done = min([self.done, *least[shut].tolist()])
        self.lowers = torch.cat([self.lowers, part.lower[~shut]])
        self.uppers = torch.cat([self.uppers, part.upper[~shut]])
        self.least = torch.cat([self.least, least[~shut]])
        self.axes = torch.cat([self.axes, axes[~shut]])
