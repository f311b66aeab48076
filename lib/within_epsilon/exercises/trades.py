"""What chapter 10's check of TRADES knows: an attack that notes what it raises, and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import describe, plain, tensor
from within_epsilon.exercises.registry import Wrong
from within_epsilon.exercises.variants import variant
from within_epsilon.losses import cross_entropy, kl_divergence
from within_epsilon.threat import Ball


class Noting:
    """An attack that notes what it is given, and goes to the same points whatever it raises."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Callable[..., Any] | None]] = []

    def __call__(
        self,
        model: nn.Module,  # noqa: ARG002 - an attack gets it
        images: Tensor,
        labels: Tensor,  # noqa: ARG002
        ball: Ball,
        *,
        loss: Callable[..., Any] | None = None,
    ) -> Tensor:
        """Return images at a corner of the ball."""
        self.calls.append((images.detach().clone(), loss))
        generator = torch.Generator().manual_seed(variant(0))
        coins = torch.randint(0, 2, images.shape, generator=generator)
        return ball.perturb(images.detach(), ball.epsilon * (2 * coins - 1))


def complaint(
    found: Any,
    attack: Noting,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    beta: float,
) -> str | None:
    """Judge an answer, the mean TRADES loss, and what the attack was asked for; None is praise."""
    if not attack.calls:
        return "it never calls `attack(model, images, labels, ball, loss=…)`"
    if not all(torch.equal(given, images) for given, _ in attack.calls):
        return "it attacks other images than the clean ones"
    with torch.no_grad():
        clean = model(images)
    moved = Noting()(model, images, labels, ball)
    return _wrong_climb(attack.calls[-1][1], clean, labels) or _wrong_loss(
        found, model, images, moved, labels, beta
    )


def _wrong_climb(loss: Callable[..., Any] | None, clean: Tensor, labels: Tensor) -> str | None:
    """Say what is wrong with the loss that an attack has been given, by how it rises."""
    if loss is None:
        return (
            "your attack raises its own loss, the cross-entropy: hand it `loss=`, the divergence "
            "from the prediction on the clean image"
        )
    generator = torch.Generator().manual_seed(variant(0))
    ends = [3 * torch.randn(clean.shape, generator=generator).to(clean) for _ in "ab"]
    values = [plain(loss(logits.clone(), labels.clone())) for logits in ends]
    for value in values:
        if not isinstance(value, Tensor) or value.shape != labels.shape:
            what = tuple(value.shape) if isinstance(value, Tensor) else describe(value)
            return f"the loss of the attack must be one number for each image, (N,), not {what}"
    rise = (values[1] - values[0]).detach().to(clean)

    def climbs(function: Callable[[Tensor], Tensor]) -> bool:
        wanted = function(ends[1]) - function(ends[0])
        scale = (rise @ wanted) / (wanted @ wanted)
        return bool(scale > 0) and torch.allclose(rise, scale * wanted, rtol=1e-3, atol=1e-4)

    if climbs(lambda logits: kl_divergence(clean, logits)):
        return None
    if climbs(lambda logits: cross_entropy(logits, labels)):
        return (
            "your attack raises the cross-entropy with the label: that of TRADES moves the "
            "prediction away from the clean one, whatever the label says"
        )
    if climbs(lambda logits: kl_divergence(logits, clean)):
        return "your attack raises KL(attacked ‖ clean): the clean prediction stands first"
    if climbs(lambda logits: -kl_divergence(clean, logits)):
        return "your attack lowers the divergence: it raises whatever loss it is given"
    return "your attack raises something else than KL(clean ‖ attacked)"


def _wrong_loss(
    found: Any, model: nn.Module, images: Tensor, moved: Tensor, labels: Tensor, beta: float
) -> str | None:
    """Compare a mean TRADES loss and its gradient in the parameters with right and wrong ones."""
    loss, thetas = tensor(found, (), "the mean loss"), list(model.parameters())
    if not loss.requires_grad:
        raise Wrong(
            "no gradient leads from it to the parameters: return the loss itself, with its graph",
            attempted=True,
        )
    try:
        ours = _with_gradient(loss, thetas)
    except RuntimeError:
        return "its graph has been used up: return the loss, and leave `backward()` to the caller"
    clean, far = model(images), model(moved)
    right = (cross_entropy(clean, labels) + beta * kl_divergence(clean, far)).mean()
    if _alike(ours, _with_gradient(right, thetas)):
        return None
    for wrong, reason in _mistakes(clean, far, labels, beta):
        if _alike(ours, _with_gradient(wrong.mean(), thetas)):
            return reason
    return (
        f"for β = {beta:g} the mean loss is {right.item():.4f}, and yours {loss.item():.4f}, or "
        "its gradient in the parameters is another"
    )


def _mistakes(clean: Tensor, far: Tensor, labels: Tensor, beta: float) -> list[tuple[Tensor, str]]:
    """Return wrong losses, (N,), from the logits of clean and attacked images, and what to say."""
    entropy, apart = cross_entropy(clean, labels), kl_divergence(clean, far)
    held, turned = kl_divergence(clean.detach(), far), kl_divergence(far, clean)
    return [
        (entropy + beta * held, "the prediction on the clean image is a constant in your "
         "divergence: so it is for the attack, but training moves it, too, and its gradient "
         "belongs in the step"),
        (entropy.detach() + beta * held, "the prediction on the clean image is a constant "
         "everywhere: for the attack it is one, but training moves it in both terms"),
        (entropy + beta * kl_divergence(clean, far.detach()), "the prediction on the attacked "
         "image is a constant in your divergence: its gradient is what makes the network robust"),
        (entropy + 0 * apart, "its second term is 0, or has no gradient: the model has to see the "
         "images that the attack returned"),
        (entropy + beta * turned, "it has KL(attacked ‖ clean); the clean prediction stands "
         "first (torch's `kl_div` takes the logarithms of the second one first)"),
        (entropy + beta * apart / clean.shape[1], "its divergence is divided by the number of "
         "classes: sum over them, and take the mean over the images alone"),
        (cross_entropy(far, labels) + beta * apart, "its first term is taken at the attacked "
         "images: TRADES takes the cross-entropy of the clean ones"),
        (beta * apart, "the cross-entropy of the clean images is missing"),
        (entropy + apart, "β is missing: it is a factor of the divergence"),
        (beta * entropy + apart, "β is a factor of the divergence, not of the cross-entropy"),
        (entropy - beta * apart, "it falls as the divergence grows: the two terms are added"),
        (len(labels) * (entropy + beta * apart), "it is the sum over the images, not their mean"),
    ]  # fmt: skip


Measured = tuple[Tensor, tuple[Tensor, ...]]


def _with_gradient(loss: Tensor, thetas: Sequence[Tensor]) -> Measured:
    """Return a loss with its gradient in the parameters, 0 where there is none."""
    slopes = torch.autograd.grad(loss, thetas, retain_graph=True, allow_unused=True)
    pairs = zip(slopes, thetas, strict=True)
    return loss.detach(), tuple(torch.zeros_like(t) if s is None else s for s, t in pairs)


def _alike(ours: Measured, others: Measured) -> bool:
    pairs = zip((ours[0], *ours[1]), (others[0], *others[1]), strict=True)
    return all(torch.allclose(a.to(b), b, rtol=1e-4, atol=1e-7) for a, b in pairs)
