"""FMN: a PGD whose ball breathes until it just reaches the decision boundary."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.linear import dual_norm, movable, nearest_rival
from within_epsilon.attacks.core.minimal import Minimal, begin
from within_epsilon.attacks.core.objective import (
    Callback,
    steepest_ascent,
)
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import Norm, double, per_pixel, steepest_rows
from within_epsilon.region import Region


@attack("FMN", "minimal norm")
def fmn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm = "l2",
    *,
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    rivals: int = 10,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images with the fast minimum-norm attack.

    .. math:: \min_\delta \|\delta\| \quad \text{so that} \quad
              \max_{j \ne y} h(x + \delta)_j > h(x + \delta)_y, \quad x + \delta \in [0, 1]

    Each step climbs the margin loss and returns to a ball around the clean image. The ball
    shrinks by a factor 1 - gamma where the model is fooled, and grows by 1 + gamma where it
    no longer is. Until an example is fooled for the first time, its radius is the distance at
    which the model would be, were it linear: :math:`\|\delta\| + |\ell| / \|\nabla \ell\|_*`.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"linf", "l2", "l1"}
        How distance is measured.
    steps : int
        Gradient steps, >= 1.
    step_size : float
        Euclidean length of the first step, falling to a hundredth on a cosine; for l2, in
        units of the ball's radius.
    gamma : float
        By how much the ball first breathes, in (0, 1), falling to a fiftieth on a cosine.
    rivals : int
        How many of the likeliest other classes the first step chooses among: a gradient each.
    targeted : bool
        Look for images that the model takes for the labels.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    seed, indices
        Without effect: nothing here is random. All attacks take them.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at every point visited: the clean images
        as step 0, then 1 ... steps; with the shortest distances so far.

    Returns
    -------
    Minimal
        The closest adversarial images found and their distances in `norm`: 0 where the clean
        image is adversarial, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), the norm unknown,
        steps or rivals < 1, step_size not positive, or gamma outside (0, 1).

    Notes
    -----
    Deviations from the paper. The first step heads for the class that is nearest if the model
    is taken for linear, as in DeepFool, instead of the second likeliest. Pixels at the edge of
    [0, 1] which the gradient pushes outwards are left out of gradient and estimate, without
    which digits, half of whose pixels are black, often are not fooled at all. Steps in l2 are
    measured by the ball, which is seldom as wide as 1. The first estimates are stretched by
    1 + gamma, lest the attack stop on the boundary itself, and gamma ends at a fiftieth instead
    of zero. As there, the ball is projected onto first and [0, 1] second.

    References
    ----------
    Pintor, Roli, Brendel, Biggio, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
    Constraints", NeurIPS 2021, Algorithm 1.
    """
    if not 0 < gamma < 1:
        raise ValueError(f"gamma: expected a share in (0, 1), received {gamma}")
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    clean, objective = images[rows], closest.objective[rows]
    images_adv, radii = clean, torch.full_like(closest.distances[rows], torch.inf)
    pixels = images[0].numel()
    # The norm of the largest change that [0, 1] allows.
    widest = {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}[norm]
    for step in range(steps if len(rows) else 0):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        if step == 0 and not targeted:
            # Set out for the class that is nearest, which need not be the second likeliest.
            logits, gaps, uphill = nearest_rival(
                model, images_adv, objective.labels, norm, rivals, mask=objective.mask
            )
        else:
            logits, uphill = steepest_ascent(model, images_adv, objective)
            gaps, uphill = objective.losses(logits), movable(uphill, images_adv)
        achieved, found = objective.achieved(logits), closest.found[rows]
        closest.visit(step, rows, images_adv, achieved)
        estimate = closest.measure(rows, images_adv) + gaps.abs() / dual_norm(uphill, norm)
        swing = gamma * (0.02 + 0.98 * share)
        shrunk = torch.minimum(radii * (1 - swing), closest.distances[rows])
        grown = torch.where(found, radii, estimate) * (1 + swing)
        radii = torch.where(achieved, shrunk, grown).clamp(max=widest)
        length = step_size * (0.01 + 0.99 * share)
        # A step of length 1 would wipe out all that was found in a much smaller l2 ball.
        lengths = length * radii if norm == "l2" else torch.full_like(radii, length)
        direction = steepest_rows(double(uphill).flatten(1), "l2").view_as(uphill)
        stride = direction * per_pixel(double(lengths), direction)
        delta = double(images_adv) - double(clean) + stride
        images_adv = Region(clean, norm, radii, objective.mask).perturb(delta)
    closest.visit(steps, rows, images_adv, closest.achieved(rows, images_adv))
    return closest.result()
