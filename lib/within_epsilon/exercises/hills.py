"""Models of known slopes, on which an answer shows its bugs, for chapters 9 and 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import tensor_like
from within_epsilon.exercises.registry import Wrong
from within_epsilon.exercises.variants import variant
from within_epsilon.threat import Ball

Attack = Callable[..., Tensor]

BALL = Ball("linf", 0.1)


class Slope(nn.Module):
    """Two classes; the second gains `scale` times <w, x - 1/2>, a straight line."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(variant(0))
        self.weights = torch.randn(1, 1, 4, 4, generator=generator)
        self.scale = scale
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return two logits, their difference a straight line."""
        gain = self.scale * (self.weights * (images - 0.5)).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(gain), gain], dim=1)


class Summit(nn.Module):
    """Two classes; the loss of the first is highest where all pixels are at `top`."""

    top = 0.53

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return two logits, their difference highest at the summit."""
        height = 5 - 50 * ((images - self.top) ** 2).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(height), height], dim=1)


class Bowl(nn.Module):
    """Two logits whose loss for label 0 rises with the distance of every pixel from 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return two logits, and note what was asked."""
        self.asked.append(images.detach().clone())
        far = (images - 0.5).square().flatten(1).sum(dim=1)
        return torch.stack((-far, torch.zeros_like(far)), dim=1)


class Tilt(nn.Module):
    """Two classes; the second gains a slope for each pixel, from a threshold on."""

    def __init__(self, slopes: Sequence[float], threshold: float) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes, dtype=torch.float64))
        self.threshold = threshold
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return two logits, the second a straight line."""
        z = (images.flatten(1) - self.threshold) @ self.slopes
        return torch.stack((torch.zeros_like(z), z), dim=1)

    def right(self, images: Tensor, labels: Tensor) -> int:
        """Count the right answers."""
        return int((self(images).argmax(dim=1) == labels).sum())

    def rises(self, images: Tensor, labels: Tensor, norm: int = 1) -> Tensor:
        """Return a norm of the cross-entropy's gradient in each image, by its formula."""
        chances = self(images).detach().softmax(dim=1)[:, 1]
        return torch.mul((chances - labels).abs(), self.slopes.detach().norm(norm))


def run(
    attempt: Attack, model: nn.Module, images: Tensor, labels: Tensor, **options: object
) -> Tensor:
    """Return where an attack takes the images, pictures or not."""
    changed = tensor_like(attempt(model, images, labels, BALL, **options), images, "pictures")
    if not changed.isfinite().all():
        raise Wrong("some of its pixels are no numbers (NaN or infinite)")
    return changed


def reach(attempt: Attack, scale: float, **options: object) -> float:
    """Return how far an attack on a slope goes, as a share of the ball: 1 is its best corner."""
    model = Slope(scale)
    grey = torch.full((4, 1, 4, 4), 0.5)
    labels = torch.full((4,), 1 if options.get("targeted") else 0)
    changed = run(attempt, model, grey, labels, **options)
    return float(((changed - grey) * model.weights.sign()).mean() / BALL.epsilon)


def bugs_in(attempt: Attack) -> list[str]:
    """Name by its effect every planted bug that an attack still has."""
    found = []
    labels, grey = torch.zeros(4, dtype=torch.int64), torch.full((4, 1, 4, 4), 0.5)
    if reach(attempt, 1e-6, steps=10) < 0.9 < reach(attempt, 1e3, steps=10):
        found.append(
            "on flat ground it hardly moves, on steep ground it does: the gradient's length "
            "decides how long a step is"
        )
    leap = run(attempt, Slope(1e3), grey, labels, steps=1, step_size=0.45) - grey
    # Steep enough for raw gradients to get somewhere; gentle enough not to be flat at any start.
    drift = torch.cat(
        [run(attempt, Slope(scale), grey, labels, steps=40) - grey for scale in (1e3, 20.0)]
    )
    if leap.abs().max() > 2.1 * BALL.epsilon:
        found.append("one long step leaves the ball: nothing brings it back")
    elif drift.abs().max() > BALL.epsilon + 1e-5:
        found.append(
            "it leaves the ball little by little: each step is held within ε of the point before "
            "it, not of the clean image"
        )
    ends = (grey.sign() - 0.5).mul(torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)) + 0.5
    changed = run(attempt, Slope(1e3), ends, labels, steps=10)
    if changed.min() < -1e-6 or changed.max() > 1 + 1e-6:
        found.append("black pixels become darker, or white ones brighter: it leaves [0, 1]")
    summit = torch.full((4, 1, 2, 2), 0.5)
    climbed = run(attempt, Summit(), summit, labels, steps=40, step_size=0.01)
    if (climbed - Summit.top).abs().max() > 0.03:
        found.append(
            "it runs past the top of a hill and never turns: its gradient is not that of the "
            "point where it stands"
        )
    if reach(attempt, 20.0, steps=10, targeted=True) < 0:
        found.append("with targeted=True it moves away from the target")
    return found


def wrong_quotient(gain: float, rises: Sequence[Tensor], in_l2: float) -> str:
    """Recognise a wrong quotient of two networks' rises."""
    top, bottom = rises
    slips = {
        (bottom.mean() / top.mean()).item(): "the standard network's mean stands above",
        (top / bottom).mean().item(): "it is a mean of quotients: divide the mean by the mean",
        (top.median() / bottom.median()).item(): "it is one of medians: take the means",
        in_l2: "the norm of the slopes is ℓ2: against ℓ∞ the loss rises by ε ‖∇‖₁",
    }
    return "".join(f": {why}" for value, why in slips.items() if abs(gain / value - 1) < 1e-4)
