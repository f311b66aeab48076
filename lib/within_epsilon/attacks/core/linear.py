"""The model taken for linear: how far away the borders of its classes would be."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import (
    Objective,
    differentiate,
    forward,
    steepest_ascent,
)
from within_epsilon.geometry import Norm, divisor, double, norm_of_rows, per_pixel, wider


def nearest_rival(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    rivals: int,
    *,
    mask: Tensor | None = None,
    inside: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Find the class whose border with the label's would be nearest, were the model linear.

    .. math:: \arg\min_{j \ne y} \frac{h(x)_y - h(x)_j}
              {\|\nabla h(x)_j - \nabla h(x)_y\|_*}

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Where to linearise.
    labels : Tensor of shape (N,), int64
        The classes to leave.
    norm : {"linf", "l2", "l1"}
        How distance is measured.
    rivals : int
        How many classes to consider, those of the largest logits: a gradient each.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change.
    inside : bool
        Leave out of the gradients what points out of [0, 1].

    Returns
    -------
    logits : Tensor of shape (N, k)
        The model's outputs, detached.
    gaps : Tensor of shape (N,)
        By how much the rival's logit exceeds the label's: negative, unless the model is fooled.
    uphill : Tensor of shape (N, ...)
        The gap's gradient.
    """
    logits, _, borders = _linearise(model, images, labels, norm, rivals, mask, inside)
    chosen, uphill, nearest = next(borders)
    for gap, slope, distances in borders:
        closer = distances < nearest
        nearest = torch.where(closer, distances, nearest)
        chosen = torch.where(closer, gap, chosen)
        uphill = torch.where(per_pixel(closer, images), slope, uphill)
    return logits, chosen, uphill


def nearest_border(
    model: nn.Module, images: Tensor, objective: Objective, norm: Norm, rivals: int
) -> tuple[Tensor, Tensor]:
    """Return how far past the nearest border images are, (N,), and the gradient of that, (N, ...).

    In logits, so below 0 on the near side. It is the border with the target's class if
    `objective` is targeted, else as in `nearest_rival`, whatever points out of [0, 1].
    """
    if objective.targeted:
        logits, uphill = steepest_ascent(model, images, objective)
        return objective.values(logits), uphill
    _, gaps, uphill = nearest_rival(
        model, images, objective.labels, norm, rivals, mask=objective.mask, inside=False
    )
    return gaps, uphill


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
        Classes; R is `rivals`, or k - 1 if there are no more.
    """
    _, ranking, borders = _linearise(model, images, labels, norm, rivals, None, inside=True)
    distances = torch.stack([distance for _, _, distance in borders], dim=1)
    return ranking.gather(1, distances.argsort(dim=1, stable=True))


def likeliest_others(logits: Tensor, labels: Tensor) -> Tensor:
    """Order the classes by their logits, the largest first and the label last, (N, k)."""
    # An impossible class, minus infinity, comes before the label all the same.
    possible = logits.clamp(min=torch.finfo(logits.dtype).min)
    return possible.scatter(1, labels.unsqueeze(1), -torch.inf).argsort(dim=1, descending=True)


def rival_gap(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return by how much the rivals' logits exceed the labels', (N,)."""
    pairs = logits.gather(1, torch.stack([rivals, labels], dim=1))
    # Minus infinity minus itself would be NaN.
    return pairs[:, 0] - pairs[:, 1].clamp(min=torch.finfo(logits.dtype).min)


def _linearise(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    rivals: int,
    mask: Tensor | None,
    inside: bool,
) -> tuple[Tensor, Tensor, Iterator[tuple[Tensor, Tensor, Tensor]]]:
    """Return logits, the likeliest other classes, (N, R), and what the model is like at each.

    That is, one class after the other: by how much its logit exceeds the label's, (N,), the
    gradient of this gap, (N, ...), and the distance at which it would vanish, (N,).
    """
    with eagerly():
        pixels, logits = forward(model, images)
    number = min(rivals, logits.shape[1] - 1)
    ranking = likeliest_others(logits.detach(), labels)[:, :number]
    with torch.enable_grad():
        gaps = (logits.gather(1, ranking) - logits.gather(1, labels.unsqueeze(1))).unbind(dim=1)

    def borders() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rank, gap in enumerate(gaps):
            slope = differentiate(gap, pixels, torch.ones_like(gap), mask, again=rank + 1 < number)
            slope = movable(slope, images) if inside else slope
            yield gap.detach(), slope, gap.detach().abs() / dual_norm(slope, norm)

    return logits.detach(), ranking, borders()


def eagerly() -> AbstractContextManager[object]:
    """Run compiled models uncompiled: they free what a second gradient needs."""
    # Known since torch 2.6; before, compiled models keep what they have. Importing the compiler
    # for a model that it never saw would take seconds.
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    return stance("force_eager")  # type: ignore[no-any-return]


def movable(gradient: Tensor, images_adv: Tensor) -> Tensor:
    """Set to zero what points out of [0, 1] at a pixel that is at its edge already.

    What remains is the steepest direction of those that can be taken. Half of a digit's
    pixels are black: without this, an attack measures its steps by pixels that do not move.
    """
    room = torch.where(gradient < 0, images_adv, 1 - images_adv)
    return gradient.masked_fill(room <= 0, 0.0)


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
    return divisor(slopes.to(gradient.device, wider(gradient.dtype)))
