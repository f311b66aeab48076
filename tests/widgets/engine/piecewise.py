"""Torch on one linear piece of a network.

ReLU and max-pooling make a network piecewise linear, and its gradient jumps from piece to piece.
Where a number is within rounding of such a jump, two correct programs may land on either side. So
a gradient is compared on the piece that it was computed on, and that piece must be torch's own but
for numbers within rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from within_epsilon.losses import cross_entropy
from within_epsilon.models import Classifier


class Piece:
    """A network with the signs and winners given.

    Attributes
    ----------
    gap : float
        The farthest that a number was from the jump that torch places it beyond, as a
        share of the greatest number there.
    """

    def __init__(self, model: Classifier, layers: list[dict[str, Any]], pieces: list[Tensor]):
        self.model, self.layers = model, layers
        self.state = model.body.state_dict()
        self.pieces: Iterator[Tensor] = iter(pieces)
        self.gap = 0.0

    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits of one image."""
        normalised = (images - self.model.mean) / self.model.std
        return self._run(self.layers, normalised).flatten(1)

    def _run(self, layers: list[dict[str, Any]], x: Tensor) -> Tensor:
        for layer in layers:
            x = getattr(self, "_" + layer["kind"])(layer, x)
        return x

    def _conv(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        weight, bias = (self.state[f"{layer['name']}.{part}"] for part in ("weight", "bias"))
        return F.conv2d(x, weight, bias, layer["stride"], layer["padding"])

    def _linear(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        weight, bias = (self.state[f"{layer['name']}.{part}"] for part in ("weight", "bias"))
        return F.linear(x.flatten(1), weight, bias)

    def _relu(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        on = next(self.pieces).view_as(x).bool()
        self._widen(x.abs()[on != (x > 0)], x)
        return x * on

    def _max_pool(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        best = F.max_pool2d(x, layer["kernel"], layer["stride"], ceil_mode=layer["ceil"])
        chosen = x.flatten()[next(self.pieces).long()].view_as(best)
        self._widen(best - chosen, x)
        return chosen

    def _mean(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    def _concat(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        return torch.cat([self._run(branch, x) for branch in layer["branches"]], dim=1)

    def _widen(self, gaps: Tensor, x: Tensor) -> None:
        if gaps.numel():
            self.gap = max(self.gap, (gaps.max() / x.abs().max()).item())


def torch_gradient(piece: Piece, image: Tensor, label: int) -> Tensor:
    """Differentiate the loss of one image in its pixels, on one piece."""
    images = image[None].clone().requires_grad_()
    cross_entropy(piece.logits(images), torch.tensor([label])).sum().backward()
    assert images.grad is not None
    return images.grad[0]
