"""HopSkipJump: along the decision boundary, knowing the decisions alone."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.minimal import Closest, Minimal, begin
from within_epsilon.attacks.core.objective import Callback
from within_epsilon.attacks.core.registry import attack
from within_epsilon.checks import check_images, check_indices, check_shape
from within_epsilon.draws import draw_uniform
from within_epsilon.geometry import per_pixel, steepest_rows
from within_epsilon.runtime import example_generators

# Images of noise tried as a start, halvings of the way back, halvings of a leap.
_TRIES, _HALVINGS, _LEAPS = 100, 12, 10
# How far the samples lie from the boundary, in units of the distance from the clean image.
_PROBE = 0.01
# Samples that are drawn together, and pixels shown to the model together at most.
_BLOCK, _PIXELS = 8, 2**22


@attack("HopSkipJump", "black box", norms=("l2",))
def hop_skip_jump(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Literal["l2"] = "l2",
    *,
    steps: int = 25,
    samples: int = 100,
    starts: Tensor | None = None,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images (l2), asking for nothing but decisions.

    The attack walks along the boundary between the model's decisions, estimating its normal.
    From a point on it, each step asks about random neighbours,

    .. math:: v = \sum_i (\varphi_i - \bar\varphi)\, u_i, \quad
              \varphi_i = \pm 1 \text{ as } x' + r u_i \text{ is adversarial or not,}

    leaps along v, which points away from the clean image's region, and walks straight back
    towards the clean image until it meets the boundary again.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k), of which the largest alone counts.
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"l2"}
        How distance is measured.
    steps : int
        Rounds, >= 1.
    samples : int
        Neighbours asked about in the first round, >= 1; in the t-th, sqrt(t) times as many,
        rounded up to eights.
        All in all about 2/3 samples steps^1.5 queries an example.
    starts : Tensor of shape (N, ...), optional
        Adversarial images to start from, such as photos of the target; by default, images of
        noise.
    targeted : bool
        Look for images that the model takes for the labels; needs `starts`.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default. Starts are the clean image elsewhere.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at the start, as step 0, and after every
        round, with the closest points so far.

    Returns
    -------
    Minimal
        The closest adversarial images found and their l2 distances: 0 where the clean image
        is adversarial, infinite (and the clean image) where no start fools the model.

    Raises
    ------
    TypeError, ValueError
        If images, labels or logits are unusable (see `checks`), steps or samples < 1, or
        starts missing or of another shape.

    Notes
    -----
    Deviations from the paper: the samples' distance r is a hundredth of that from the clean
    image, and the walk back is halved twelve times, where the paper lets both shrink with
    the number of pixels until float32 cannot tell them from nothing; each round begins at
    the closest point so far. Samples are measured after clipping to [0, 1].

    References
    ----------
    Chen, Jordan, Wainwright, "HopSkipJumpAttack: a Query-Efficient Decision-Based Attack",
    IEEE S&P 2020, Algorithms 1 and 2. It needs far fewer queries than the random walk of
    Brendel, Rauber, Bethge, "Decision-Based Adversarial Attacks", ICLR 2018.
    """
    if starts is None and targeted:
        raise ValueError("starts: expected images of the targets, received none; noise is of none")
    if starts is not None:
        check_images(starts)
        check_shape("starts", starts, images)
    generators = example_generators(check_indices(indices, len(images)), seed)
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    _start(closest, rows, starts, generators)
    rows = closest.perturbed
    closest.bisect(rows, closest.images_adv[rows], _HALVINGS)
    for step in range(steps + 1):
        if step > 0 and len(rows):
            count = round(samples * step**0.5)
            _leap(closest, rows, _normal(closest, rows, count, generators), step)
        closest.tell(step, rows, closest.images_adv[rows])
    return closest.result()


def _start(
    closest: Closest,
    rows: Tensor,
    starts: Tensor | None,
    generators: Sequence[torch.Generator],
) -> None:
    """Offer the given starts, or noise until every example is fooled."""
    for attempt in range(_TRIES if starts is None else 1):
        if not len(rows):
            return
        if starts is None:
            chosen = [generators[row] for row in rows.tolist()]
            noise = draw_uniform(chosen, *closest.images.shape[1:]).to(closest.images)
            # Every other time black and white, which reaches further.
            candidates = noise.round() if attempt % 2 else noise
        else:
            candidates = starts.to(closest.images)[rows]
        mask = closest.objective[rows].mask
        if mask is not None:
            candidates = torch.where(mask, candidates, closest.images[rows])
        rows = rows[~closest.query(rows, candidates)]


def _normal(
    closest: Closest, rows: Tensor, count: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Estimate the direction into the adversarial region, of length 1, (M, ...)."""
    here, mask = closest.images_adv[rows], closest.objective[rows].mask
    radii = _PROBE * closest.distances[rows]
    at_a_time = max(_PIXELS // here.numel(), 1)
    signed = torch.zeros_like(here, dtype=radii.dtype)
    plain, votes = torch.zeros_like(signed), torch.zeros_like(radii)
    chosen = [generators[row] for row in rows.tolist()]
    blocks = range(0, count, _BLOCK)
    for units in (part for _ in blocks for part in _directions(chosen, here).split(at_a_time)):
        if mask is not None:
            units = units * mask
        points = (here + units * per_pixel(radii, here)).clamp_(0, 1).to(here)
        moves = points.to(radii) - here.to(radii)
        achieved = closest.achieved(rows.repeat(len(units)), points.flatten(0, 1))
        signs = (2.0 * achieved - 1).to(radii).view(len(units), len(rows))
        signed += (moves * signs.view(*signs.shape, *[1] * (here.ndim - 1))).sum(dim=0)
        plain += moves.sum(dim=0)
        votes += signs.sum(dim=0)
    mean = votes / (len(blocks) * _BLOCK)
    # Where all agree, the mean sample is all there is to go by.
    mean = mean.masked_fill(mean.abs() == 1, 0)
    estimate = signed - per_pixel(mean, here) * plain
    return steepest_rows(estimate.flatten(1), "l2").view_as(here)


def _directions(generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Draw directions of length 1, a block of them for each example, (block, M, ...)."""
    # Always as many: what a generator yields depends on how much is asked of it at once.
    draws = [
        torch.randn(_BLOCK, like[0].numel(), generator=g, dtype=torch.float32) for g in generators
    ]
    units = torch.nn.functional.normalize(torch.stack(draws, dim=1), dim=2)
    return units.to(like.device).view(_BLOCK, *like.shape)


def _leap(closest: Closest, rows: Tensor, direction: Tensor, step: int) -> None:
    """Leap into the adversarial region, less far until it is met, then walk back."""
    here, lengths = closest.images_adv[rows], closest.distances[rows] / step**0.5
    for _ in range(_LEAPS):
        points = (here + direction * per_pixel(lengths, here)).clamp_(0, 1).to(here)
        achieved = closest.achieved(rows, points)
        closest.bisect(rows[achieved], points[achieved], _HALVINGS)
        rows, here, direction = rows[~achieved], here[~achieved], direction[~achieved]
        lengths = lengths[~achieved] / 2
        if not len(rows):
            return
