"""What chapter 13's checks know of noise: a half-space, votes, and who asked for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import Tensor

from within_epsilon.verification import clopper_pearson_lower

Phi = NormalDist()
_GRID = [1 / (1 + math.exp(-x / 10)) for x in range(-120, 121)]


@dataclass(frozen=True)
class Pair:
    """Votes for a winner and a runner-up, whose two bounds share the risk α.

    Parameters
    ----------
    first, second, n : votes for the winner and the runner-up, of n
    sigma, alpha : of the noise; the chance that the whole statement is wrong
    """

    first: int
    second: int
    n: int
    sigma: float
    alpha: float

    def radius(self, share: float = 0.5, risk: float = 1.0) -> float:
        """Return the radius if the bounds may fail with `risk` · α in all, a share on the first."""
        above = clopper_pearson_lower(self.first, self.n, share * risk * self.alpha)
        others = self.n - self.second
        below = 1 - clopper_pearson_lower(others, self.n, (1 - share) * risk * self.alpha)
        return self.between(above, below)

    def between(self, above: float, below: float) -> float:
        """Return the radius between two probabilities, 0 where they cross."""
        return max(0.0, self.sigma / 2 * (Phi.inv_cdf(above) - Phi.inv_cdf(below)))

    def shares(self, radius: float) -> list[float]:
        """Return the shares of α that give a radius, and the one that gives the largest."""
        off = [self.radius(share) - radius for share in _GRID]
        found = [_GRID[off.index(max(off))]]
        for i in range(len(_GRID) - 1):
            left, right = _GRID[i : i + 2]
            if (off[i] < 0) == (off[i + 1] < 0):
                continue
            for _ in range(40):
                middle = (left + right) / 2
                if (self.radius(middle) < radius) == (off[i] < 0):
                    left = middle
                else:
                    right = middle
            found.append((left + right) / 2)
        return found


@dataclass(frozen=True)
class HalfSpace:
    """Where the theorem's bound is attained: a half-space under noise, and a change against it.

    Parameters
    ----------
    p : its probability under noise around the image
    sigma, length : of the noise; of the change, straight away from it
    """

    p: float
    sigma: float
    length: float

    def chance(self) -> float:
        """Return its probability after the change."""
        return Phi.cdf(Phi.inv_cdf(self.p) - self.length / self.sigma)

    def reason(self, found: float, generator: torch.Generator) -> str:
        """Say what is wrong with another answer; if nothing is known, let draws speak."""
        p, sigma, length = self.p, self.sigma, self.length
        edge, given = Phi.inv_cdf(p), f"p = {p:.3g}, σ = {sigma:g}, a change of {length:g}:"
        known = {
            Phi.cdf(edge - length): "the length is measured in σ: divide it by σ",
            Phi.cdf(edge - length * sigma): "the length is measured in σ: divide, not multiply",
            Phi.cdf(edge + length / sigma): "the change works against the class: subtract",
            1 - self.chance(): "that is the probability of all other classes",
            p - length / sigma: "the length is subtracted from Φ⁻¹(p), not from p itself",
            sigma * edge - length: "that is how much of the radius is left, not a probability",
            sigma * edge: "that is the radius, not a probability",
        }
        for value, reason in known.items():
            if length and abs(found - value) < 1e-6:
                return f"{given} {reason}"
        draws = torch.randn(100_000, generator=generator)
        kept = (length + sigma * draws <= sigma * edge).double().mean().item()
        return (
            f"{given} of 100,000 draws around the changed point {kept:.1%} fall into a half-space "
            f"that had probability p, and you say {found:.1%}"
        )


@dataclass
class Ballots:
    """A function that draws votes, and keeps in mind how many were asked for.

    Parameters
    ----------
    chosen, judged : votes for each class, of two sizes, known beforehand
    """

    chosen: list[int]
    judged: list[int]
    asked: list[int] = field(default_factory=list)

    def __call__(self, n: int) -> Tensor:
        """Return votes: those of the size that is asked for, or as many of the same kind."""
        self.asked.append(int(n))
        known = self.chosen if n == sum(self.chosen) else self.judged
        return (torch.tensor(known) * n / sum(known)).round().long()
