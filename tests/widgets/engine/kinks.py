"""Images on which a network has one gradient in float32.

Rounding decides on which side of a ReLU's or a pooling's kink a number falls that is next to it.
Among the two million of SqueezeNet on a photo some always are, and then correct programs, or one
in two precisions, return different gradients. What is near is known from torch's float64 alone.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from piecewise import Piece, torch_gradient
from torch import Tensor

from within_epsilon.models import Classifier

ROUNDING = 1e-6  # of a layer's greatest number; float32 is off by half of that at worst
NUDGE = 1e-3  # a quarter of a grey level


class Crossed(Piece):
    """A network in float64, with every kink within rounding on one side, or all on the other.

    Numbers of a window that are equal because what they see is equal, as in a flat image, are
    equal in any precision. The first of them wins on both sides, as torch and the engine have it.

    Attributes
    ----------
    nearness : Tensor
        How far from their kinks the numbers next to one would have to move, all together.
    """

    def __init__(self, model: Classifier, layers: list[dict[str, Any]], side: int):
        super().__init__(copy.deepcopy(model).double(), layers, [])
        self.side = side
        self.nearness = torch.zeros((), dtype=torch.float64)

    def _conv(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        made = super()._conv(layer, x)
        return made + ((made * 2**30).round() / 2**30 - made).detach()  # equal, not just nearly

    def _relu(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        reach = ROUNDING * x.detach().abs().max()
        constant = (x.abs() < reach).flatten(2).all(dim=2)  # of a filter without weights
        self._approach(x.abs()[~constant], reach)
        return x * (x > self.side * reach)

    def _max_pool(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        size, stride = layer["kernel"], layer["stride"]
        best = F.max_pool2d(x, size, stride, ceil_mode=layer["ceil"])
        height, width = ((n - 1) * stride + size for n in best.shape[2:])
        padded = F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), value=-torch.inf)
        windows = padded.unfold(2, size, stride).unfold(3, size, stride).flatten(4)
        second = windows.masked_fill(windows >= best[..., None], -torch.inf).max(dim=-1).values
        reach = ROUNDING * x.detach().abs().max()
        self._approach((best - second)[best > 0], reach)
        close = (best > 0) & (best - second < reach)
        return best if self.side > 0 else torch.where(close, second, best)

    def _approach(self, gaps: Tensor, reach: Tensor) -> None:
        near = gaps[(gaps > 0) & (gaps < reach)] / reach
        self.nearness = self.nearness + (1.5 - near).sum()


def off_kinks(model: Classifier, layers: list[dict[str, Any]], image: Tensor, label: int) -> Tensor:
    """Return the image, moved by at most `NUDGE` to where no kink within rounding matters.

    There, the gradient is the same within 1e-6 on either side of all such kinks.
    """
    low, high = (image.double() - NUDGE).clamp(min=0), (image.double() + NUDGE).clamp(max=1)
    for _ in range(10):
        x = image.double()
        one, other = (torch_gradient(Crossed(model, layers, side), x, label) for side in (1, -1))
        if (one - other).abs().max() < 1e-6:
            return image
        for _ in range(4):
            x = image.double()[None].requires_grad_()
            here = Crossed(model, layers, 1)
            here.logits(x)
            (slope,) = torch.autograd.grad(here.nearness, x)
            # As far along the slope as would free all numbers if they moved alike, and again.
            step = 2 * here.nearness.detach() / slope.square().sum().clamp(min=1e-9)
            image = torch.clamp(image - step * slope[0], low, high).float()
    raise AssertionError("no image off the kinks was found near this one")
