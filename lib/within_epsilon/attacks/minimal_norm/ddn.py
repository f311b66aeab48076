"""DDN: a sphere around the clean image that shrinks where the model is fooled, grows where not."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.minimal import Minimal, begin
from within_epsilon.attacks.core.objective import Callback, steepest_ascent
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import divisor, double, norm_of_rows, steepest_rows
from within_epsilon.losses import cross_entropy


@attack("DDN", "minimal norm", norms=("l2",))
def ddn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Literal["l2"] = "l2",
    *,
    steps: int = 100,
    gamma: float = 0.05,
    epsilon: float = 1.0,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images in l2, direction and norm decoupled.

    .. math:: \delta_{t+1} = \mathrm{clip}\Bigl(\epsilon_{t+1}
              \frac{\delta_t + \alpha_t g_t}{\|\delta_t + \alpha_t g_t\|_2}\Bigr), \quad
              \epsilon_{t+1} = (1 \mp \gamma)\, \epsilon_t

    with the normalised gradient g_t of the cross-entropy, and minus where x + delta_t fools the
    model, plus where it does not. The step size alpha_t falls from 1 to 0.01 on a cosine.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"l2"}
        How distance is measured.
    steps : int
        Gradient steps, >= 1.
    gamma : float
        By how much the sphere shrinks or grows in a step, in (0, 1).
    epsilon : float
        Radius of the first sphere, > 0.
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
        The closest adversarial images found and their l2 distances: 0 where the clean image is
        adversarial, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), steps < 1, gamma
        outside (0, 1), or epsilon not positive.

    Notes
    -----
    Deviations from the paper. Pixels are not rounded to 256 levels. The last point is scored
    too. No sphere is wider than the largest change that [0, 1] allows. Where the gradient is
    zero, no step is taken; the authors' code takes a random one.

    The result is as exact as gamma: the sphere that just fools the model is met up to such a
    step. From a radius of 1, a hundred steps reach none below 0.95 ** 100, about 0.006.

    References
    ----------
    Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger, "Decoupling Direction and Norm for
    Efficient Gradient-Based L2 Adversarial Attacks and Defenses", CVPR 2019, Algorithm 1.
    """
    if not 0 < gamma < 1 or epsilon <= 0:
        raise ValueError(
            "gamma, epsilon: expected gamma in (0, 1) and a radius > 0, received "
            f"{gamma} and {epsilon}"
        )
    closest, rows = begin(
        *(model, images, labels, norm, callback), targeted=targeted, mask=mask, loss=cross_entropy
    )
    objective, clean = closest.objective[rows], double(images[rows]).flatten(1)
    widest = norm_of_rows(torch.maximum(clean, 1 - clean), "l2")
    points, radii = images[rows], torch.full_like(widest, epsilon)
    for step in range(steps if len(rows) else 0):
        logits, uphill = steepest_ascent(model, points, objective)
        achieved = objective.achieved(logits)
        closest.visit(step, rows, points, achieved)
        length = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = double(points).flatten(1) - clean
        delta += length * steepest_rows(double(uphill).flatten(1), "l2")
        swing = torch.where(achieved.to(radii.device), 1 - gamma, 1 + gamma)
        radii = torch.minimum(radii * swing, widest)
        lengths = divisor(norm_of_rows(delta, "l2"))
        delta *= (radii / lengths).unsqueeze(1)
        points = (clean + delta).clamp_(0, 1).view_as(points).to(points)
    closest.visit(steps, rows, points, closest.achieved(rows, points))
    return closest.result()
