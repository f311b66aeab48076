"""Small networks whose least margin is known, and what goes wrong on the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from within_epsilon.exercises.variants import variant

_SAME = 1e-6


@dataclass(frozen=True)
class Pieces:
    """A network of one hidden layer and one output, over a box.

    Parameters
    ----------
    layers : Linear, ReLU, Linear with one output, in float64
    lower, upper : (n,), the box
    """

    layers: nn.Sequential
    lower: Tensor
    upper: Tensor

    def margins(self) -> Tensor:
        """Return the margins at all corners of the pieces, on each of which the network is linear.

        Among them are the least and the largest over the box. A corner is where n of the kinks
        and sides of the box meet; no program is solved.
        """
        weight, bias, *_ = self._numbers()
        n = len(self.lower)
        planes = torch.cat([weight, torch.eye(n).double(), torch.eye(n).double()])
        heights = torch.cat([-bias, self.lower, self.upper])
        chosen = torch.tensor(list(combinations(range(len(planes)), n)))
        chosen = chosen[torch.linalg.det(planes[chosen]).abs() > 1e-9]
        points = torch.linalg.solve(planes[chosen], heights[chosen].unsqueeze(2)).squeeze(2)
        inside = (points >= self.lower - 1e-9) & (points <= self.upper + 1e-9)
        margins: Tensor = self.layers(points[inside.all(dim=1)]).squeeze(1)
        return margins

    def reason(self, found: float) -> str:
        """Say what is wrong with an answer that is not the least margin."""
        least = self.margins().min().item()
        if not np.isfinite(found):
            return f"it is {found:g}: an LP without a solution has no value; skip the pattern"
        for reason, values in self._known(least).items():
            if any(abs(found - value) < _SAME for value in values):
                return f"{reason} (the least margin is {least:.4f}, not {found:.4f})"
        if found > least:
            return f"an input of the box has the margin {least:.4f}, below your {found:.4f}"
        return f"no input of the box has a margin below {least:.4f}, and you say {found:.4f}"

    def _known(self, least: float) -> dict[str, list[float]]:
        """Return the values that typical mistakes come to, under what is said of them."""
        middle = (self.lower + self.upper) / 2
        return {
            "that is the margin at the centre of the box, one input of many: each pattern needs "
            "an LP": [self.layers(middle).item()],
            "that is the largest margin: an LP minimises, and so do you over patterns": [
                self.margins().max().item()
            ],
            "that is the least margin of the box's corners: between them the network has kinks, "
            "and may be lower there": [self._corners()],
            "the last layer's bias is missing": [least - self._numbers()[3].item()],
            "each pattern's linear function is minimised over the whole box: it is the network "
            "only where the pattern holds, and that is what the LP's constraints say": [
                self._free()
            ],
            "a pattern counts that no input of the box has: an LP without a solution has no "
            "value, and is skipped": [min(least, value) for value in self._impossible()],
        }

    def _numbers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, _, last = self.layers
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        return first.weight, first.bias, last.weight[0], last.bias

    def _patterns(self) -> Tensor:
        """Return all ways to be on (1) or off (0), (2^h, h)."""
        hidden = len(self._numbers()[1])
        return torch.tensor([*product((0.0, 1.0), repeat=hidden)]).double()

    def _corners(self) -> float:
        """Return the least margin of the box's corners."""
        ends = torch.stack([self.lower, self.upper], dim=1)
        return float(self.layers(torch.cartesian_prod(*ends)).min())

    def _free(self) -> float:
        """Return the least value of all patterns' linear functions, wherever they hold."""
        weight, bias, out, last = self._numbers()
        rows = out * self._patterns()
        middle, radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        slopes = rows @ weight
        return float((slopes @ middle - slopes.abs() @ radius + rows @ bias + last).min())

    def _impossible(self) -> list[float]:
        """Return what patterns that no input has may be counted as: 0, or their constants."""
        weight, bias, out, last = self._numbers()
        ends = torch.stack([self.lower, self.upper], dim=1).numpy()
        values = [0.0]
        for on in self._patterns():
            sign = 1 - 2 * on
            held = (sign.unsqueeze(1) * weight).numpy(), (-sign * bias).numpy()
            if linprog(np.zeros(len(ends)), *held, bounds=ends).status == 2:
                values.append(float((out * on) @ bias + last))
        return [*values, min(values[1:], default=0.0)]

    def lift(self, least: float) -> None:
        """Move the last bias, so that the least margin becomes this one."""
        self._numbers()[3].add_(least - self.margins().min())

    def tells_apart(self) -> bool:
        """Whether neither the box's corners nor free patterns come to the least margin."""
        least = self.margins().min().item()
        return self._free() + 0.05 < least < self._corners() - 0.05


def pieces() -> Iterator[Pieces]:
    """Draw three networks with two or three inputs: two are safe, and one is not."""
    generator = torch.Generator().manual_seed(variant(0))
    for n, hidden, least in ((2, 3, 0.5), (2, 6, -0.3), (3, 5, 0.2)):
        drawn = _draw(generator, n, hidden)
        while not drawn.tells_apart():
            drawn = _draw(generator, n, hidden)
        drawn.lift(least)
        yield drawn


def _draw(generator: torch.Generator, n: int, hidden: int) -> Pieces:
    layers = nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, 1)).double()
    layers.requires_grad_(False)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    for numbers in layers.parameters():
        numbers.copy_(torch.randn(numbers.shape, **options))
    middle, radius = torch.rand(n, **options) - 0.5, torch.rand(n, **options) + 0.5
    return Pieces(layers, middle - radius, middle + radius)
