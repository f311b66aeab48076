"""σ-zero: change as few values as possible, by descending a smooth count of them."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.minimal import Minimal, begin
from within_epsilon.attacks.core.objective import (
    Callback,
    steepest_ascent,
)
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import per_pixel, wider

_FIRST_THRESHOLD = 0.3  # tau_0
_THRESHOLD_RATE = 0.01  # t: by how much the threshold moves, in units of the step size
_DECAYS = 0.9, 0.999  # of Adam's running means of gradient and squared gradient


@attack("σ-zero", "minimal norm", norms=("l0",))
def sigma_zero(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Literal["l0"] = "l0",
    *,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 1e-3,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for adversarial images that differ from the clean ones in as few values as possible.

    .. math:: \min_\delta\ \max\bigl(h(x + \delta)_y - \max_{j \ne y} h(x + \delta)_j,\ 0\bigr)
              + \frac1d \sum_i \frac{\delta_i^2}{\delta_i^2 + \sigma}, \quad
              x + \delta \in [0, 1]

    The sum is a smooth count of the values changed, d being how many there are. After every
    step, changes smaller than a threshold are undone; it rises where the model is fooled, so
    that fewer remain, and falls where it is not.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"l0"}
        How distance is measured: by how many values change.
    steps : int
        Gradient steps, >= 1.
    step_size : float
        Of the first step, > 0; it falls to a tenth on a cosine.
    sigma : float
        How sharply a change counts, > 0: one of its square root counts half.
    targeted : bool
        Look for images that the model takes for the labels.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    seed, indices
        Without effect: nothing here is random. All attacks take them.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at every point visited: the clean images
        as step 0, then 1 ... steps; with the smallest counts so far.

    Returns
    -------
    Minimal
        The sparsest adversarial images found; as distances, how many values each changes, a
        pixel of three channels counting for up to three. 0 where the clean image is
        adversarial, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), steps < 1, or
        step_size or sigma not positive.

    Notes
    -----
    As in the paper, the gradient is divided by its largest entry; as in the authors' code, it is
    Adam that makes a step of it. Deviations: the last point is scored too; in targeted form,
    which the paper leaves out, the first term is the target's margin; the term that counts is
    differentiated by hand.

    References
    ----------
    Cinà, Villani, Pintor, Schönherr, Biggio, Pelillo, "σ-zero: Gradient-based Optimization of
    ℓ0-norm Adversarial Examples", ICLR 2025, Algorithm 1. Adam: Kingma, Ba, ICLR 2015.
    """
    if not sigma > 0:
        raise ValueError(f"sigma: expected a number > 0, received {sigma}")
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    objective, clean, points = closest.objective[rows], images[rows], images[rows]
    wide = wider(images.dtype)
    means = tuple(torch.zeros_like(clean, dtype=wide) for _ in _DECAYS)
    threshold = torch.full_like(closest.distances[rows], _FIRST_THRESHOLD)
    for step in range(steps if len(rows) else 0):
        logits, uphill = steepest_ascent(model, points, objective)
        achieved = objective.achieved(logits)
        closest.visit(step, rows, points, achieved)
        change = points.to(wide) - clean.to(wide)
        uphill = uphill.to(wide).masked_fill(per_pixel(achieved, clean), 0)
        downhill = 2 * sigma * change / (change.square() + sigma).square() / clean[0].numel()
        length = step_size * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        change = change - length * _adam(means, _unit(downhill - uphill), step)
        change = (clean + change).clamp_(0, 1) - clean
        rate = _THRESHOLD_RATE * length
        threshold = (threshold + torch.where(achieved, rate, -rate)).clamp_(0, 1)
        change = change.masked_fill_(change.abs() < per_pixel(threshold, change), 0)
        points = torch.where(change == 0, clean, (clean + change).clamp_(0, 1).to(clean))
    closest.visit(steps, rows, points, closest.achieved(rows, points))
    return closest.result()


def _unit(gradient: Tensor) -> Tensor:
    """Divide each example's gradient by its largest entry; zeros stay zeros."""
    peaks = gradient.abs().flatten(1).amax(dim=1).clamp_(min=1e-12)
    return gradient / per_pixel(peaks, gradient)


def _adam(means: tuple[Tensor, ...], gradient: Tensor, step: int) -> Tensor:
    """Return Adam's direction, of a size near 1; the running means are changed in place."""
    first, second = (
        mean.lerp_(value, 1 - decay) / (1 - decay ** (step + 1))
        for mean, value, decay in zip(means, (gradient, gradient.square()), _DECAYS, strict=True)
    )
    return first / second.sqrt().add_(1e-8)
