"""Checks for chapter 1, Fool a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm
from within_epsilon.data import digits
from within_epsilon.exercises.answers import number, pictures, tensor, truth
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.variants import drawn, variant
from within_epsilon.exercises.watch import Watched, one_gradient
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball


@exercise("1.1")
def inside(attempt: Callable[[Tensor, Tensor, float], object]) -> str | None:
    """`inside(clean, changed, epsilon)` tells batches within epsilon from all others."""
    clean = torch.full((2, 3, 4, 4), 0.5)
    clean[..., 0] = 0.99
    dark = torch.full_like(clean, 0.01)

    def moved(by: float) -> Tensor:
        """Move one pixel of the second picture."""
        changed = clean.clone()
        changed[1, 0, 0, 1] += by
        return changed

    cases = [
        (clean, clean, True, "an unchanged picture is within every ε"),
        (clean, (clean + 0.1).clamp(0, 1), True,
         "a change of exactly ε is allowed; mind the rounding"),
        (clean, moved(-0.11), False,
         "one pixel of one picture moved *down* by more than ε, and that is too far"),
        (clean, moved(0.18), False, "a single pixel of a single picture moved too far"),
        (clean, moved(0.1 + 1e-4), False,
         "1e-6 are allowed for rounding, and 1e-4 are more than that"),
        (clean, clean + 0.05, False, "a pixel of 1.04 is no pixel"),
        (dark, dark - 0.05, False, "a pixel of -0.04 is no pixel"),
        (clean, moved(float("nan")), False, "a pixel that is NaN is no pixel, and no comparison "
         "with it is ever true"),
    ]  # fmt: skip
    for before, after, expected, reason in cases:
        if truth(attempt(before, after, 0.1)) is not expected:
            return reason
    return None


@exercise("1.2")
def logits_of_file(
    attempt: Callable[[Tensor, nn.Module, Tensor, Tensor], Tensor],
) -> str | None:
    """`logits_of_file(levels, body, mean, std)` takes a photo's bytes to logits, (1, k)."""
    generator = torch.Generator().manual_seed(variant(0))
    levels = torch.randint(0, 256, (6, 4, 3), generator=generator, dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.4])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant(1))
        body = nn.Sequential(nn.Flatten(), nn.Linear(72, 5)).eval()

    def logits(photo: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        normalised = (photo - shift.view(-1, 1, 1)) / scale.view(-1, 1, 1)
        with torch.no_grad():
            result: Tensor = body(normalised.unsqueeze(0))
        return result

    photo = levels.permute(2, 0, 1) / 255
    right = logits(photo, mean, std)
    found = tensor(attempt(levels, body, mean, std), (1, 5), "logits").detach().to(right)
    none, one = torch.zeros(3), torch.ones(3)
    mistakes = [
        (logits(255 * photo, mean, std), "the body has seen pixels from 0 to 255: divide by 255"),
        (logits(photo, none, one), "the body has seen pixels that nobody normalised"),
        (logits(photo, mean, 1 / std), "it multiplied by σ: normalising divides"),
        (logits(photo, none, std), "the mean was never taken off"),
        (logits(photo, mean, one), "nothing was divided by σ"),
        (logits(levels.reshape(3, 6, 4) / 255, mean, std),
         "`view` and `reshape` do not move axes, they only cut the numbers anew: `permute` them"),
        (logits(levels.permute(2, 0, 1).flip(0) / 255, mean, std), "red and blue changed places"),
        (logits(255 * photo, 255 * mean, std), "mean and σ belong to pixels from 0 to 1"),
    ]  # fmt: skip
    if torch.allclose(found, right, atol=1e-4):
        return None
    for value, reason in mistakes:
        if torch.allclose(found, value, rtol=1e-4, atol=1e-4):
            return reason
    worst = (found - right).abs().max().item()
    return (
        f"its logits are off by up to {worst:.2g}: first pixels in [0, 1], then axes (1, C, H, W), "
        "then each channel minus its mean, divided by its σ"
    )


@exercise("1.3")
def coin_noise(attempt: Callable[[Tensor, float, int], Tensor]) -> str | None:
    """`coin_noise(images, epsilon, seed)` tosses a coin for every pixel of every image."""
    images, labels = drawn(digits().validation, 200)
    epsilon = 0.1
    noisy = pictures(attempt(images, epsilon, 0), images, epsilon)
    # Clipping may hide one side of the coin: near white that is up, elsewhere down.
    up = torch.where(images > 0.5, noisy >= images, noisy > images)
    asked = torch.where(up, images + epsilon, images - epsilon).clamp(0, 1)
    if not torch.allclose(noisy, asked, atol=1e-5):
        return "every pixel must move by exactly ε, but for those that clipping holds back"
    share = up.float().mean().item()
    unfair = f"a fair coin moves half of the pixels up, yours moves {share:.0%}"
    if not 0.3 < share < 0.7:
        return unfair
    if complaint := _shared_coins(up):
        return complaint
    if not 0.45 < share < 0.55:
        return unfair
    if not torch.equal(pictures(attempt(images, epsilon, 0), images), noisy):
        return "the same seed must give the same noise: use a generator of your own"
    if torch.equal(pictures(attempt(images, epsilon, 1), images), noisy):
        return "another seed must give other noise"
    with torch.no_grad():
        fooled = (digits_classifier()(noisy).argmax(1) != labels).float().mean().item()
    return None if fooled < 0.2 else f"your noise fools a network on {fooled:.0%}: it is no coin"


def _shared_coins(up: Tensor) -> str | None:
    """Say whether neighbours, in one image or one place, have tossed the same coin."""
    neighbours = [
        (up[..., 1:, :] == up[..., :-1, :], "all pixels of a column"),
        (up[..., 1:] == up[..., :-1], "all pixels of a row"),
        (up[1:] == up[:-1], "all images"),
    ]
    alike = [agree.float().mean().item() for agree, _ in neighbours]
    if min(alike[:2]) > 0.6:
        return "all pixels of an image share one coin, which only makes it brighter or darker"
    for share, (_, who) in zip(alike, neighbours, strict=True):
        if abs(share - 0.5) > 0.1:
            return f"{who} share their coins: every pixel of every image needs one of its own"
    return None


@exercise("1.4")
def fgsm_targeted(
    attempt: Callable[[nn.Module, Tensor, Tensor, float], Tensor],
) -> str | None:
    """`fgsm_targeted(model, images, targets, epsilon)` steps down the loss of the targets."""
    model, epsilon = Watched(digits_classifier()), 0.1
    images, labels = drawn(digits().validation, 100)
    targets = (labels + 1) % 10
    changed = pictures(attempt(model, images, targets, epsilon), images, epsilon)
    before, after = (_loss(model, x, targets) for x in (images, changed))
    if after >= before:
        return (
            f"the loss of the target rose from {before:.2f} to {after:.2f}: "
            "towards a class means down its loss"
        )
    if complaint := one_gradient(model, images):
        return complaint
    asked = fgsm(model, images, targets, Ball("linf", epsilon), targeted=True)
    reachable = _loss(model, asked, targets)
    # A slope that rounding makes positive here and negative there may be anybody's.
    if ((changed - asked).abs() > 1e-4).float().mean() > 0.01:
        return (
            f"the loss of the target came to {after:.2f}, one full sign step reaches "
            f"{reachable:.2f}: is it the *target's* gradient, and its sign, times ε, for every "
            "pixel?"
        )
    return None


@torch.no_grad()
def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return nn.functional.cross_entropy(model(images), labels).item()


class _Brightness(nn.Module):
    """Class 1 where the mean is above one half, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        brightness = images.flatten(1).mean(dim=1)
        return torch.stack([0.5 - brightness, brightness - 0.5], dim=1)


@exercise("1.5")
def is_adversarial(
    attempt: Callable[[nn.Module, Tensor, Tensor, Tensor, float], object],
) -> str | None:
    """`is_adversarial(model, clean, changed, label, epsilon)` is the definition, all of it."""
    model = _Brightness().eval()

    def grey(value: float) -> Tensor:
        return torch.full((1, 1, 2, 2), value)

    speck = grey(0.47)
    speck[..., 0, 0] += 0.3
    bright = grey(0.32)
    bright[..., 0, 0] = 1.0
    fooled = "a change that is small enough and fools the network not adversarial"
    cases = [
        (grey(0.45), grey(0.52), 0, True, fooled),
        (grey(0.45), grey(0.48), 0, False, "a picture that the network gets right adversarial"),
        (grey(0.45), grey(0.6), 0, False, "a change that is larger than ε adversarial"),
        (grey(0.55), grey(0.4), 1, False, "a change *down* by more than ε adversarial"),
        (grey(0.47), speck, 0, False, "it adversarial where one pixel moved by more than ε"),
        (bright, bright + 0.05, 0, False, "it adversarial with a pixel of 1.05, which is no pixel"),
        (grey(0.55), grey(0.55), 0, False,
         "an unchanged picture adversarial, which the network gets wrong anyway"),
        (grey(0.55), grey(0.58), 0, False,
         "a picture adversarial which was wrong before anybody changed it"),
        (grey(0.52), grey(0.45), 1, True, fooled),
    ]  # fmt: skip
    for clean, changed, label, expected, what in cases:
        answer = attempt(model, clean, changed, torch.tensor([label]), 0.1)
        if truth(answer) is not expected:
            return f"it calls {what}"
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


@exercise("1.6")
def smallest_epsilon(attempt: Callable[[nn.Module, Tensor, Tensor], float]) -> str | None:
    """`smallest_epsilon(model, image, label)` finds where the answer first changes."""
    image, label = torch.full((1, 1, 4, 4), 0.5), torch.tensor([0])
    cases = [
        (3.3, 40.0, "on a model that gives way at ε = {:.2f}/255 you found {:.2f}/255"),
        (1.5, 2.5, "on a model that is fooled only between {:.2f} and 2.50/255 you found {:.2f}/255"
         ": search from below, bisection can miss it"),
        (12.4, 40.0, "on a model that gives way at ε = {:.2f}/255 you found {:.2f}/255"),
        (0.26, 40.0, "on a model that gives way at ε = {:.2f}/255 you found {:.2f}/255"),
    ]  # fmt: skip
    for low, high, complaint in cases:
        # From mid-grey the loss rises towards the interval, so FGSM makes everything brighter.
        model = Watched(_Threshold(0.5 + low / 255, 0.5 + high / 255))
        found = number(attempt(model, image, label))
        if one_gradient(model, image):
            return (
                "FGSM takes one gradient, at the clean image; yours takes more of them on the way"
            )
        if not abs(found * 255 - low) <= 0.021:
            if abs(found - low) < 0.03:
                return "it must return ε in pixel units: divide by 255"
            return complaint.format(low, found * 255)
    return None
