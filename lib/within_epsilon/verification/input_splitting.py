"""Cases by inputs: a box is halved until linear bounds suffice in every part."""

from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.geometry import per_pixel
from within_epsilon.verification.ascent import Adam
from within_epsilon.verification.domain import Domain
from within_epsilon.verification.falsify import Found
from within_epsilon.verification.passes import Bounds, add_safely
from within_epsilon.verification.search import Search
from within_epsilon.verification.slopes import project, start_slopes
from within_epsilon.verification.tightening import bound_all, in_parts

# Inputs that are tried in each part before one is cut, and steps on slopes of a part.
TRIED, STEPS = 3, 5
# A cut that raises the bound by less than this share of what is missing gains nothing.
STUCK = 0.02
# Steps down from the middle of each part, in its own widths.
DESCENT = (0.4, 0.15, 0.05)


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
        axes, before = self.axes[some], self.least[some]
        self.lowers, self.uppers = self.lowers[others], self.uppers[others]
        self.least, self.axes = self.least[others], self.axes[others]
        self._bound(*self._halved(lower, upper, axes), torch.cat([before, before]))

    def _bound(self, lowers: Tensor, uppers: Tensor, before: Tensor) -> None:
        """Bound parts of what had bounds before, close what can be closed, and keep the rest."""
        for some in in_parts(self.bounds.network, len(lowers)):
            bounds = self._bounds(lowers[some], uppers[some])
            part = bounds.domain
            # A part is no worse than the whole, and one beyond the ball is empty.
            least, steepest = self._linear(bounds)
            least = torch.maximum(least, before[some]).masked_fill(part.is_empty(), torch.inf)
            self.try_points(part.lowest(steepest))
            axes = torch.zeros(len(least), dtype=torch.int64)
            left = (least <= self.enough).nonzero()[:, 0]
            if len(left) and not self.settled():
                choose = self._by_slopes if self.joint else self._by_trial
                axes[left] = choose(bounds, least, steepest, left)
                if not self.settled():
                    self._descend(part[left])
            self._keep(part, least, axes)

    def _bounds(self, lowers: Tensor, uppers: Tensor) -> Bounds:
        """Bound all numbers of parts of the region."""
        whole = self.bounds.domain
        centre = whole.centre.expand(len(lowers), *whole.centre.shape[1:])
        part = Domain(lowers, uppers, whole.norm, centre, whole.epsilon)
        bounds = Bounds(self.bounds.network, part, self.bounds.arithmetic)
        bound_all(bounds)
        return bounds

    def _by_slopes(self, bounds: Bounds, least: Tensor, _: Tensor, left: Tensor) -> Tensor:
        """Choose the input whose width counts most in a bound of all conditions together.

        That bound is better, so it is kept.
        """
        some = bounds[left]
        raised, coefficients = self._ascend(some)
        least[left] = torch.maximum(least[left], raised)
        self.try_points(some.domain.lowest(coefficients))
        widths = some.domain.upper - some.domain.lower
        return (coefficients.abs() * widths).flatten(1).argmax(dim=1)

    def _by_trial(self, bounds: Bounds, least: Tensor, steepest: Tensor, left: Tensor) -> Tensor:
        """Choose the input whose halves have the best bounds, the worse half first.

        By slopes alone it takes up to 300 times as many parts: what a cut gains at the ReLUs
        is not seen in them. Where no cut gains by itself, two may: the widest input is next.
        """
        domain = bounds.domain[left]
        lower, upper = domain.lower.flatten(1), domain.upper.flatten(1)
        effect = steepest[left].flatten(1).abs() * (upper - lower)
        tried = effect.topk(min(TRIED, effect.shape[1]), dim=1).indices
        record = torch.full((len(left),), -torch.inf, dtype=torch.float64)
        axes = self._share(lower, upper).argmax(dim=1)
        gain = STUCK * (self.enough - least[left])
        for axis in tried.T:
            halves = self._bounds(*self._halved(lower, upper, axis))
            one, other = self._linear(halves)[0].clamp(max=self.enough + 1e-3).chunk(2)
            value = torch.minimum(one, other) + 0.1 * torch.maximum(one, other)
            better = (value > record) & (torch.minimum(one, other) > least[left] + gain)
            axes = torch.where(better, axis, axes)
            record = torch.where(better, value, record)
        return axes

    @torch.enable_grad()
    def _descend(self, part: Domain) -> None:
        """Try what steps down the network's own slopes reach, from the middles of parts."""
        reach = self.reach(len(part))
        points = reach.clip((part.lower + part.upper) / 2)
        for share in DESCENT:
            points = points.detach().requires_grad_()
            values = (self.tried[0] @ self.model(points).double().T).amin(dim=0)
            (slopes,) = torch.autograd.grad(values.sum(), points)
            points = points.detach() - share * (part.upper - part.lower) * slopes.sign()
            points = reach.clip(points)
            self.try_points(points)

    def _share(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return how much of each input's width is left in parts (M, D)."""
        whole = (self.bounds.domain.upper - self.bounds.domain.lower).flatten(1)
        return (upper - lower) / whole.clamp(min=1e-300)

    def _halved(self, lower: Tensor, upper: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of both halves of parts (M, D), the first halves first."""
        axes, shape = axes.unsqueeze(1), (-1, *self.lowers.shape[1:])
        # One float is the end of both halves, so that nothing falls between them.
        middle = (lower.gather(1, axes) + upper.gather(1, axes)) / 2
        lowers = torch.cat([lower, lower.scatter(1, axes, middle)]).view(shape)
        return lowers, torch.cat([upper.scatter(1, axes, middle), upper]).view(shape)

    @torch.no_grad()
    def _linear(self, bounds: Bounds) -> tuple[Tensor, Tensor]:
        """Return what the question's value is not below, and the coefficients that say so."""
        size, last = len(bounds.domain), len(bounds.network.nodes) - 1
        coefficients, constants = bounds.backward(last, self.rows)
        linear = add_safely(bounds.domain.least(coefficients), constants)
        values = torch.maximum(linear, bounds.least(last, self.rows, through=False))
        least, worst = values.max(dim=1) if self.joint else values.min(dim=1)
        wider = coefficients.expand(size, *coefficients.shape[1:])
        return least, wider[torch.arange(size), worst]

    def _ascend(self, bounds: Bounds) -> tuple[Tensor, Tensor]:
        """Raise the bound of a weighted mean, which is <= 0 where all conditions hold."""
        last, size = len(bounds.network.nodes) - 1, len(bounds.domain)
        number = self.rows.shape[1]
        slopes = start_slopes(bounds, last, 1)
        shares = torch.full((size, 1, number), 1 / number, dtype=torch.float64).requires_grad_()
        best = torch.full((size,), -torch.inf, dtype=torch.float64)
        kept = torch.zeros(size, *bounds.network.nodes[0].shape, dtype=torch.float64)
        adam = Adam([*slopes.values(), shares], 0.2)
        for step in range(STEPS + 1):
            with torch.set_grad_enabled(step < STEPS):
                coefficients, constants = bounds.backward(last, shares @ self.rows, slopes)
                lower = add_safely(bounds.domain.least(coefficients), constants)[:, 0]
            with torch.no_grad():
                better = lower > best
                best = torch.where(better, lower, best)
                kept = torch.where(per_pixel(better, kept), coefficients[:, 0], kept)
            if step == STEPS or bool((best > self.enough).all()):
                break
            adam.step(lower)
            project(bounds, [slopes])
            with torch.no_grad():
                shares.clamp_(min=1e-6).div_(shares.sum(dim=2, keepdim=True))
        return best, kept

    def _keep(self, part: Domain, least: Tensor, axes: Tensor) -> None:
        shut = least > self.enough
        self.closed += int(shut.sum())
        self.done = min([self.done, *least[shut].tolist()])
        self.lowers = torch.cat([self.lowers, part.lower[~shut]])
        self.uppers = torch.cat([self.uppers, part.upper[~shut]])
        self.least = torch.cat([self.least, least[~shut]])
        self.axes = torch.cat([self.axes, axes[~shut]])
