"""One rule per layer: where its outputs lie, and how linear bounds pass through it.

Everything is float64, as `read_network` makes it, but where bounds are for training alone.
*Rows* are S linear functions of a layer's output (...), the same for all images (B = 1) or for
each (B = N): a tensor of shape (B, S, ...), or `Windows`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from within_epsilon.verification.values import Interval
from within_epsilon.verification.windows import Pair, Rows, dense

# Numbers in the matrix of a convolution that is worth forming: 4 MiB.
SMALL = 2**19


class Rule:
    """A layer that is affine: its output is W x + b."""

    # Roundings behind one output when torch runs the layer; 0: the output is exact.
    terms = 0
    # Terms of one coefficient on the way back.
    spread = 1
    # Outputs depend on several inputs each.
    mixes = False
    # Outputs depend on inputs far away, so that windows are no use.
    scatters = False
    # Nothing is computed: neither layer nor coefficients are ever rounded.
    moves = False
    # The ends of the output's interval are ends of the inputs', without rounding.
    compares = False
    # b, of the shape of one example's output, and its size in the steps that compute it.
    shift: Tensor | None = None
    shift_size: Tensor | None = None

    def interval(self, *inputs: Interval) -> Interval:
        """Bound the outputs, given bounds of the inputs."""
        (x,) = inputs
        centre = self.forward((x.upper + x.lower) / 2)
        radius = self.weigh((x.upper - x.lower) / 2)
        return Interval(centre - radius, centre + radius)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute W x + b."""
        raise NotImplementedError

    def weigh(self, *inputs: Tensor) -> Tensor:
        """Compute |W| M for inputs M >= 0."""
        raise NotImplementedError

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        """Compute A W for each input, given rows A; None for an input without influence."""
        raise NotImplementedError

    def span(self, size: Sequence[int]) -> Pair:
        """Return how large a window of the input a window of the output depends on."""
        return size[0], size[1]


class LinearRule(Rule):
    """W x + b, on (N, D)."""

    mixes = True
    scatters = True

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.shift = weight, bias
        self.magnitude, self.shift_size = weight.abs(), None if bias is None else bias.abs()
        self.terms, self.spread = weight.shape[1] + 1, weight.shape[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.shift)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.magnitude)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return (dense(rows) @ self.weight,)


class ConvRule(Rule):
    """A convolution with zero padding, whose transpose takes coefficients back."""

    mixes = True

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        shapes: tuple[torch.Size, torch.Size],
    ) -> None:
        self.weight, self.magnitude = weight, weight.abs()
        self.settings = (stride, padding, dilation, groups)
        self.into, self.out = shapes
        if bias is not None:
            self.shift = bias.view(-1, 1, 1).expand(self.out)
            self.shift_size = self.shift.abs()
        self.terms = weight[0].numel() + 1
        self.spread = weight.shape[0] // groups * weight[0, 0].numel()
        # What the transpose cannot know: rows and columns that no window reached.
        reached = (
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                self.out[1:], stride, padding, dilation, weight.shape[2:], strict=True
            )
        )
        self.beyond = [n - r for n, r in zip(self.into[1:], reached, strict=True)]
        self.matrices: dict[tuple[torch.Size, Pair], Tensor] = {}

    def forward(self, *inputs: Tensor) -> Tensor:
        result = F.conv2d(inputs[0], self.weight, None, *self.settings)
        return result if self.shift is None else result + self.shift

    def weigh(self, *inputs: Tensor) -> Tensor:
        return F.conv2d(inputs[0], self.magnitude, None, *self.settings)

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        if isinstance(rows, Tensor):
            return (self._taken_back(rows, self.into[1:], self.settings[1], self.beyond),)
        stride, padding, _, _ = self.settings
        rows = rows.inside()
        # What reaches into the padding is cut off later.
        values = self._taken_back(rows.values, self.span(rows.values.shape[3:]), (0, 0), (0, 0))
        moved = rows.moved(values, stride, (-padding[0], -padding[1]), self.into)
        return (moved.dense() if moved.is_wide else moved,)

    def span(self, size: Sequence[int]) -> Pair:
        stride, _, dilation, _ = self.settings
        height, width = (
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(size, stride, dilation, self.weight.shape[2:], strict=True)
        )
        return height, width

    def _taken_back(
        self, rows: Tensor, into: Sequence[int], padding: Pair, beyond: Sequence[int]
    ) -> Tensor:
        """Take coefficients of outputs, (B, S, C, h, w), back to inputs as large as `into`."""

        def transposed(images: Tensor) -> Tensor:
            stride, _, dilation, groups = self.settings
            result: Tensor = F.conv_transpose2d(
                images, self.weight, None, stride, padding, tuple(beyond), groups, dilation
            )
            return result

        shape, channels = rows.shape[2:], self.into[0]
        size = shape.numel()
        if size * channels * into[0] * into[1] > SMALL or rows.shape[:2].numel() <= size:
            return transposed(rows.flatten(0, 1)).view(*rows.shape[:2], channels, *into)
        # For many rows the whole matrix, zeros and all, takes a third of the time.
        if (shape, padding) not in self.matrices:
            eye = torch.eye(size).to(self.weight).view(size, *shape)
            self.matrices[shape, padding] = transposed(eye).flatten(1)
        result = rows.flatten(2) @ self.matrices[shape, padding]
        return result.view(*rows.shape[:2], channels, *into)


class AverageRule(ConvRule):
    """The mean of each window, as a convolution of each channel with equal weights."""

    def __init__(self, shares: Tensor, stride: Pair, shapes: tuple[torch.Size, torch.Size]) -> None:
        super().__init__(shares, None, stride, (0, 0), (1, 1), shapes[0][0], shapes)


class ScaleRule(Rule):
    """Each number times its scale, plus its shift: normalisation, also that of batch norm."""

    def __init__(self, scale: Tensor, shift: Tensor, size: Tensor, terms: int) -> None:
        self.scale, self.terms, self._shift = scale, terms, shift
        self.shift, self.shift_size = shift, size

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.scale + self._shift

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.scale.abs()

    def back(self, rows: Rows) -> Sequence[Rows | None]:
        return (rows * self.scale,)


class ReLURule(Rule):
    """ReLU, or Leaky ReLU with its slope below 0: the one rule that is not affine."""

    def __init__(self, slope: float = 0.0) -> None:
        self.slope = slope
        # The slope is rounded, then the product.
        self.terms = 2 if slope else 0
        self.compares = not slope

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(self.forward(inputs[0].lower), self.forward(inputs[0].upper))

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.leaky_relu(inputs[0], self.slope) if self.slope else inputs[0].clamp(min=0)

    def weigh(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def chord(self, x: Interval) -> tuple[Tensor, Tensor]:
        """Return slope and height at 0 of the line over the triangle.

        The function is convex: a line above both ends of an interval lies above it everywhere,
        whatever rounding made of its slope. Its height is chosen for the slope as it is.
        """
        lower, upper = x.lower.clamp(max=0), x.upper.clamp(min=0)
        width = upper - lower
        # On one side of the kink the share is 1 or 0 without rounding, and the height is 0.
        slope = upper / torch.where(width > 0, width, 1.0)
        if self.slope:
            slope = torch.where(slope < 1, self.slope + (1 - self.slope) * slope, 1.0)
        return slope, torch.maximum((self.slope - slope) * lower, (1 - slope) * upper)
