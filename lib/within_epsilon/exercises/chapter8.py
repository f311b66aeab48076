"""Checks for chapter 8, Linear models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient
from within_epsilon.data import digits
from within_epsilon.exercises.answers import tensor, tensor_like
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.variants import drawn, variant
from within_epsilon.geometry import Norm
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def _dual(rows: Tensor, norm: Norm) -> Tensor:
    """Return the dual norm of each row, by its definition: the rise along the best unit step."""
    return (rows * Ball(norm, 1.0).steepest(rows)).sum(dim=-1)


@exercise("8.1")
def worst_delta(attempt: Callable[[Tensor, Tensor, float], Tensor]) -> str | None:
    """`worst_delta(w, labels, epsilon)` is the worst linf perturbation for each label."""
    generator = torch.Generator().manual_seed(variant(0))
    epsilon = 0.3
    w = torch.randn(64, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    found = tensor(attempt(w, labels, epsilon), (4, 64)).detach().to(w)
    if not found.isfinite().all() or found.abs().max() > epsilon + 1e-6:
        return f"some pixels move by {found.abs().max():.2g}, and only {epsilon} is allowed"
    if (found[labels == 0] == 0).all():
        return "nothing happens to class 0: the formula's y is -1 or +1, the labels are 0 or 1"
    changes = (2 * labels - 1) * (found @ w)
    if changes.max() > 0:
        which = "for every label" if changes.min() > 0 else f"for label {labels[changes.argmax()]}"
        return f"{which} the margin rises, by {changes.max():.2f}: step against it"
    tries = torch.rand(10_000, 64, generator=generator, dtype=torch.float64)
    # Half of them in the corners, where a random perturbation does most.
    tries = epsilon * torch.cat([2 * tries[::2] - 1, (tries[1::2] > 0.5) * 2.0 - 1])
    luckiest = (tries @ w).min()
    if changes.max() > luckiest:
        return (
            f"one of 10,000 random perturbations lowers the margin by {-luckiest:.2f}, yours "
            f"by {-changes.max():.2f}"
        )
    least = -epsilon * _dual(w.unsqueeze(0), "linf")
    if not torch.allclose(changes, least.expand(4), rtol=1e-4):
        return (
            f"it beats 10,000 random ones, with {-changes.max():.2f}, but {-least.item():.2f} is "
            "possible: every pixel may move by all of ε"
        )
    return None


@exercise("8.2")
def dual_norms(attempt: Callable[[Tensor, Norm], Tensor]) -> str | None:
    """`dual_norms(rows, norm)` is the most that <w, delta> reaches in the unit ball, per row."""
    generator = torch.Generator().manual_seed(variant(0))
    rows = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    rows[0] = -rows[0].abs()
    for norm in NORMS:
        best = _dual(rows, norm)
        found = tensor_like(attempt(rows, norm), best, f"for {norm} a tensor")
        if torch.allclose(found, best, rtol=1e-4):
            continue
        if torch.allclose(found, Ball(norm, 1.0).length(rows), rtol=1e-4):
            return (
                f"{norm}: that is the length of w in the *same* norm, and the dual is another one"
            )
        if norm == "l1" and torch.allclose(found, rows.amax(dim=1), rtol=1e-4):
            return "l1: a weight of -3 is worth as much to the adversary as one of 3"
        step = Ball(norm, 1.0).steepest(rows)[1]
        if found[1] < best[1]:
            return (
                f"{norm}: for the second row you say {found[1]:.2f}, and there is a delta of norm "
                f"{Ball(norm, 1.0).length(step.unsqueeze(0)).item():.2f} that reaches {best[1]:.2f}"
            )
        return f"{norm}: for the second row you say {found[1]:.2f}; no delta passes {best[1]:.2f}"
    return None


def _robust(w: Tensor, b: Tensor, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    margins = (2 * labels - 1) * (images @ w + b)
    return torch.nn.functional.softplus(epsilon * w.abs().sum() - margins).mean()


@exercise("8.3")
def mean_robust_loss(
    attempt: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor],
) -> str | None:
    """`mean_robust_loss(w, b, images, labels, epsilon)` has the penalty inside the loss."""
    generator = torch.Generator().manual_seed(variant(0))
    images = torch.rand(30, 8, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1]).repeat(10)
    w = torch.randn(8, generator=generator, dtype=torch.float64).requires_grad_()
    b = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    answer, right = (loss(w, b, images, labels, 0.3) for loss in (attempt, _robust))
    found = tensor(answer, (), "one number, the mean over all images, a tensor").to(right)
    if not torch.isclose(found, right, rtol=1e-4):
        return _robust_mistake(attempt, found, w, b, images, labels)
    if not found.requires_grad:
        return "no gradient leads from it to w: compute it with tensors from beginning to end"
    slopes = [torch.autograd.grad(loss.sum(), (w, b)) for loss in (found, right)]
    if not all(
        torch.allclose(ours, theirs, rtol=1e-4) for ours, theirs in zip(*slopes, strict=True)
    ):
        return "its value is right, its gradient is not: is a part of it detached?"
    far = 1e4 * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    one, nothing = torch.ones(1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for image, label in [(far, torch.tensor([1, 1])), (far.float(), torch.tensor([0, 0]))]:
        answer = attempt(one.to(image), nothing.to(image), image, label, 0.3)
        loss = tensor(answer, (), "one number, a tensor").detach()
        if not torch.isclose(loss.double(), torch.tensor(5000.15, dtype=torch.float64), rtol=1e-4):
            return (
                f"margins of 10,000 and -10,000 have the mean loss 5000.15, yours is "
                f"{loss.item():.6g}: exponentials overflow, softplus does not"
            )
    return None


def _robust_mistake(
    attempt: Callable[..., Tensor],
    found: Tensor,
    w: Tensor,
    b: Tensor,
    images: Tensor,
    labels: Tensor,
) -> str:
    """Recognise the usual wrong values of the robust loss at epsilon = 0.3."""
    clean = _robust(w, b, images, labels, 0.0)
    price = 0.3 * w.abs().sum()
    mistakes = [
        (clean, "that is the ordinary loss: where is ε?"),
        (clean + price, "the price ε‖w‖₁ belongs inside the loss, off every margin, not beside it"),
        (
            _robust(w, b, images, labels, -0.3),
            "the price must lower the margins; yours raises them",
        ),
        (_robust(w, b, images, 1 - labels, 0.3), "label 1 is y = +1, and label 0 is y = -1"),
        (
            torch.nn.functional.softplus(price - labels * (images @ w + b)).mean(),
            "labels are 0 and 1, and a margin wants y = -1 and +1",
        ),
        (
            torch.nn.functional.softplus(
                0.3 * w.norm() - (2 * labels - 1) * (images @ w + b)
            ).mean(),
            "that is the price in the l2 ball; the dual of linf is l1",
        ),
        (
            _robust(w, b, images, labels, 0.3) * len(images),
            "it must be the mean over the images, not the sum",
        ),
    ]
    for value, reason in mistakes:
        if torch.isclose(found.double(), value.double()):
            return reason
    if not torch.isclose(tensor(attempt(w, b, images, labels, 0.0), ()).to(clean), clean):
        return "at ε = 0 it must be the ordinary loss, the mean of log(1 + exp(-margin))"
    right = _robust(w, b, images, labels, 0.3)
    return f"on 30 images the mean is {right.item():.4f}, yours is {found.item():.4f}"


@exercise("8.4")
def certified_radii(
    attempt: Callable[[Tensor, Tensor, Tensor, Tensor, Norm], Tensor],
) -> str | None:
    """`certified_radii(weight, bias, images, labels, norm)` is the distance to the boundary."""
    generator = torch.Generator().manual_seed(variant(1))
    weight = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    # Rivals at different distances, so that the runner-up is often not the nearest.
    weight *= torch.tensor([1.0, 0.2, 3.0, 1.0, 0.5], dtype=torch.float64).unsqueeze(1)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    images = torch.rand(60, 12, generator=generator, dtype=torch.float64)
    logits = images @ weight.T + bias
    labels = logits.argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 5  # wrong already
    for norm in NORMS:
        answer = attempt(weight, bias, images, labels, norm)
        found = tensor(answer, (60,), f"for {norm} a tensor").detach().to(weight)
        if found.isnan().any():
            return f"{norm}: some radii are NaN: c = y is no rival of its own, and gives 0/0"
        if (found[:10] < 0).any():
            return "an image that is wrong already has radius 0, not a negative one"
        slopes = weight[labels].unsqueeze(1) - weight
        gaps = logits.gather(1, labels.unsqueeze(1)) - logits
        radii = gaps / _dual(slopes.flatten(0, 1), norm).view(60, 5)
        radii.scatter_(1, labels.unsqueeze(1), torch.inf)
        right = radii.amin(dim=1).clamp(min=0)
        if torch.allclose(found, right, rtol=1e-4, atol=1e-6):
            continue
        return f"{norm}: " + _radius_mistake(found, right, radii, gaps, slopes, norm)
    return None


def _radius_mistake(
    found: Tensor, right: Tensor, radii: Tensor, gaps: Tensor, slopes: Tensor, norm: Norm
) -> str:
    """Recognise the usual wrong radii."""
    rivals = gaps.masked_fill(radii.isinf(), torch.inf)
    runner_up = rivals.argmin(dim=1, keepdim=True)
    lengths = Ball(norm, 1.0).length(slopes.flatten(0, 1)).view(radii.shape)
    primal = (gaps / lengths).masked_fill(radii.isinf(), torch.inf).amin(dim=1).clamp(min=0)
    if (found == 0).all():
        return (
            "every radius is 0: c = y is no rival of its own, and its gap of 0 is not the smallest"
        )
    if torch.allclose(found, radii.gather(1, runner_up)[:, 0].clamp(min=0)):
        return "the nearest boundary is not always that of the runner-up: try every rival"
    if torch.allclose(found, primal):
        return "the gap is divided by the *dual* norm of w_y - w_c"
    if torch.allclose(found, rivals.amin(dim=1).clamp(min=0)):
        return "that is the gap of the logits; a radius is the gap per unit of ε"
    worst = int((found - right).abs().argmax())
    claimed, real = found[worst].item(), right[worst].item()
    if claimed > real:
        return (
            f"you promise a radius of {claimed:.3f} where {real:.3f} is enough to change the answer"
        )
    return f"you promise {claimed:.3f} where {real:.3f} is certain"


def _with_pixel_range(margins: Tensor, slopes: Tensor, images: Tensor) -> Tensor:
    """Return the radius at which the line crosses zero if pixels stop at 0 and 1."""
    flat = slopes.flatten(1)
    room = torch.where(flat > 0, images.flatten(1), 1 - images.flatten(1))  # downhill
    low, high = torch.zeros(len(images), 1), torch.ones(len(images), 1)
    for _ in range(40):
        middle = (low + high) / 2
        fallen = (flat.abs() * torch.minimum(room, middle)).sum(1) >= margins.clamp(min=0)
        low = torch.where(fallen[:, None], low, middle)
        high = torch.where(fallen[:, None], middle, high)
    return high[:, 0]


def _nearest_of_all(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the radius at which the first of all rivals' lines crosses zero."""
    rivals, own = torch.arange(10).repeat_interleave(len(labels)), labels.repeat(10)

    def gap(logits: Tensor, own: Tensor) -> Tensor:
        return (logits.gather(1, own[:, None]) - logits.gather(1, rivals[:, None]))[:, 0]

    gaps, slopes = input_gradient(model, images.repeat(10, 1, 1, 1), own, loss=gap)
    lengths: Tensor = slopes.flatten(1).norm(p=1, dim=1)
    radii = (gaps / lengths).masked_fill(rivals == own, torch.inf)
    return radii.view(10, -1).amin(dim=0).clamp(min=0)


@exercise("8.5")
def forecast_radii(attempt: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> str | None:
    """`forecast_radii(model, images, labels)` is where the network's own line crosses zero."""
    model = digits_classifier()
    images, labels = drawn(digits().validation, 50)
    labels = labels.clone()
    labels[:3] = (labels[:3] + 1) % 10  # wrong already
    found = tensor(attempt(model, images, labels), (50,)).detach().to(images)
    if any(theta.grad is not None and theta.grad.any() for theta in model.parameters()):
        return "it left gradients in the model: ask autograd.grad for the images' gradient alone"
    if (found[:3] < 0).any():
        return "an image that is wrong already has radius 0, not a negative one"
    margins, slopes = input_gradient(model, images, labels, loss=margin)
    losses, uphill = input_gradient(model, images, labels, loss=cross_entropy)

    def radii(heights: Tensor, gradient: Tensor, order: float = 1) -> Tensor:
        lengths: Tensor = gradient.flatten(1).norm(p=order, dim=1)
        return heights.clamp(min=0) / lengths

    if torch.allclose(found, radii(margins, slopes), rtol=1e-3):
        return None
    mistakes = [
        (radii(margins, uphill), "the slopes must be the margin's, not the loss's"),
        (radii(losses, uphill), "it is the margin that has to reach zero, not the loss"),
        (
            radii(margins, slopes, 2),
            "in the linf ball the price per ε is the ℓ1 norm of the slopes",
        ),
        (radii(margins, slopes, torch.inf), "that divides by one pixel's slope; all may move"),
        (50 * radii(margins, slopes), "differentiate the sum of the margins, not their mean"),
        (
            _with_pixel_range(margins, slopes, images),
            "that stops pixels at black and white, and the task says: without the pixel range",
        ),
        (_nearest_of_all(model, images, labels), "take the margin's line, not each rival's own"),
    ]
    stands = margins > 0
    for value, reason in mistakes:
        if torch.allclose(found[stands], value[stands], rtol=1e-2):
            return reason
    if (found[:3] > 0).any():
        return "an image that is wrong already has radius 0: count from its label, not the answer"
    right = radii(margins, slopes)
    k = int((found - right).abs().argmax())
    return f"for image {k} of those tried the line says {right[k]:.4f}, and you say {found[k]:.4f}"
