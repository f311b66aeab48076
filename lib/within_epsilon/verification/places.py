"""Rules that move numbers without changing them, and sums: where branches meet, and maxima."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from within_epsilon.verification.rules import Rule
from within_epsilon.verification.values import Interval
from within_epsilon.verification.windows import Pair, Rows, dense


class FlattenRule(Rule):
    """The same numbers in one line."""

    moves = True
    scatters = True

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(inputs[0].lower.flatten(1), inputs[0].upper.flatten(1))

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(1)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(1)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return (dense(rows).unflatten(2, self.shape),)


class SumRule(Rule):
    """The sum of branches, as where a shortcut joins its body."""

    mixes = True

    def __init__(self, number: int) -> None:
        self.number = self.terms = self.spread = number

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(sum_of(x.lower for x in inputs), sum_of(x.upper for x in inputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        return sum_of(inputs)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return sum_of(inputs)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return (rows,) * self.number


class ConcatRule(Rule):
    """Branches side by side, along the channels."""

    moves = True

    def __init__(self, channels: list[int]) -> None:
        self.channels = channels

    def interval(self, *inputs: Interval) -> Interval:
        lower, upper = (torch.cat(ends, dim=1) for ends in zip(*inputs, strict=True))
        return Interval(lower, upper)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        if isinstance(rows, Tensor):
            return torch.split(rows, self.channels, dim=2)
        return rows.split(self.channels)


class PickRule(Rule):
    """Every so many-th number along a dimension: one place of each window of a max-pooling."""

    moves = True

    def __init__(self, dim: int, first: int, stride: int, shapes: tuple[torch.Size, int]) -> None:
        self.shape, number = shapes
        last = first + (number - 1) * stride + 1
        whole = [slice(None)] * (-1 - dim)
        self.places: tuple[Any, ...] = (..., slice(first, last, stride), *whole)
        # The same for height and width.
        self.stride, self.first = (1, stride), (0, first)
        if dim == -2:
            self.stride, self.first = (stride, 1), (first, 0)

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(inputs[0].lower[self.places], inputs[0].upper[self.places])

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0][self.places]

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0][self.places]

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        if isinstance(rows, Tensor):
            spread = rows.new_zeros(*rows.shape[:2], *self.shape)
            spread[self.places] = rows
            return (spread,)
        rows = rows.inside()
        spread = rows.values.new_zeros(*rows.values.shape[:3], *self.span(rows.values.shape[3:]))
        spread[..., :: self.stride[0], :: self.stride[1]] = rows.values
        return (rows.moved(spread, self.stride, self.first, self.shape),)

    def span(self, size: Sequence[int]) -> Pair:
        return (size[0] - 1) * self.stride[0] + 1, (size[1] - 1) * self.stride[1] + 1


class RepeatRule(Rule):
    """Chosen numbers along a dimension, some more than once: where a window reaches the edge.

    A maximum is the same if a place outside is replaced by one inside of the same window.
    """

    compares = True
    scatters = True

    def __init__(self, dim: int, places: Tensor, shape: torch.Size) -> None:
        self.dim, self.places, self.shape = dim, places, shape
        self.spread = int(places.bincount().max())

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(self.forward(inputs[0].lower), self.forward(inputs[0].upper))

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].index_select(self.dim, self.places)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return self.forward(*inputs)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        rows = dense(rows)
        spread = rows.new_zeros(*rows.shape[:2], *self.shape)
        return (spread.index_add(self.dim, self.places, rows),)


class DifferenceRule(Rule):
    """b - a, which torch never computes: max(a, b) = a + ReLU(b - a)."""

    mixes = True
    spread = 2

    def interval(self, *inputs: Interval) -> Interval:
        b, a = inputs
        return Interval(b.lower - a.upper, b.upper - a.lower)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] - inputs[1]

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return rows, -rows


class LargerRule(Rule):
    """The larger of a and b, given a, ReLU(b - a) and b; floats compare without rounding."""

    compares = True
    mixes = True
    spread = 2

    def interval(self, *inputs: Interval) -> Interval:
        a, _, b = inputs
        return Interval(torch.maximum(a.lower, b.lower), torch.maximum(a.upper, b.upper))

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.maximum(inputs[0], inputs[2])

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return rows, rows, None


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Add tensors up."""
    first, *others = tensors
    for other in others:
        first = first + other
    return first
