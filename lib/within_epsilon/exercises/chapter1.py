"""Checks for chapter 1, Fool a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm
from within_epsilon.data import digits
from within_epsilon.exercises.registry import exercise
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball


@exercise("1.1")
def inside(attempt: Callable[[Tensor, Tensor, float], object]) -> str | None:
    """`inside(clean, changed, epsilon)` tells pictures within epsilon from all others."""
    clean = torch.full((1, 3, 4, 4), 0.5)
    clean[..., 0] = 0.99
    at_the_edge = (clean + 0.1).clamp(0, 1)
    one_pixel = clean.clone()
    one_pixel[0, 0, 0, 1] -= 0.11
    too_bright = clean + 0.05
    too_dark = torch.full_like(clean, 0.01)
    cases = [
        (clean, clean, True, "an unchanged picture is within every ε"),
        (clean, at_the_edge, True, "a change of exactly ε is allowed; mind the rounding"),
        (clean, one_pixel, False, "one pixel moved *down* by more than ε, and that is too far"),
        (clean, too_bright, False, "a pixel of 1.04 is no pixel"),
        (too_dark, too_dark - 0.05, False, "a pixel of -0.04 is no pixel"),
    ]
    for before, after, expected, reason in cases:
        if bool(attempt(before, after, 0.1)) is not expected:
            return reason
    return None


@exercise("1.2")
def coin_noise(attempt: Callable[[Tensor, float, int], Tensor]) -> str | None:
    """`coin_noise(images, epsilon, seed)` is as large as an attack and fools hardly anybody."""
    split = digits().validation
    images, epsilon = split.images[:200], 0.1
    before = images.clone()
    noisy = attempt(images, epsilon, 0)
    if not isinstance(noisy, Tensor) or noisy.shape != images.shape:
        return f"it must return a tensor of shape {tuple(images.shape)}, like its images"
    if not torch.equal(images, before):
        return "it changed the images it was given; make new ones"
    if noisy.min() < 0 or noisy.max() > 1:
        return "some pixels left [0, 1]"
    inner = (images > epsilon) & (images < 1 - epsilon)
    moves = (noisy - images)[inner]
    if not torch.allclose(moves.abs(), torch.full_like(moves, epsilon), atol=1e-5):
        return "every pixel must move by exactly ε, but for those that clipping holds back"
    share = (moves > 0).float().mean().item()
    if not 0.45 < share < 0.55:
        return f"a fair coin moves half of the pixels up, yours moves {share:.0%}"
    if not torch.equal(attempt(images, epsilon, 0), noisy):
        return "the same seed must give the same noise: use a generator of your own"
    if torch.equal(attempt(images, epsilon, 1), noisy):
        return "another seed must give other noise"
    model = digits_classifier()
    with torch.no_grad():
        fooled = (model(noisy).argmax(1) != split.labels[:200]).float().mean().item()
    return None if fooled < 0.2 else f"your noise fools a network on {fooled:.0%}: it is no coin"


@exercise("1.3")
def fgsm_targeted(
    attempt: Callable[[nn.Module, Tensor, Tensor, float], Tensor],
) -> str | None:
    """`fgsm_targeted(model, images, targets, epsilon)` steps down the loss of the targets."""
    split, model, epsilon = digits().validation, digits_classifier(), 0.1
    images = split.images[:100]
    targets = (split.labels[:100] + 1) % 10
    changed = attempt(model, images, targets, epsilon)
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        return f"it must return a tensor of shape {tuple(images.shape)}, like its images"
    if changed.min() < 0 or changed.max() > 1:
        return "some pixels left [0, 1]"
    if (changed - images).abs().max() > epsilon + 1e-6:
        return "some pixels moved by more than ε"
    with torch.no_grad():
        before = nn.functional.cross_entropy(model(images), targets)
        after = nn.functional.cross_entropy(model(changed.detach()), targets)
    if after >= before:
        return (
            f"the loss of the target rose from {before:.2f} to {after:.2f}: "
            "towards a class means down its loss"
        )
    best = fgsm(model, images, targets, Ball("linf", epsilon), targeted=True)
    with torch.no_grad():
        reachable = nn.functional.cross_entropy(model(best), targets)
    if after > reachable + 0.05:
        return (
            f"the loss of the target fell to {after:.2f}, one full step reaches {reachable:.2f}: "
            "is it the *target's* gradient, and its sign, for every pixel?"
        )
    return None


class _Threshold(nn.Module):
    """Two classes; the second wins where the mean brightness lies in a given interval."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, images: Tensor) -> Tensor:
        brightness = images.flatten(1).mean(dim=1)
        inside = (brightness - self.low) * (self.high - brightness)
        return torch.stack([torch.zeros_like(inside), 1e4 * inside], dim=1)


@exercise("1.4")
def smallest_epsilon(attempt: Callable[[nn.Module, Tensor, Tensor], float]) -> str | None:
    """`smallest_epsilon(model, image, label)` finds where the answer first changes."""
    image, label = torch.full((1, 1, 4, 4), 0.5), torch.tensor([0])
    cases = [
        (3.3, 40.0, "on a model that gives way at ε = {:.2f}/255 you found {:.2f}/255"),
        (1.5, 2.5, "on a model that is fooled only between {:.2f} and 2.50/255 you found {:.2f}/255"
         ": search from below, bisection can miss it"),
        (0.26, 40.0, "on a model that gives way at ε = {:.2f}/255 you found {:.2f}/255"),
    ]  # fmt: skip
    for low, high, complaint in cases:
        # From mid-grey the loss rises towards the interval, so FGSM makes everything brighter.
        model = _Threshold(0.5 + low / 255, 0.5 + high / 255)
        found = attempt(model, image, label)
        try:
            distance = abs(float(found) * 255 - low)
        except (TypeError, ValueError):
            return f"it must return a number, got {type(found).__name__}"
        if distance > 0.021:
            if abs(float(found) - low) < 0.03:
                return "it must return ε in pixel units: divide by 255"
            return complaint.format(low, float(found) * 255)
    return None
