"""What chapter 11's checks attack: networks whose answers are known, and three that vote."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.defences import Saturated
from within_epsilon.models import mlp
from within_epsilon.training import fit


class Probe(nn.Module):
    """Three classes: the second is `gain` above the first, the third below both, per image."""

    def __init__(
        self, gain: Callable[[Tensor], Tensor], while_training: float | None = None
    ) -> None:
        super().__init__()
        self.gain, self.while_training = gain, while_training
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (N, 3)."""
        middle = images.flatten(1) - 0.5
        gain = self.gain(middle)
        if self.training and self.while_training is not None:
            gain = self.while_training + 1e-3 * middle.sum(dim=1)
        return torch.stack([torch.zeros_like(gain), gain, gain.clamp(max=0) - 1], dim=1)


def valleys(middle: Tensor) -> Tensor:
    """Rise on either side of the middle; only one side is high enough."""
    side = middle[:, 0]
    return torch.where(side > 0, 10 * side, -2 * side) - 0.5


def cliff(middle: Tensor) -> Tensor:
    """Answer class 0, but class 1 far off; the loss of class 1 rises towards the cliff."""
    side = middle[:, 0]
    return torch.where(side < -0.02, 5.0, -0.5 + side)


@cache
def voters(seed: int) -> list[nn.Module]:
    """Train the three networks of exercise 11.7; the first is loud."""
    members: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for temperature in (0.01, 1.0, 1.0):
            network = mlp(64, 50, 10)
            fit(
                network, digits().train, epochs=5, batch_size=32, step_size=0.1, momentum=0.9,
                progress=False,
            )  # fmt: skip
            members.append(Saturated(network, temperature).eval())
    return members
