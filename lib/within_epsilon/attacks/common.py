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
    check_model,
    check_no_nan,
    warn_if_training,
)
from within_epsilon.losses import cross_entropy, cross_entropy_slopes, margin

# (logits, labels) -> one loss per example.
Loss = Callable[[Tensor, Tensor], Tensor]


def check_call(model: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Check what every attack is given; return the images detached."""
    check_model(model)
    check_images(images)
    check_labels(labels, len(images))
    if loss is margin:
        raise ValueError(
            "loss: expected a loss for the attack to raise, received margin, which falls "
            "as the attack succeeds; use losses.margin_loss"
        )
    warn_if_training(model, stacklevel=4)
    return images.detach()


def check_counts(**counts: int) -> None:
    """Require at least 1 of each, such as ``steps=steps``."""
    for name, number in counts.items():
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, received {number}")


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
    _, losses, gradient = differentiate(model, images, Aim(labels, loss))
    return losses, gradient


class Aim:
    """What an attack wants of each example's logits.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The classes to leave, or to reach if `targeted`.
    loss : callable
        (logits, labels) -> (N,), to be raised, or lowered if `targeted`.
    targeted : bool
        Whether the labels are targets.
    rivals : Tensor of shape (N,), int64, optional
        A third argument for the loss.
    """

    def __init__(
        self,
        labels: Tensor,
        loss: Callable[..., Tensor],
        *,
        targeted: bool = False,
        rivals: Tensor | None = None,
    ) -> None:
        self.labels, self.loss, self.targeted, self.rivals = labels, loss, targeted, rivals
        # Asked for once: comparing it with the number of classes is then free in every step.
        self._highest = int(labels.max()) if len(labels) else 0
        self._one_hot: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "Aim":
        """Return the aim of some of the examples, chosen by number or by a mask."""
        rivals = None if self.rivals is None else self.rivals[rows]
        return Aim(self.labels[rows], self.loss, targeted=self.targeted, rivals=rivals)

    def slopes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to differentiate, and how to weigh it, for the losses' gradient."""
        if self.loss is not cross_entropy:
            losses = self.losses(logits)
            return losses, torch.ones_like(losses)
        # Written out, the commonest loss costs a small network a tenth less.
        self._check(logits)
        if self._one_hot is None:
            wide = torch.promote_types(logits.dtype, torch.float32)
            blank = torch.zeros_like(logits, dtype=wide, requires_grad=False)
            self._one_hot = blank.scatter_(1, self.labels.unsqueeze(1), 1)
        return logits, cross_entropy_slopes(logits, self._one_hot)

    def losses(self, logits: Tensor) -> Tensor:
        """Return the loss of each example, (N,), after checks of the logits."""
        self._check(logits)
        extra = () if self.rivals is None else (self.rivals,)
        losses = self.loss(logits, self.labels, *extra)
        check_losses(losses, len(self.labels))
        return losses

    def _check(self, logits: Tensor) -> None:
        check_logits(logits, len(self.labels))
        if self._highest >= logits.shape[1]:
            check_labels(self.labels, *logits.shape)

    def gains(self, losses: Tensor) -> Tensor:
        """Return the losses with the sign that makes more of them better, (N,)."""
        return -losses if self.targeted else losses

    def reached(self, logits: Tensor) -> Tensor:
        """Tell which examples the model gets wrong, or takes for their targets, (N,)."""
        hits = logits.argmax(dim=1) == self.labels
        return hits if self.targeted else ~hits


def differentiate(model: nn.Module, images: Tensor, aim: Aim) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, losses and the losses' gradient in the input, all detached.

    Raises
    ------
    TypeError, ValueError
        As `input_gradient`.
    """
    logits, gradient = follow(model, images, aim)
    return logits, aim.losses(logits), gradient


def follow(model: nn.Module, images: Tensor, aim: Aim) -> tuple[Tensor, Tensor]:
    """Return logits and the losses' gradient; see `differentiate`."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = model(images)
        outputs, weights = aim.slopes(logits)
        gradient = None
        if outputs.requires_grad:
            # Asking for the input's gradient alone spares those of the parameters.
            (gradient,) = torch.autograd.grad(outputs, images, weights, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "loss: expected one that depends on the pixels, received one without gradient in "
            "them; look for inference_mode() around the attack, and for detach(), no_grad(), "
            "argmax or NumPy in the model, or use an attack that needs no gradient"
        )
    check_finite_gradient(gradient)
    return logits.detach(), gradient


@torch.no_grad()
def classify(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits free of NaN, (N, K), from a forward pass alone."""
    logits = check_logits(model(images), len(images))
    check_no_nan(logits)
    return logits


@torch.no_grad()
def score(model: nn.Module, images: Tensor, aim: Aim) -> tuple[Tensor, Tensor]:
    """Return losses and whether the aim is reached, (N,) each, from a forward pass alone."""
    logits = classify(model, images)
    return aim.losses(logits), aim.reached(logits)


def stuck(images: Tensor, uphill: Tensor) -> Tensor:
    """Tell which pixels cannot move uphill, being 0 or 1 already, (N, ...)."""
    return torch.where(uphill < 0, images, 1 - images) <= 0


def per_pixel(values: Tensor, images: Tensor) -> Tensor:
    """View one value per example, (N,), so that it applies to each of its pixels."""
    return values.view(-1, *[1] * (images.ndim - 1))


class Worst:
    """Keeps the worst candidate of each example.

    One that reaches the attack's aim beats one that does not; among equals the larger
    gain wins, and among equal gains the first.

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        What is kept until something is offered.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The worst candidates so far.
    reached : Tensor of shape (N,), bool
        Whether they reach the aim.
    """

    def __init__(self, images: Tensor) -> None:
        self.images_adv = images.clone()
        self.reached = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        # Wide enough that no two gains are told apart or confused by rounding them here.
        wide = torch.promote_types(images.dtype, torch.float32)
        self._gains = images.new_full((len(images),), -torch.inf, dtype=wide)

    def offer(self, rows: Tensor, images_adv: Tensor, reached: Tensor, gains: Tensor) -> None:
        """Take one candidate for each of the examples `rows`, where it is worse."""
        gains = gains.to(self._gains)
        level = reached == self.reached[rows]
        better = torch.where(level, gains > self._gains[rows], reached)
        rows = rows[better]
        self.images_adv[rows] = images_adv[better]
        self.reached[rows] = reached[better]
        self._gains[rows] = gains[better]
