"""Targeted APGD: a run for each of several wrong classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.linear import likeliest_others, nearest_first, rival_gap
from within_epsilon.attacks.core.objective import Callback, Objective, Strongest, logits_of
from within_epsilon.attacks.core.registry import attack
from within_epsilon.attacks.white_box.apgd import run_apgd, whole_batch
from within_epsilon.checks import check_indices
from within_epsilon.losses import dlr_targeted
from within_epsilon.threat import Ball


@attack("targeted APGD-DLR", "white box")
def multi_targeted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    targets: int = 9,
    candidates: int | None = None,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    at_once: int | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Attack with APGD once for each of the likeliest wrong classes, or the nearest.

    .. math:: \max_{t}\ \max_{x'}\ -\frac{z_y - z_t}{z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2},
              \quad z = h(x')

    Each run follows `losses.dlr_targeted` for another class t, the likeliest for the clean
    image first, and spends gradients only on examples that no run before it has fooled.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball
        The threat model.
    targets : int
        Number of other classes to try, >= 1; k - 1 if there are no more.
    candidates : int, optional
        Try those of so many likeliest classes whose borders would be nearest to the clean
        image, were the model linear, the nearest first: a gradient for each candidate. The
        likeliest by default.
    steps : int
        Gradients that each run spends on an example, >= 1.
    restarts : int
        Runs for each target, >= 1.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    at_once : int, optional
        Most points in a pass, as in `apgd`.
    callback : callable, optional
        ``callback(step, images_adv, losses)``, as in `apgd`, target by target.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached: the clean image if the model
        gets it wrong, else the first point visited that fools the model, into whichever
        class, else the one of the largest loss. A heuristic: a lower bound on the worst
        loss.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), targets, steps or
        restarts not positive, or fewer candidates than targets.

    Notes
    -----
    The ratio needs four classes. With two or three, runs raise :math:`z_t - z_y` alone.
    Candidates are no part of the paper: it tries the likeliest.

    References
    ----------
    Croce, Hein, ICML 2020, equation 7 and section 4: targeted APGD-DLR, with 9 targets.
    """
    if candidates is not None and candidates < targets:
        raise ValueError(
            f"candidates: expected at least as many as targets, {targets}, received {candidates}"
        )
    positions, strongest = torch.as_tensor(check_indices(indices, len(images))), Strongest(images)
    logits = logits_of(model, images)
    loss = dlr_targeted if _enough(logits).all() else _ratio_or_gap
    strongest.achieved |= Objective(labels, loss).achieved(logits)
    rows = (~strongest.achieved).nonzero().squeeze(1)
    others = likeliest_others(logits, labels)
    if candidates is not None and len(rows):
        nearest = nearest_first(model, images[rows], labels[rows], ball.norm, candidates)
        others[rows, : nearest.shape[1]] = nearest
    ranks = min(targets, logits.shape[1] - 1)
    numbers = torch.arange(ranks * restarts, device=images.device).repeat_interleave(len(rows))
    rows = rows.repeat(ranks * restarts)
    rivals = others[rows, numbers // restarts]
    possible = logits[rows, rivals] > -torch.inf  # an impossible class is no target
    rows, numbers, rivals = rows[possible], numbers[possible], rivals[possible]
    run_apgd(
        *(model, images, ball, Objective(labels[rows], loss, rivals=rivals), strongest),
        *(rows, numbers),
        positions=positions,
        seed=seed,
        steps=steps,
        early_stop=True,
        at_once=(at_once or len(images)) if callback is None else None,
        visit=None if callback is None else whole_batch(callback, images),
    )
    return strongest.images_adv


def _enough(logits: Tensor) -> Tensor:
    """Tell where four classes are possible, as many as the targeted ratio takes, (N,)."""
    return (logits > -torch.inf).sum(dim=1) >= 4


def _ratio_or_gap(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted ratio, or z_t - z_y where there are too few classes for it, (N,)."""
    gap = rival_gap(logits, labels, targets)
    if logits.shape[1] < 4:
        return gap
    return torch.where(_enough(logits), dlr_targeted(logits, labels, targets), gap)
