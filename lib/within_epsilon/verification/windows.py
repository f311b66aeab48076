"""Linear functions of images that look through small windows: most of their coefficients are 0.

A number behind a few convolutions depends on a small part of the image before them. Its
coefficients there are kept as that part alone, and where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """S linear functions of images (C, H, W), each 0 outside a window.

    Parameters
    ----------
    values : Tensor of shape (B, S, C, h, w), or (B, 2 S, C, h, w)
        Coefficients inside, for all problems (B = 1) or each; windows may reach beyond the
        image. Of 2 S functions, the second S look through the windows of the first.
    grid : Tensor of shape (P, 2), int64
        The places that the functions are about, in the image where they began.
    which : Tensor of shape (S,), int64
        The place of each function.
    stride, first : pair of int
        The window of place p begins at stride * p + first.
    shape : torch.Size
        (C, H, W).
    spilled : bool
        Whether there may be coefficients beyond the image, which mean nothing.
    """

    values: Tensor
    grid: Tensor
    which: Tensor
    stride: Pair
    first: Pair
    shape: torch.Size
    spilled: bool = False
    # What windows of some size and place hold, found once for all that come from the same start.
    _known: dict[tuple[object, ...], Tensor] = field(default_factory=dict, repr=False)

    @property
    def is_wide(self) -> bool:
        """Whether the windows are no smaller than the image."""
        return self.values[0, 0, 0].numel() >= self.shape[1:].numel()

    def __neg__(self) -> Windows:
        return replace(self, values=-self.values)

    def __mul__(self, scale: Tensor) -> Windows:
        """Multiply by one factor a channel, (C, 1, 1), or one for all."""
        return replace(self, values=self.values * scale)

    def split(self, channels: list[int]) -> list[Windows]:
        """Return the parts that look at one group of channels each."""
        parts = torch.split(self.values, channels, dim=2)
        return [
            replace(self, values=part, shape=torch.Size((c, *self.shape[1:])))
            for part, c in zip(parts, channels, strict=True)
        ]

    def near(self, *images: Tensor) -> list[Tensor]:
        """Look at images (N, C, H, W) through the windows; beyond the edge there is 0.

        Returns
        -------
        list of Tensor of shape (N, S, C, h, w)
            One for each argument.
        """
        places = self._places()
        seen = []
        for image in images:
            edged = F.pad(image.flatten(1), (0, 1))
            parts = edged.index_select(1, places.flatten()).view(len(image), *places.shape)
            seen.append(parts.index_select(1, self.which))
        return seen

    def inside(self) -> Windows:
        """Return the same without what lies beyond the image."""
        if not self.spilled:
            return self
        within = self._places() < self.shape.numel()
        keep = within.index_select(0, self.which).to(self.values)
        halves = self.values.unflatten(1, (-1, len(self.which)))
        return replace(self, values=(halves * keep).flatten(1, 2), spilled=False)

    def dense(self) -> Tensor:
        """Return all coefficients, (B, S or 2 S, C, H, W)."""
        batch, number = self.values.shape[:2]
        places = self._places().index_select(0, self.which).flatten(1)
        places = places.repeat(number // len(self.which), 1).expand(batch, -1, -1)
        whole = self.values.new_zeros(batch, number, self.shape.numel() + 1)
        whole = whole.scatter(2, places, self.values.flatten(2))
        return whole[..., :-1].view(batch, number, *self.shape)

    def moved(self, values: Tensor, stride: Pair, first: Pair, shape: torch.Size) -> Windows:
        """Return windows in the image before a layer.

        Parameters
        ----------
        values : Tensor of shape (B, S, c, h, w)
            Coefficients there.
        stride, first : pair of int
            Place p of the layer's output depends on what begins at stride * p + first.
        shape : torch.Size
            Of the image there.
        """
        return Windows(
            values,
            self.grid,
            self.which,
            (stride[0] * self.stride[0], stride[1] * self.stride[1]),
            (stride[0] * self.first[0] + first[0], stride[1] * self.first[1] + first[1]),
            shape,
            spilled=True,
            _known=self._known,
        )

    def joined(self, other: Windows) -> Windows | Tensor:
        """Add functions of the same places."""
        if self.stride != other.stride:
            return self.dense() + other.dense()
        first = [min(ends) for ends in zip(self.first, other.first, strict=True)]
        last = [
            max(a + m, b + n)
            for a, b, m, n in zip(
                self.first, other.first, self.values.shape[3:], other.values.shape[3:], strict=True
            )
        ]
        total = self._widened(first, last) + other._widened(first, last)
        spilled = self.spilled or other.spilled
        return replace(self, values=total, first=(first[0], first[1]), spilled=spilled)

    def _widened(self, first: list[int], last: list[int]) -> Tensor:
        (top, left), (high, wide) = self.first, self.values.shape[3:]
        sides = (left - first[1], last[1] - left - wide, top - first[0], last[0] - top - high)
        return F.pad(self.values, sides) if any(sides) else self.values

    def _places(self) -> Tensor:
        """Return the numbers of what each window holds, (P, C, h, w); beyond the edge CHW."""
        key = (self.shape, self.stride, self.first, self.values.shape[3:])
        if key not in self._known:
            self._known[key] = self._numbers()
        return self._known[key]

    def _numbers(self) -> Tensor:
        channels, height, width = self.shape
        rows, columns = (
            (self.grid[:, k] * self.stride[k] + self.first[k]).unsqueeze(1)
            + torch.arange(self.values.shape[3 + k])
            for k in (0, 1)
        )
        inside = ((rows >= 0) & (rows < height)).unsqueeze(2)
        inside = inside & ((columns >= 0) & (columns < width)).unsqueeze(1)
        flat = rows.unsqueeze(2) * width + columns.unsqueeze(1)
        numbers = flat.unsqueeze(1) + torch.arange(channels).view(-1, 1, 1) * (height * width)
        return torch.where(inside.unsqueeze(1), numbers, self.shape.numel())


Rows = Tensor | Windows


def units(shape: torch.Size, places: Tensor) -> Rows:
    """Return single numbers of a layer as linear functions of all of them.

    Parameters
    ----------
    shape : torch.Size
        Of the layer's output.
    places : Tensor of shape (S,), int64
        Which numbers, all laid in one line.

    Returns
    -------
    Windows, or Tensor of shape (1, S, ...)
        S functions: windows where the output is an image.
    """
    if len(shape) != 3:
        rows = torch.zeros(1, len(places), shape.numel(), dtype=torch.float64)
        return rows.scatter_(2, places.view(1, -1, 1), 1.0).view(1, len(places), *shape)
    each = torch.arange(len(places))
    size = shape[1] * shape[2]
    pixels, which = torch.unique(places % size, return_inverse=True)
    values = torch.zeros(1, len(places), shape[0], 1, 1, dtype=torch.float64)
    values[0, each, places // size] = 1.0
    grid = torch.stack([pixels // shape[2], pixels % shape[2]], dim=1)
    return Windows(values, grid, which, (1, 1), (0, 0), shape)


def dense(rows: Rows) -> Tensor:
    """Return all coefficients."""
    return rows if isinstance(rows, Tensor) else rows.dense()


def sizes_of(rows: Rows) -> Rows:
    """Return absolute values of all coefficients."""
    return rows.abs() if isinstance(rows, Tensor) else replace(rows, values=rows.values.abs())


def add(one: Rows | None, other: Rows) -> Rows:
    """Add linear functions of the same layer, if there are any yet."""
    if one is None:
        return other
    if isinstance(one, Windows) and isinstance(other, Windows):
        return one.joined(other)
    return dense(one) + dense(other)


def mirrored(rows: Rows) -> Rows:
    """Return functions, and then minus these functions."""
    if isinstance(rows, Tensor):
        return torch.cat([rows, -rows], dim=1)
    return replace(rows, values=torch.cat([rows.values, -rows.values], dim=1))


def shape_of(rows: Rows) -> torch.Size:
    """Return how many problems, or 1, and functions there are."""
    return (rows if isinstance(rows, Tensor) else rows.values).shape[:2]


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Return the positive coefficients and the negative ones, with 0 for the others."""
    if isinstance(rows, Tensor):
        falling = rows.clamp(max=0)
        # Not by a second clamp, whose gradient at 0 would be lost.
        return rows - falling, falling
    rising, falling = rows.values.clamp(min=0), rows.values.clamp(max=0)
    return replace(rows, values=rising), replace(rows, values=falling)


def relaxed(rising: Rows, falling: Rows, lower: Tensor, upper: Tensor) -> Rows:
    """Multiply positive coefficients by slopes below a function, negative ones by those above.

    Parameters
    ----------
    rising, falling : Tensor of shape (B, S, ...), or Windows
        Both kinds of coefficients.
    lower, upper : Tensor of shape (N, ...); of `lower` also (N, 1 or S, ...)
        Slopes.
    """
    if isinstance(rising, Windows) and isinstance(falling, Windows) and lower.ndim == upper.ndim:
        below, above = (part.unsqueeze(1) for part in rising.near(lower, upper))
        number = (-1, len(rising.which))
        ups, downs = (part.values.unflatten(1, number) for part in (rising, falling))
        values = torch.addcmul(ups * below, downs, above).flatten(1, 2)
        return replace(rising, values=values, spilled=False)
    lower = lower if lower.ndim > upper.ndim else lower.unsqueeze(1)
    return torch.addcmul(dense(rising) * lower, dense(falling), upper.unsqueeze(1))


def dot(rows: Rows, vectors: Tensor) -> Tensor:
    """Multiply linear functions (1 or N, S, ...) by points (1 or N, ...) into (1 or N, S)."""
    if isinstance(rows, Windows):
        size = 2 * len(vectors) * rows.values.shape[3:].numel()
        if len(rows.values) > 1 or size <= rows.shape[1:].numel():
            (seen,) = rows.near(vectors)
            halves = rows.values.unflatten(1, (-1, len(rows.which)))
            total: Tensor = (halves * seen.unsqueeze(1)).flatten(3).sum(dim=3)
            return total.flatten(1)
        rows = rows.dense()
    rows, vectors = rows.flatten(2), vectors.flatten(1)
    if len(rows) == 1:
        return F.linear(vectors, rows[0])
    return torch.matmul(rows, vectors.unsqueeze(2)).squeeze(2)
