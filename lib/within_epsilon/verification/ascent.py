"""Adam, uphill: torch's own loads its compiler first, which takes seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8


class Adam:
    """Steps that raise a sum of values.

    Parameters
    ----------
    tensors : sequence of Tensor
        What is changed, in place; leaves that require gradients.
    step_size : float
        Its learning rate.

    References
    ----------
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """

    def __init__(self, tensors: Sequence[Tensor], step_size: float) -> None:
        self.tensors, self.step_size, self.number = list(tensors), step_size, 0
        self.means = [torch.zeros_like(tensor) for tensor in self.tensors]
        self.squares = [torch.zeros_like(tensor) for tensor in self.tensors]

    def step(self, values: Tensor) -> None:
        """Raise values, of which each gradient is taken anew."""
        slopes = torch.autograd.grad(values.sum(), self.tensors, allow_unused=True)
        self.number += 1
        mean_share, square_share = (1 - decay**self.number for decay in (_MEAN, _SQUARE))
        with torch.no_grad():
            for tensor, slope, mean, square in zip(
                self.tensors, slopes, self.means, self.squares, strict=True
            ):
                if slope is None:
                    continue
                mean.lerp_(slope, 1 - _MEAN)
                square.mul_(_SQUARE).addcmul_(slope, slope, value=1 - _SQUARE)
                scale = square.sqrt().div_(square_share**0.5).add_(_TINY)
                tensor.addcdiv_(mean, scale, value=self.step_size / mean_share)
