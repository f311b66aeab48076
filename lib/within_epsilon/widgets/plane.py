"""A plane through a real image, and what a network does on it, recorded on a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient
from within_epsilon.losses import cross_entropy, margin_loss

LOSSES = ("cross-entropy", "margin loss", "cross-entropy × 1000")


class Plane(nn.Module):
    """A model seen on a plane through an image: two "pixels", 0.5 each at the image itself.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits.
    image : Tensor of shape (1, C, H, W)
        The middle of the plane.
    across, up : Tensor of shape (1, C, H, W)
        Its directions.
    """

    def __init__(self, model: nn.Module, image: Tensor, across: Tensor, up: Tensor) -> None:
        super().__init__()
        self.model, self.image = model, image
        self.directions = (across, up)
        self.training = model.training  # train() would set the model's parts too

    def forward(self, points: Tensor) -> Tensor:
        """Return the logits at points (N, 2) in [0, 1]; pixels are clipped to [0, 1]."""
        shares = (points - 0.5).unbind(dim=1)
        moves = sum(
            share.view(-1, 1, 1, 1) * direction
            for share, direction in zip(shares, self.directions, strict=True)
        )
        logits: Tensor = self.model((self.image + moves).clamp(0, 1))
        return logits


def spanning(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Split the pixels by whether two perturbations have the same sign there.

    Parameters
    ----------
    first, second : Tensor of shape (1, C, H, W)
        Perturbations. Where one leaves a pixel alone, the other's sign counts for both.

    Returns
    -------
    across, up : Tensor of shape (1, C, H, W) in {-1, 0, 1}
        across + up has the first's signs, across - up the second's.

    Raises
    ------
    ValueError
        If one of the two is zero everywhere.
    """
    one, two = first.sign(), second.sign()
    one, two = torch.where(one == 0, two, one), torch.where(two == 0, one, two)
    across, up = (one + two) / 2, (one - two) / 2
    if not across.any() or not up.any():
        raise ValueError(
            "first, second: expected perturbations whose signs agree on some pixels and differ "
            "on others, which span a plane; give what two different runs found"
        )
    return across, up


def codes(signs: Tensor) -> str:
    """Write pairs of signs (N, 2) as one digit each: (first + 1) + 3 (second + 1)."""
    return "".join(map(str, ((signs.long() + 1) @ torch.tensor([1, 3]).to(signs.device)).tolist()))


def record(plane: Plane, label: Tensor, epsilon: float, size: int = 33) -> dict[str, Any]:
    """Record losses, their gradients' signs and answers on a grid over the square.

    Parameters
    ----------
    plane : Plane
    label : Tensor of shape (1,), the true class
    epsilon : half the square's side
    size : points along a side, odd, so that the image is one of them

    Returns
    -------
    size, answers, surfaces : as in the state; rows go from -epsilon upwards, and signs, across
        and up, are written by `codes`
    """
    line = 0.5 + torch.linspace(-epsilon, epsilon, size)
    up, across = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([across.flatten(), up.flatten()], dim=1).to(plane.image)
    labels = label.to(points.device).expand(len(points))
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        LOSSES[0]: cross_entropy,
        LOSSES[1]: margin_loss,
        LOSSES[2]: lambda logits, labels: cross_entropy(1000 * logits, labels),
    }
    surfaces = {}
    for name, loss in losses.items():
        values, gradient = input_gradient(plane, points, labels, loss)
        surfaces[name] = {
            # Four digits are more than a drawing shows.
            "values": [float(f"{value:.4g}") for value in values.tolist()],
            "signs": codes(gradient.sign()),
        }
    with torch.no_grad():
        answers = plane(points).argmax(dim=1).tolist()
    return {"size": size, "answers": answers, "surfaces": surfaces}
