"""Checks for chapter 6, Adversarial examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient, pgd
from within_epsilon.data import digits
from within_epsilon.exercises.answers import entries, number, pictures, tensor, tensor_like
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import drawn, variant
from within_epsilon.exercises.watch import Watched, sign_path
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

Attack = Callable[..., Tensor]


@exercise("6.1")
def numeric_gradient(attempt: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str | None:
    """`numeric_gradient(function, x)` differentiates by central differences."""
    generator = torch.Generator().manual_seed(variant(0))
    x = 0.1 + 0.8 * torch.rand(2, 1, 3, 3, generator=generator, dtype=torch.float64)
    weights = 1 + torch.rand(x.shape, generator=generator, dtype=torch.float64)

    def cubic(point: Tensor) -> Tensor:
        if point.requires_grad:
            raise Wrong("it uses autograd, and the task asks for an answer without it")
        return (weights * point**3).sum()

    found = tensor_like(attempt(cubic, x), x, "one slope per entry of x, a tensor")
    complaint = _judge_slopes(found, 3 * weights * x**2, 6 * weights * x)
    if complaint:
        return complaint
    model = digits_classifier().double()
    image, label = (part[9:10] for part in (digits().test.images.double(), digits().test.labels))
    answer = attempt(lambda point: cross_entropy(model(point), label).sum().detach(), image)
    found = tensor_like(answer, image, "one slope per entry of x, a tensor")
    _, gradient = input_gradient(model, image, label)
    worst = float((found - gradient).abs().max() / gradient.abs().max())
    if not worst <= 1e-5:
        return f"on the digits network it differs from autograd by {worst:.1e} of the largest slope"
    return None


def _judge_slopes(found: Tensor, slopes: Tensor, curvatures: Tensor) -> str | None:
    """Say what is wrong with slopes found for a cubic, given what they should be."""
    if not found.isfinite().all():
        return "some slopes are not finite: is the step 0?"
    error = found - slopes
    size = float((error / slopes).abs().max())
    if size < 1e-6:
        return None
    ratio = found / slopes
    if float(ratio.std()) < 1e-3 < abs(float(ratio.mean()) - 1):
        return (
            f"every slope is {float(ratio.mean()):.3g} times too large: "
            "the two points are two steps apart"
        )
    steps = 2 * error / curvatures
    step = float(steps.mean())
    if float((steps - step).abs().max()) < 0.05 * abs(step):
        return (
            f"the errors are step/2 times the curvature, with a step of {abs(step):.1g}: "
            "a one-sided difference; look in both directions"
        )
    return (
        f"slopes are wrong by up to {size:.1e}, 1e-6 is possible: too long a step bends with the "
        "function, too short a one drowns in rounding, sooner in float32; try 1e-5 in float64"
    )


@exercise("6.2")
def linear_gain(attempt: Callable[[Tensor, Tensor, float], Tensor]) -> str | None:
    """`linear_gain(gradient, images, epsilon)` is the most that <g, delta> can reach in the set."""
    generator = torch.Generator().manual_seed(variant(0))
    gradient = torch.randn(5, 1, 4, 4, generator=generator)
    epsilon, grey = 0.1, torch.full_like(gradient, 0.5)
    picture = torch.rand(gradient.shape, generator=generator).mul(1.6).sub(0.3).clamp(0, 1)
    for images, what in [(grey, "mid-grey images"), (picture, "images with black and white")]:
        answer = attempt(gradient, images, epsilon)
        found = tensor(answer, (5,), "for each image its own maximum, a tensor").detach().float()
        rise, drop = (1 - images).clamp(max=epsilon), images.clamp(max=epsilon)
        best = torch.where(gradient > 0, gradient * rise, -gradient * drop).flatten(1).sum(dim=1)
        if torch.allclose(found, best, atol=1e-5):
            continue
        if torch.allclose(found, epsilon * gradient.abs().flatten(1).sum(dim=1), atol=1e-5):
            return "x + δ has to stay in [0, 1]: a black pixel cannot become darker"
        side = "more than δ can reach" if bool((found > best + 1e-5).any()) else "less than it can"
        return f"on {what} the first maximum is {best[0]:.3f}, yours is {found[0]:.3f}, {side}"
    return None


def _outside(images: Tensor, answer: object, epsilon: float) -> Tensor:
    """Return an attack's pictures, or say why they are not what it may return."""
    if isinstance(answer, Tensor) and answer.requires_grad:
        raise Wrong("what it returns still hangs on the graph: detach it")
    return pictures(answer, images, epsilon)


@torch.no_grad()
def _losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(model(images), labels)


@exercise("6.3")
def repaired(attempt: Attack) -> str | None:
    """`repaired(model, images, labels, epsilon, steps)` climbs with a fresh gradient each step."""
    model, epsilon, steps = Watched(digits_classifier()), 0.1, 10
    images, labels = drawn(digits().validation, 100)
    changed = _outside(images, attempt(model, images, labels, epsilon, steps), epsilon)
    if any(theta.grad is not None and theta.grad.any() for theta in model.parameters()):
        return (
            "it left gradients in the model's parameters, and the next training step would use "
            "them: ask autograd.grad for the images' gradient alone"
        )
    if all(place.shape == images.shape for place in model.slopes_at):
        path = [*model.slopes_at, changed]
        # The library's own attacks look from just inside [0, 1].
        if not torch.allclose(path[0], images, rtol=0, atol=1e-6):
            return "its first gradient is not taken at the clean images, where it must start"
        return sign_path(digits_classifier(), path, labels, epsilon, steps)
    # Image by image there is no common path to follow; the result is judged alone.
    reference = pgd(model, images, labels, Ball("linf", epsilon), steps=steps, random_start=False)
    reached, possible = (_losses(model, x, labels).mean().item() for x in (changed, reference))
    if not 0.9 * possible < reached < 1.1 * possible:
        return f"it ends at a mean loss of {reached:.2f}, {steps} such steps at {possible:.2f}"
    return None


@exercise("6.4")
def pgd_targeted(attempt: Attack) -> str | None:
    """`pgd_targeted(model, images, targets, epsilon, steps)` goes down the targets' loss."""
    model, epsilon, steps = Watched(digits_classifier()), 0.15, 20
    images, labels = drawn(digits().validation, 100)
    targets = (labels + 1) % 10
    changed = _outside(images, attempt(model, images, targets, epsilon, steps), epsilon)
    gradients = len(model.slopes_at)
    before, after = (_losses(model, x, targets).mean().item() for x in (images, changed))
    if after >= before:
        return (
            f"the mean loss of the targets rose from {before:.2f} to {after:.2f}: the way to a "
            "class is down its loss"
        )
    ball = Ball("linf", epsilon)
    reference = pgd(model, images, targets, ball, steps=steps, targeted=True)
    with torch.no_grad():
        shares = [
            (model(x).argmax(dim=1) == targets).float().mean().item() for x in (changed, reference)
        ]
    if shares[0] < shares[1] - 0.05:
        why = (
            "it takes one gradient only, and one step seldom arrives: look again after each"
            if gradients == 1
            else "does every step look at the gradient where it stands, and is it long enough?"
        )
        return (
            f"it reaches {shares[0]:.0%} of the targets, the library's pgd {shares[1]:.0%}: {why}"
        )
    return None


class _Hill(nn.Module):
    """Two classes; the loss of the first is highest where every pixel is at its `top`."""

    def __init__(self, top: float | Tensor) -> None:
        super().__init__()
        self.top = nn.Parameter(torch.as_tensor(top))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        rival = -((images - self.top) ** 2).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(rival), rival], dim=1)


def _losses_on_the_way(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return the losses at every point that sign steps of 0.03 visit, (steps + 1, N)."""
    losses, place = [], images
    for _ in range(steps + 1):
        seen, gradient = input_gradient(model, place, labels)
        losses.append(seen)
        delta = (place + 0.03 * gradient.sign() - images).clamp(-0.1, 0.1)
        place = (images + delta).clamp(0, 1)
    return torch.stack(losses)


@exercise("6.5")
def pgd_keep(attempt: Attack) -> str | None:
    """`pgd_keep(model, images, labels, epsilon, steps, step_size)` returns the worst visited."""
    labels = torch.zeros(3, dtype=torch.int64)
    images = torch.tensor([0.5, 0.45, 0.40]).view(3, 1, 1, 1).expand(3, 1, 2, 2).clone()
    cases = [
        # Every image climbs for 3 steps of 0.03 and is highest at the end.
        (0.9, 3, "the last step counts too: score it before you return"),
        # Close to a top a step of 0.03 leads past it: the best point is the first, or on the way.
        (0.502, 1, "the start counts too, and each image by itself: a step may lead past the top"),
        (0.455, 4, "keep the point of the highest loss, each image by itself"),
    ]
    for top, steps, reason in cases:
        model = _Hill(top)
        found = _outside(images, attempt(model, images, labels, 0.1, steps, 0.03), 0.1)
        losses = _losses_on_the_way(model, images, labels, steps)
        if not torch.allclose(_losses(model, found, labels), losses.amax(dim=0), atol=1e-6):
            return reason
    return None


@exercise("6.6")
def one_for_all(attempt: Attack) -> str | None:
    """`one_for_all(model, images, labels, epsilon)` finds one perturbation for all images."""
    model, epsilon = digits_classifier(), 0.25
    train, held_out = digits().train, digits().validation
    answer = attempt(model, train.images, train.labels, epsilon)
    if isinstance(answer, Tensor) and answer.numel() == 64:
        answer = answer.reshape(1, 1, 8, 8)  # (8, 8) is as good
    like = torch.empty(1, 1, 8, 8)
    delta = tensor_like(answer, like, "one perturbation for all images,")
    if not delta.isfinite().all():
        return "some of its entries are no numbers"
    if delta.abs().max() > epsilon + 1e-6:
        return "some pixels of it move by more than ε"
    with torch.no_grad():
        answers = model((held_out.images + delta).clamp(0, 1)).argmax(dim=1)
    fooled = (answers != held_out.labels).float().mean().item()
    if fooled < 0.5:
        return (
            f"on digits it has not seen it fools {fooled:.0%}, and more than half is possible: "
            "take several sign steps up the loss of all images together"
        )
    return None


class _Contrast(nn.Module):
    """Two classes; the second wins where the picture's contrast is above a threshold."""

    def forward(self, images: Tensor) -> Tensor:
        height = images.flatten(1).std(dim=1, correction=0) - 0.08
        return torch.stack([torch.zeros_like(height), height], dim=1)


@exercise("6.7")
def report(attempt: Callable[..., Any]) -> str | None:
    """`report(model, attack, images, labels, ball)` is everything that a claim needs."""
    model, ball, n = _Contrast().eval(), Ball("linf", 0.1), 40
    # Grey, but for the last: it is wrong from the start, and the attack gives it back.
    images, labels = torch.full((n, 1, 8, 8), 0.5), torch.zeros(n, dtype=torch.int64)
    images[-1, :, ::2] = 0.9

    def attack(_model: nn.Module, pixels: Tensor, _labels: Tensor, _ball: Ball) -> Tensor:
        changed = pixels.clone()
        changed[:12, :, ::2] += 0.1  # twelve, with half of the rows 0.1 brighter,
        changed[:12, :, 1::2] -= 0.1  # and the others darker
        changed[12:16, :, ::2] += 0.3  # four outside the ball
        changed[-1] = (pixels[-1] - 0.1 * (pixels[-1] - 0.5).sign()).clamp(0.5, 0.7)
        return changed

    found = attempt(model, attack, images, labels, ball)
    entries(found, ["threat", "n", "clean", "control", "attack", "interval"])
    if str(ball) not in str(found["threat"]):
        return f"its threat model is {found['threat']!r}: norm and ε belong in it, str(ball)"
    wanted = {
        "n": (n, "it counts the images"),
        "clean": (1 / n, "one of 40 is wrong without any attack, as a share from 0 to 1"),
        "control": (1.0, "random signs of size ε, every pixel up or down by all of it, make this "
                    "network wrong on all; smaller noise does not"),
        "attack": (13 / n, "12 fall inside the ball; 4 more were taken *outside* the ball, which "
                   "is no success; and the one that was wrong without an attack stays wrong"),
    }  # fmt: skip
    for key, (right, reason) in wanted.items():
        value = number(found[key], f"for {key} a number")
        if not abs(value - right) < 1e-3:
            return f"{key} is {value:.4g} where {right:.4g} is right: {reason}"
    return _judge_interval(found["interval"], 13, n)


def _judge_interval(found: object, lost: int, n: int) -> str | None:
    """Compare with Wilson's interval."""
    low, high = tensor(found, (2,), "for interval a pair (low, high), a tensor").tolist()
    share, z2 = lost / n, 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 / n * (share * (1 - share) + z2 / (4 * n))) ** 0.5 / (1 + z2 / n)
    if not abs(low - centre + half) + abs(high - centre - half) <= 0.01:
        return (
            f"the interval runs from {low:.3f} to {high:.3f}; Wilson's 95% interval for {lost} of "
            f"{n} runs from {centre - half:.3f} to {centre + half:.3f}"
        )
    return None
