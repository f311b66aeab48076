"""FAB: step onto the border of the linear model, drawn towards the clean image."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.hyperplane import step_to_hyperplane
from within_epsilon.attacks.core.linear import likeliest_others, nearest_border, rival_gap
from within_epsilon.attacks.core.minimal import Closest, Minimal, begin
from within_epsilon.attacks.core.objective import (
    Callback,
    Objective,
    logits_of,
    steepest_ascent,
)
from within_epsilon.attacks.core.packing import one_by_one, packed, superfluous
from within_epsilon.attacks.core.registry import attack
from within_epsilon.checks import check_indices
from within_epsilon.geometry import Norm, divisor, double, norm_of_rows, per_pixel
from within_epsilon.runtime import streams
from within_epsilon.threat import Ball

# (points, objective) -> by how much the model is fooled there (M,), and the gradient of that.
Border = Callable[[Tensor, Objective], tuple[Tensor, Tensor]]

_OVERSHOOT = 1.05  # eta: how far a step goes, the border being at 1
_MOST_BIAS = 0.1  # alpha_max: the largest share of the step that starts from the clean image
_BACK = 0.9  # beta: what is left of a perturbation that fools the model, before the next step
_FINAL_SEARCH = 3  # steps, a forward pass each
_RADII = {"linf": 0.3, "l2": 1.0, "l1": 5.0}


@attack("FAB", "minimal norm")
def fab(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm = "linf",
    *,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    nearest: bool = False,
    epsilon: float | None = None,
    near_enough: float = 0.0,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    at_once: int | None = None,
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images with the fast adaptive boundary attack.

    .. math:: x_{t+1} = \mathrm{clip}_{[0, 1]}\bigl((1 - \alpha)(x_t + \eta\, d_t)
              + \alpha (x + \eta\, d^0_t)\bigr), \quad
              \alpha = \min\Bigl(\frac{\|d_t\|}{\|d_t\| + \|d^0_t\|},\ 0.1\Bigr)

    where d_t and d^0_t are the shortest steps, from the present point and from the clean image,
    onto the border of two classes in [0, 1], were the model linear around x_t. A point that
    fools the model is kept if it is the closest so far; the next step then begins at nine tenths
    of the way to it.

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
        Steps of each run, >= 1: a gradient and a forward pass each.
    restarts : int
        Runs for each target, >= 1: the first from the clean image, the others from random
        points around it.
    targets : int
        How many of the other classes to head for, the likeliest for the clean image, >= 1: one
        after the other, a run each. Without effect if `targeted`.
    nearest : bool
        Head for several classes in the same run instead: at every step for the one whose
        border is nearest, among as many of the likeliest as `targets`. A gradient for each.
    epsilon : float, optional
        Restarts begin at half this distance, or half the distance found if that is shorter;
        0.3, 1 and 5 by default, for linf, l2 and l1.
    near_enough : float
        An example whose adversarial image is as near as this costs nothing more, >= 0. An
        attack in a ball need not look for the nearest image.
    targeted : bool
        Look for images that the model takes for the labels.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    seed : int
        Seed of the experiment; only restarts are random.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    at_once : int, optional
        Most points in a pass, as in `apgd`; restarts, and runs that a callback sees, wait for
        each other.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at every point visited, counted over all runs,
        the clean images being step 0; with the shortest distances so far.

    Returns
    -------
    Minimal
        The closest adversarial images found and their distances in `norm`: 0 where the clean
        image is adversarial, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), the norm unknown,
        steps, restarts or targets < 1, epsilon not positive, or near_enough negative.

    Notes
    -----
    Deviations from the paper. One class after the other is the later form for many classes,
    FAB-T, of the second paper. The paper's untargeted form linearises all k classes; `nearest`
    the likeliest. Points that fool the model into any class count, whichever it was to be. In
    the final search the margin stands in the place of one class's.

    Deviations from the code that AutoAttack runs: it has no final search; its restarts begin at
    half of epsilon whatever was found before; it drops examples once they are within epsilon,
    which here `near_enough` decides; and it raises where there are fewer than `targets` other
    classes, where this attack tries those that there are.

    References
    ----------
    Croce, Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
    Attack", ICML 2020, Algorithm 1. FAB-T: Croce, Hein, "Reliable Evaluation of Adversarial
    Robustness with an Ensemble of Diverse Parameter-free Attacks", ICML 2020, section 5.
    """
    radius = _RADII[norm] if epsilon is None else epsilon
    if radius <= 0 or near_enough < 0:
        raise ValueError(
            "epsilon, near_enough: expected distances > 0 and >= 0, received "
            f"{epsilon} and {near_enough}"
        )
    positions = torch.as_tensor(check_indices(indices, len(images)))
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    closest.tell(0, rows, images[rows])
    objective, count = closest.objective, itertools.count(1)
    border, heading = _borders(model, images, rows, objective, norm, targets, nearest=nearest)
    rivals = heading.repeat_interleave(restarts, dim=0)
    numbers = torch.arange(len(rivals), device=rows.device).repeat_interleave(len(rows))
    rows = rows.repeat(len(rivals))

    def going(rows: Tensor) -> Tensor:
        return closest.distances[rows] > near_enough

    # A restart depends on what was found before it, and a callback counts run by run.
    single = restarts > 1 or callback is not None
    for runs in packed(rows, numbers, going, None if single else at_once or len(images)):
        some, number = rows[runs], int(numbers[runs[0]])
        points, wanted = images[some], objective[some]
        if number % restarts > 0:
            radii = closest.distances[some].clamp(max=radius) / 2
            draws = streams(positions[some.cpu()], seed, number)
            points = _around(points, radii, norm, wanted.mask, draws)
        if not (targeted or nearest):
            wanted = dataclasses.replace(wanted, loss=rival_gap, rivals=rivals.flatten()[runs])
        kept = closest if single else Closest(model, images[some], wanted, norm)
        places = some if single else torch.arange(len(some), device=some.device)
        _walk(border, wanted, norm, kept, places, some, points, steps, near_enough, count)
        for part in () if single else one_by_one(some, numbers[runs], going):
            closest.offer(some[part], kept.images_adv[part], kept.found[part])
    _final_search(closest)
    return closest.result()


def _borders(
    model: nn.Module,
    images: Tensor,
    rows: Tensor,
    objective: Objective,
    norm: Norm,
    targets: int,
    *,
    nearest: bool,
) -> tuple[Border, Tensor]:
    """Return what runs linearise, and the classes that those of the examples `rows` head for."""

    def ahead(points: Tensor, wanted: Objective) -> tuple[Tensor, Tensor]:
        logits, uphill = steepest_ascent(model, points, wanted)
        return wanted.values(logits), uphill

    def around(points: Tensor, wanted: Objective) -> tuple[Tensor, Tensor]:
        return nearest_border(model, points, wanted, norm, targets)

    if objective.targeted or nearest:
        return around, objective.labels[rows].unsqueeze(0)
    logits = logits_of(model, images[rows]) if len(rows) else images.new_empty(0, 2)
    number = min(targets, logits.shape[1] - 1)
    return ahead, likeliest_others(logits, objective.labels[rows])[:, :number].T


def _around(
    images: Tensor,
    radii: Tensor,
    norm: Norm,
    mask: Tensor | None,
    generators: Iterator[torch.Generator],
) -> Tensor:
    """Draw points at a distance from the images; for linf in a box of that size."""
    draws = Ball(norm, 1.0, mask).random(images, generators, boundary=norm != "linf")
    change = double(draws) * per_pixel(double(radii), images)
    return (double(images) + change).clamp_(0, 1).to(images)


def _walk(
    border: Border,
    objective: Objective,
    norm: Norm,
    closest: Closest,
    rows: Tensor,
    examples: Tensor,
    points: Tensor,
    steps: int,
    near_enough: float,
    count: Iterator[int],
) -> None:
    """Take the steps of runs from given points; `closest` has them at `rows`."""
    images = closest.images[rows]
    for _ in range(steps):
        points = _step(images, points, *border(points, objective), norm)
        achieved = closest.achieved(rows, points)
        closest.visit(next(count), rows, points, achieved)
        back = torch.lerp(images, points, _BACK)
        points = torch.where(per_pixel(achieved, points), back, points)
        near = closest.distances[rows] <= near_enough
        if near.any():
            going = ~superfluous(examples, near)
            rows, examples, objective = rows[going], examples[going], objective[going]
            images, points = images[going], points[going]
            if not len(rows):
                return


def _step(images: Tensor, points: Tensor, gaps: Tensor, uphill: Tensor, norm: Norm) -> Tensor:
    """Go to the linear model's border, a little beyond it, and a little from the clean image."""
    clean, here, slopes = (double(part).flatten(1) for part in (images, points, uphill))
    missing = -double(gaps)
    missing_there = missing - (slopes * (clean - here)).sum(dim=1)
    # Both at once: with small images the calls cost more than the numbers.
    starts, twice = torch.cat([here, clean]), torch.cat([slopes, slopes])
    steps = step_to_hyperplane(starts, twice, torch.cat([missing, missing_there]), norm)
    step, step_there = steps.chunk(2)
    near, far = (norm_of_rows(rows, norm) for rows in (step, step_there))
    bias = (near / divisor(near + far)).clamp_(max=_MOST_BIAS)
    ends = torch.lerp(here + _OVERSHOOT * step, clean + _OVERSHOOT * step_there, bias.unsqueeze(1))
    return ends.clamp_(0, 1).view_as(images).to(images)


def _final_search(closest: Closest) -> None:
    """Look for the border on the straight way back, where the margin would be 0, were it linear."""
    rows = closest.perturbed
    if not len(rows):
        return
    inner, outer, wanted = closest.images[rows], closest.images_adv[rows], closest.objective[rows]
    lowest, highest = (wanted.values(logits_of(closest.model, points)) for points in (inner, outer))
    for _ in range(_FINAL_SEARCH):
        share = (highest / (highest - lowest)).nan_to_num(0, 0, 0).clamp(0, 1)
        point = torch.lerp(outer, inner, per_pixel(share, outer).to(outer))
        logits = logits_of(closest.model, point)
        achieved, values = wanted.achieved(logits), wanted.values(logits)
        closest.offer(rows, point, achieved)
        wide = per_pixel(achieved, point)
        outer, inner = torch.where(wide, point, outer), torch.where(wide, inner, point)
        highest = torch.where(achieved, values, highest)
        lowest = torch.where(achieved, lowest, values)
