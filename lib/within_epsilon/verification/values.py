"""What bounds are, as types."""

from typing import NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """Numbers and nothing but numbers between two ends.

    Parameters
    ----------
    lower, upper : Tensor of shape (N, ...), float64
        Whatever the region allows, the network's number is neither below nor above.
    """

    lower: Tensor
    upper: Tensor

    @property
    def size(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def meet(self, lower: Tensor, upper: Tensor) -> "Interval":
        """Return the numbers that lie between other ends, too."""
        return Interval(torch.maximum(self.lower, lower), torch.minimum(self.upper, upper))
