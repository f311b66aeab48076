"""What attacks share: their checks, the gradient in the input, the worst of several."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.checks import (
    check_finite_gradient,
    check_images,
    check_labels,
    check_logits,
    check_losses,
    check_no_nan,
    warn_if_training,
)
from within_epsilon.losses import cross_entropy, margin

# (logits, labels) -> one loss per example.
Loss = Callable[[Tensor, Tensor], Tensor]


def check_call(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Check what every attack is given; return the images detached."""
    check_images(images)
    check_labels(labels, len(images))
    if loss is margin:
        raise ValueError(
            "loss: expected a loss for the attack to raise, received margin, which falls "
            "as the attack succeeds; use losses.margin_loss"
        )
    warn_if_training(model, stacklevel=4)
    return images.detach()


def input_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, loss: Loss = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Differentiate the loss in the input.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K). Neither its parameters'
        gradients nor its mode change.
    images : Tensor of shape (N, ...)
        Where to differentiate.
    labels : Tensor of shape (N,), int64
        Classes from 0 to K - 1.
    loss : callable
        (logits, labels) -> (N,).

    Returns
    -------
    losses : Tensor of shape (N,)
        The loss of each example, detached.
    gradient : Tensor of shape (N, ...)
        The gradient of each example's loss in its own pixels.

    Raises
    ------
    TypeError, ValueError
        If the model returns anything but logits, a label is no class of theirs, the
        loss is not one number per example, or the gradient is not finite.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = check_logits(model(images), len(images))
        check_labels(labels, *logits.shape)
        losses = loss(logits, labels)
        check_losses(losses, len(images))
        gradient = None
        if losses.requires_grad:
            # Asking for the input's gradient alone spares those of the parameters.
            (gradient,) = torch.autograd.grad(
                losses, images, torch.ones_like(losses), allow_unused=True
            )
    if gradient is None:
        raise ValueError(
            "loss: expected one that depends on the pixels, received one without gradient in "
            "them; look for detach(), no_grad(), argmax or NumPy in the model, or use an attack "
            "that needs no gradient"
        )
    check_finite_gradient(gradient)
    return losses.detach(), gradient


class Worst:
    """Keeps the worst candidate of each example.

    One that fools the model beats one that does not; among equals the larger loss wins.
    If `targeted`, fooling means reaching the label and the smaller loss wins.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The worst candidates so far; empty before the first offer.
    """

    def __init__(self, targeted: bool) -> None:
        self.targeted = targeted
        self.images_adv = self._fooled = self._gains = torch.empty(0)

    @torch.no_grad()
    def offer(self, model: nn.Module, images_adv: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """Score one candidate per example and keep those that are worse.

        Returns
        -------
        Tensor of shape (N,)
            The candidates' losses.
        """
        logits = check_logits(model(images_adv), len(images_adv))
        check_no_nan(logits)
        losses = loss(logits, labels)
        check_losses(losses, len(images_adv))
        hits = logits.argmax(dim=1) == labels
        fooled, gains = (hits, -losses) if self.targeted else (~hits, losses)
        if not len(self.images_adv):
            self.images_adv, self._fooled, self._gains = images_adv, fooled, gains
            return losses
        better = torch.where(fooled == self._fooled, gains > self._gains, fooled)
        per_pixel = better.view(-1, *[1] * (images_adv.ndim - 1))
        self.images_adv = torch.where(per_pixel, images_adv, self.images_adv)
        self._fooled = torch.where(better, fooled, self._fooled)
        self._gains = torch.where(better, gains, self._gains)
        return losses
