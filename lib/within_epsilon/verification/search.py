"""What every search by cases has: a bracket, an end, and inputs that were tried."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from within_epsilon.verification.falsify import Found, Reach, replay
from within_epsilon.verification.passes import Bounds


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


class Search:
    """The search for one image: cases that are open, and what those that are closed leave.

    Parameters
    ----------
    model : nn.Module
        The network, which inputs are tried on.
    bounds : Bounds
        Of the image, N = 1, all its inputs.
    reach : function
        Returns the allowed inputs for so many points.
    rows : Tensor of shape (1, S, k)
        The functions of the logits whose least value is asked for.
    until : float
        When to stop, by `time.perf_counter`.
    gap : float or None
        How wide the bracket may be; None: its sign is enough.
    """

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
        # What is tried on inputs, if it is not `rows`; and whether the largest of the functions
        # counts, which is asked to be below 0, instead of the least.
        self.tried, self.joint = rows, False
        self.worst: Found | None = None
        # The least bound of all that is closed, and how many that are.
        self.done, self.closed = float("inf"), 0

    def still(self) -> Tensor:
        """Return the bounds of the cases that are open."""
        raise NotImplementedError

    def begin(self, attack: Callable[[], Found]) -> None:
        """Bound the whole, and attack where that does not suffice."""
        raise NotImplementedError

    def advance(self) -> None:
        """Split the worst cases, and bound what comes of it."""
        raise NotImplementedError

    @property
    def lower(self) -> float:
        """What no margin is below."""
        bounds: list[float] = self.still().tolist()
        return min([*bounds, self.done, self.upper])

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
        if not len(self.still()):
            return True
        return self.settled()

    def settled(self) -> bool:
        """Tell whether an input has decided the question, or the time is over."""
        refuted = self.gap is None and self.upper < 0
        return refuted or time.perf_counter() > self.until

    def progress(self, seconds: float) -> Progress:
        """Say where the search is."""
        return Progress(self.lower, self.upper, len(self.still()), self.closed, seconds)

    def try_points(self, points: Tensor) -> None:
        """Run the network on inputs, and keep the worst."""
        points = self.reach(len(points)).clip(points)
        with torch.no_grad():
            logits = self.model(points).double()
        values = (self.tried[0] @ logits.T).amin(dim=0)
        first = int(values.argmin())
        if values[first] >= self.upper:
            return
        found = replay(self.model, points[first : first + 1], self.tried)
        if self.reach(1).admits(found.points).all() and found.values[0] < self.upper:
            self.worst = found
