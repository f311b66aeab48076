"""Checks for chapter 6, Adversarial examples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient, pgd
from within_epsilon.data import digits
from within_epsilon.exercises.registry import exercise
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

Attack = Callable[..., Tensor]


@exercise("6.1")
def numeric_gradient(attempt: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str | None:
    """`numeric_gradient(function, x)` differentiates by central differences."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 + 0.8 * torch.rand(2, 1, 3, 3, generator=generator, dtype=torch.float64)
    before = x.clone()
    weights = 1 + torch.rand(x.shape, generator=generator, dtype=torch.float64)
    found = attempt(lambda point: (weights * point**3).sum(), x)
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return f"it must return a tensor of shape {tuple(x.shape)}, one slope per entry of x"
    if not torch.equal(x, before):
        return "x came back changed: put every entry back, or work on a copy"
    complaint = _judge_slopes(found, 3 * weights * x**2, 6 * weights * x)
    if complaint:
        return complaint
    model = digits_classifier().double()
    image, label = (part[9:10] for part in (digits().test.images.double(), digits().test.labels))
    found = attempt(lambda point: cross_entropy(model(point), label).sum().detach(), image)
    _, gradient = input_gradient(model, image, label)
    worst = float((found.detach() - gradient).abs().max() / gradient.abs().max())
    if worst > 1e-5:
        return f"on the digits network it differs from autograd by {worst:.1e} of the largest slope"
    return None


def _judge_slopes(found: Tensor, slopes: Tensor, curvatures: Tensor) -> str | None:
    """Say what is wrong with slopes found for a cubic, given what they should be."""
    found = found.detach().double()
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
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(5, 1, 4, 4, generator=generator)
    epsilon, grey = 0.1, torch.full_like(gradient, 0.5)
    picture = torch.rand(gradient.shape, generator=generator).mul(1.6).sub(0.3).clamp(0, 1)
    for images, what in [(grey, "mid-grey images"), (picture, "images with black and white")]:
        found = attempt(gradient, images, epsilon)
        if not isinstance(found, Tensor) or found.shape != (5,):
            return "it must return a tensor of shape (N,): each image has its own maximum"
        rise, drop = (1 - images).clamp(max=epsilon), images.clamp(max=epsilon)
        best = torch.where(gradient > 0, gradient * rise, -gradient * drop).flatten(1).sum(dim=1)
        if torch.allclose(found, best, atol=1e-5):
            continue
        if torch.allclose(found, epsilon * gradient.abs().flatten(1).sum(dim=1), atol=1e-5):
            return "x + δ has to stay in [0, 1]: a black pixel cannot become darker"
        side = "more than δ can reach" if bool((found > best + 1e-5).any()) else "less than it can"
        return f"on {what} the first maximum is {best[0]:.3f}, yours is {found[0]:.3f}, {side}"
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


def _outside(images: Tensor, changed: object, epsilon: float) -> str | None:
    """Say why `changed` is not what an attack may return, if it is not."""
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        return f"it must return a tensor of shape {tuple(images.shape)}, like its images"
    if changed.requires_grad:
        return "what it returns still hangs on the graph: detach it"
    if changed.min() < 0 or changed.max() > 1:
        return "some pixels left [0, 1]"
    if (changed - images).abs().max() > epsilon + 1e-6:
        return "some pixels moved by more than ε"
    return None


@torch.no_grad()
def _losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(model(images), labels)


@exercise("6.3")
def repaired(attempt: Attack) -> str | None:
    """`repaired(model, images, labels, epsilon, steps)` climbs with a fresh gradient each step."""
    model, epsilon, steps = digits_classifier(), 0.1, 10
    split = digits().validation
    images, labels = split.images[:100].clone(), split.labels[:100]
    before = images.clone()
    changed = attempt(model, images, labels, epsilon, steps)
    complaint = _outside(before, changed, epsilon)
    if complaint:
        return complaint
    if images.requires_grad or not torch.equal(images, before):
        return "it changed the images it was given; work on a copy"
    # Hilltops inside the ball: who still adds up old gradients runs past some of them.
    tops, flat = torch.linspace(0.45, 0.56, 9).view(1, 1, 3, 3), torch.full((2, 1, 3, 3), 0.5)
    hill = _Hill(tops)
    climbed = attempt(hill, flat, torch.zeros(2, dtype=torch.int64), epsilon, steps)
    if any(theta.grad is not None for net in (model, hill) for theta in net.parameters()):
        return (
            "it left gradients in the model's parameters, and the next training step would use "
            "them: ask autograd.grad for the images' gradient alone"
        )
    past = (climbed - tops) * (tops - flat).sign()
    if past.max() > 2.5 * epsilon / steps + 1e-6:
        return "it ran past the top of a hill: are old gradients still in .grad? They add up"
    reference = pgd(model, before, labels, Ball("linf", epsilon), steps=steps, random_start=False)
    reached, possible = (_losses(model, x, labels).mean().item() for x in (changed, reference))
    if reached < 0.9 * possible:
        return (
            f"it reaches a mean loss of {reached:.2f}, ten sign steps of 2.5 ε / steps reach "
            f"{possible:.2f}: does every step look at the gradient where it stands?"
        )
    return None


def _losses_on_the_way(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return the losses at every point that sign steps of 0.03 visit, (steps + 1, N)."""
    losses: list[Tensor] = []

    def record(_step: int, _images_adv: Tensor, seen: Tensor) -> None:
        losses.append(seen)

    pgd(
        model,
        images,
        labels,
        Ball("linf", 0.1),
        steps=steps,
        step_size=0.03,
        random_start=False,
        callback=record,
    )
    return torch.stack(losses)


@exercise("6.4")
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
        found = attempt(model, images, labels, 0.1, steps, 0.03)
        complaint = _outside(images, found, 0.1)
        if complaint:
            return complaint
        losses = _losses_on_the_way(model, images, labels, steps)
        if not torch.allclose(_losses(model, found, labels), losses.amax(dim=0), atol=1e-6):
            return reason
    return None


@exercise("6.5")
def one_for_all(attempt: Attack) -> str | None:
    """`one_for_all(model, images, labels, epsilon)` finds one perturbation for all images."""
    model, epsilon = digits_classifier(), 0.25
    train, held_out = digits().train, digits().validation
    delta = attempt(model, train.images, train.labels, epsilon)
    if not isinstance(delta, Tensor) or delta.numel() != 64:
        shape = tuple(delta.shape) if isinstance(delta, Tensor) else type(delta).__name__
        return f"it must return one perturbation of shape (1, 1, 8, 8) for all images, got {shape}"
    delta = delta.detach().reshape(1, 1, 8, 8)
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
