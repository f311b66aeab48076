"""What an attack wants, and which way is up: the one place where attacks ask the model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from within_epsilon.checks import (
    check_finite,
    check_labels,
    check_logits,
    check_losses,
    check_no_nan,
    dtype_explained,
)
from within_epsilon.geometry import wider
from within_epsilon.losses import cross_entropy, cross_entropy_slopes

# (logits, labels) -> one loss per example.
Loss = Callable[[Tensor, Tensor], Tensor]
# (step, images_adv, losses or distances), called at every point that an attack visits.
Callback = Callable[[int, Tensor, Tensor], None]

# Since torch 2.14 clamp has no gradient where a pixel is exactly 0 or 1. So gradients are taken
# inside, by float32's rounding or less: not more than a logit has of its own, and enough to
# survive normalisation.
_INSIDE = 2.0**-23


@dataclass(frozen=True)
class Objective:
    """What an attack is to raise, and when it has succeeded.

    ``objective[rows]`` is the objective of some of the examples.

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
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; the gradient in all others is taken for 0.
    """

    labels: Tensor
    loss: Callable[..., Tensor]
    targeted: bool = False
    rivals: Tensor | None = None
    mask: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> "Objective":
        rivals = None if self.rivals is None else self.rivals[rows]
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return Objective(self.labels[rows], self.loss, self.targeted, rivals, mask)

    @property
    def sign(self) -> int:
        """1, or -1 if the loss is to fall."""
        return -1 if self.targeted else 1

    def losses(self, logits: Tensor) -> Tensor:
        """Return the loss of each example, (N,), after checks of the logits."""
        self._check(logits)
        extra = () if self.rivals is None else (self.rivals,)
        losses = self.loss(logits, self.labels, *extra)
        check_losses(losses, len(self.labels))
        return losses

    def values(self, logits: Tensor) -> Tensor:
        """Return what is to rise, (N,): the losses, or minus them."""
        return self.sign * self.losses(logits)

    def achieved(self, logits: Tensor) -> Tensor:
        """Tell which examples the model gets wrong, or takes for their targets, (N,)."""
        self._check(logits)
        hits = logits.argmax(dim=1) == self.labels
        return hits if self.targeted else ~hits

    def slopes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to differentiate, and how to weigh it, for the gradient of the values."""
        if self.loss is cross_entropy:
            # Written out, the commonest loss costs a small network a tenth less.
            self._check(logits)
            slopes = cross_entropy_slopes(logits, self.labels)
            return logits, -slopes if self.targeted else slopes
        values = self.values(logits)
        return values, torch.ones_like(values)

    def _check(self, logits: Tensor) -> None:
        check_logits(logits, len(self.labels))
        if self._highest >= logits.shape[1]:
            check_labels(self.labels, *logits.shape)

    @cached_property
    def _highest(self) -> int:
        # Asked for once: comparing it with the number of classes is then free in every step.
        return int(self.labels.max()) if len(self.labels) else 0


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits free of NaN, (N, k), of the very images, from a forward pass alone."""
    with dtype_explained(model, images):
        logits = check_logits(model(images.clone()), len(images))  # it may write into its input
    check_no_nan(logits)
    return logits


def steepest_ascent(
    model: nn.Module, images: Tensor, objective: Objective, *, beyond: bool = False
) -> tuple[Tensor, Tensor]:
    """Return logits, and the gradient of what is to rise in the pixels just inside [0, 1].

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k). Neither its parameters' gradients
        nor its mode change.
    images : Tensor of shape (N, ...)
        Where to differentiate.
    objective : Objective
        What is to rise.
    beyond : bool
        Leave pixels outside [0, 1], where attacks never are, as they are.

    Returns
    -------
    logits : Tensor of shape (N, k)
        Detached; of pixels that are 0 or 1, as seen from 1e-7 inside.
    uphill : Tensor of shape (N, ...)
        The gradient of each example's value in its own pixels.

    Raises
    ------
    TypeError, ValueError
        If the model returns anything but logits, a label is no class of theirs, the
        loss is not one number per example, or there is no gradient.
    BadExampleError
        If a logit is NaN or a gradient not finite.
    """
    pixels, logits = forward(model, images, beyond=beyond)
    with torch.enable_grad():
        outputs, weights = objective.slopes(logits)
    return logits.detach(), differentiate(outputs, pixels, weights, objective.mask)


def input_gradient(
    model: nn.Module, images: Tensor, labels: Tensor, loss: Loss = cross_entropy
) -> tuple[Tensor, Tensor]:
    """Differentiate the loss in the input.

    Parameters
    ----------
    model, images
        As in `steepest_ascent`.
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.
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
    TypeError, ValueError, BadExampleError
        As `steepest_ascent`.
    """
    objective = Objective(labels, loss)
    logits, gradient = steepest_ascent(model, images, objective, beyond=True)
    return objective.losses(logits), gradient


def forward(model: nn.Module, images: Tensor, *, beyond: bool = False) -> tuple[Tensor, Tensor]:
    """Return pixels just inside [0, 1], and their logits with a graph to differentiate.

    Pixels `beyond` [0, 1], where attacks never are, can be asked for as they are.
    """
    place = torch.finfo(images.dtype).eps
    lowest = min(_INSIDE, place)
    inner = images.detach().clamp(lowest, 1 - max(lowest, place / 2))
    if beyond:
        inner = torch.where((images < 0) | (images > 1), images.detach(), inner)
    with torch.enable_grad(), dtype_explained(model, images):
        pixels = inner.requires_grad_()
        # Under autocast, torch keeps a leaf and its half-precision copy to the end of the block:
        # an attack would hold the pictures of all its steps. A view is not a leaf.
        try:
            logits = model(pixels.view_as(pixels))
        except RuntimeError as error:  # torch's word for a model that writes into its input
            if "in-place" not in str(error):
                raise
            logits = model(pixels.clone())
    return pixels, check_logits(logits, len(images))


def differentiate(
    outputs: Tensor, pixels: Tensor, weights: Tensor, mask: Tensor | None, *, again: bool = False
) -> Tensor:
    """Return the gradient of the weighted outputs in the pixels that a mask leaves, else 0.

    The graph is kept for `again`.
    """
    # One weighted sum has the same gradient, to the bit, as outputs with weights: given those,
    # torch imports a library of symbols first, two seconds of every program's first attack.
    with torch.enable_grad():
        total = torch.dot(outputs.flatten(), weights.flatten())
    gradient = None
    if total.requires_grad:
        # Asking for the input's gradient alone spares those of the parameters.
        (gradient,) = torch.autograd.grad(total, pixels, retain_graph=again, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "model or loss: expected one that depends on the pixels, received one without gradient "
            "in them; look for inference_mode() around the attack, and for detach(), no_grad(), "
            "argmax or NumPy in the model, or use an attack that needs no gradient"
        )
    check_finite(gradient, outputs.detach())
    return gradient if mask is None else gradient * mask


class Strongest:
    """Keeps the strongest candidate of each example.

    One that achieves the objective beats one that does not; among equals the larger value
    wins, and among equal values the first.

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        What is kept until something is offered.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The strongest candidates so far.
    achieved : Tensor of shape (N,), bool
        Whether they achieve the objective.
    values : Tensor of shape (N,)
        What each was offered with; minus infinity until something is.
    """

    def __init__(self, images: Tensor) -> None:
        self.images_adv = images.clone()
        self.achieved = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.values = images.new_full((len(images),), -torch.inf, dtype=wider(images.dtype))

    def offer(self, rows: Tensor, images_adv: Tensor, achieved: Tensor, values: Tensor) -> None:
        """Take one candidate for each of the examples `rows`, where it is stronger."""
        values = values.to(self.values)
        level = achieved == self.achieved[rows]
        better = torch.where(level, values > self.values[rows], achieved).nonzero().squeeze(1)
        rows = rows[better]
        self.images_adv[rows] = images_adv[better]
        self.achieved[rows] = achieved[better]
        self.values[rows] = values[better]
