"""The model taken for linear: how far away the borders of its classes would be."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from within_epsilon.attacks.common import per_pixel, stuck
from within_epsilon.checks import check_finite_gradient, check_logits
from within_epsilon.geometry import Norm, double, norm_of_rows


def nearest_rival(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    rivals: int,
    *,
    inside: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Find the class whose border with the label's would be nearest, were the model linear.

    .. math:: \arg\min_{j \ne y} \frac{h(x)_y - h(x)_j}
              {\|\nabla h(x)_j - \nabla h(x)_y\|_*}

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Where to linearise.
    labels : Tensor of shape (N,), int64
        The classes to leave.
    norm : {"linf", "l2", "l1"}
        How distance is measured.
    rivals : int
        How many classes to consider, those of the largest logits: a gradient each.
    inside : bool
        Leave out of the gradients what points out of [0, 1].

    Returns
    -------
    logits : Tensor of shape (N, K)
        The model's outputs, detached.
    gaps : Tensor of shape (N,)
        By how much the rival's logit exceeds the label's: negative, unless the model is fooled.
    uphill : Tensor of shape (N, ...)
        The gap's gradient.
    """
    logits, _, borders = _linearise(model, images, labels, norm, rivals, inside=inside)
    chosen, uphill, nearest = next(borders)
    for gap, slope, distances in borders:
        closer = distances < nearest
        nearest = torch.where(closer, distances, nearest)
        chosen = torch.where(closer, gap, chosen)
        uphill = torch.where(per_pixel(closer, images), slope, uphill)
    return logits, chosen, uphill


def nearest_first(
    model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, rivals: int
) -> Tensor:
    """Order the likeliest other classes by how far their borders would be, were the model linear.

    Parameters
    ----------
    model, images, labels, norm, rivals
        As in `nearest_rival`, which finds the first of them.

    Returns
    -------
    Tensor of shape (N, R), int64
        Classes; R is `rivals`, or K - 1 if there are no more.
    """
    _, ranking, borders = _linearise(model, images, labels, norm, rivals, inside=True)
    distances = torch.stack([distance for _, _, distance in borders], dim=1)
    return ranking.gather(1, distances.argsort(dim=1, stable=True))


def _linearise(
    model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, rivals: int, *, inside: bool
) -> tuple[Tensor, Tensor, Iterator[tuple[Tensor, Tensor, Tensor]]]:
    """Return logits, the likeliest other classes, (N, R), and what the model is like at each.

    That is, one class after the other: by how much its logit exceeds the label's, (N,), the
    gradient of this gap, (N, ...), and the distance at which it would vanish, (N,).
    """
    images = images.detach()
    with torch.enable_grad():
        pixels = images.clone().requires_grad_()
        logits = check_logits(model(pixels), len(images))
        others = logits.detach().scatter(1, labels.unsqueeze(1), -torch.inf)
        ranking = others.argsort(dim=1, descending=True)[:, : min(rivals, logits.shape[1] - 1)]
        gaps = (logits.gather(1, ranking) - logits.gather(1, labels.unsqueeze(1))).unbind(dim=1)

    def borders() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rank, gap in enumerate(gaps):
            slope = _slope(gap, pixels, more=rank + 1 < len(gaps))
            slope = free(slope, images) if inside else slope
            yield gap.detach(), slope, gap.detach().abs() / dual_norm(slope, norm)

    return logits.detach(), ranking, borders()


def _slope(values: Tensor, images: Tensor, *, more: bool) -> Tensor:
    """Differentiate one value per example in its pixels; keep the graph if more are to come."""
    gradient = None
    if values.requires_grad:
        ones = torch.ones_like(values)
        (gradient,) = torch.autograd.grad(
            values, images, ones, retain_graph=more, allow_unused=True
        )
    if gradient is None:
        raise ValueError(
            "model: expected logits that depend on the pixels, received some without gradient in "
            "them; look for inference_mode() around the attack, and for detach(), no_grad(), "
            "argmax or NumPy in the model, or use an attack that needs no gradient"
        )
    check_finite_gradient(gradient)
    return gradient


def free(gradient: Tensor, images_adv: Tensor) -> Tensor:
    """Set to zero what points out of [0, 1] at a pixel that is at its edge already.

    What remains is the steepest direction of those that can be taken. Half of a digit's
    pixels are black: without this, an attack measures its steps by pixels that do not move.
    """
    return gradient.masked_fill(stuck(images_adv, gradient), 0.0)


def dual_norm(gradient: Tensor, norm: Norm) -> Tensor:
    """Return by how much a linear function rises on a way of length 1, (N,), above 0.

    Parameters
    ----------
    gradient : Tensor of shape (N, ...)
        Its gradients.
    norm : {"linf", "l2", "l1"}
        How ways are measured.
    """
    dual: Norm = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]  # type: ignore[assignment]
    slopes = norm_of_rows(double(gradient).flatten(1), dual)
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    return slopes.to(gradient.device, dtype).clamp_(min=torch.finfo(dtype).tiny)
