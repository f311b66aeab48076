"""AutoAttack: several attacks that fail in different ways, one after the other."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from within_epsilon.attacks.apgd import apgd, multi_targeted
from within_epsilon.attacks.common import Aim, Worst, check_call, check_counts, score
from within_epsilon.attacks.fmn import fmn
from within_epsilon.attacks.square import square
from within_epsilon.checks import check_indices
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.threat import Ball, check_ball

_CANDIDATES = 9  # so many classes the paper tries

# (name of the attack, images_adv, standing), called after every attack of the ensemble.
StageCallback: TypeAlias = Callable[[str, Tensor, Tensor], None]


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    steps: int = 100,
    targets: int = 5,
    queries: int = 5000,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: StageCallback | None = None,
) -> Tensor:
    r"""Attack with an ensemble in the manner of AutoAttack, each only on what survives.

    .. math:: \max_{\|x' - x\| \le \epsilon,\ x' \in [0, 1]}\
              \Bigl[ \max_{j \ne y} h(x')_j - h(x')_y > 0 \Bigr]

    Four attacks in turn: APGD on the cross-entropy; APGD on the targeted
    difference-of-logits ratio, once for each of the nearest wrong classes; FMN, which
    looks for the nearest adversarial image; and Square, which needs no gradient and so is
    not led astray by a masked one. What one attack has fooled, or the model gets wrong
    without any, costs the next ones nothing.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1]; for Square, rows and columns come last.
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball
        The threat model.
    steps : int
        Gradients that each run of APGD, and FMN, spend on an example, >= 1.
    targets : int
        Number of other classes that targeted APGD tries, >= 1: of the nine likeliest those
        whose borders would be nearest, were the model linear.
    queries : int
        Most forward passes that Square spends on an example, >= 1.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(name, images_adv, standing)`` after every attack: its name, the best
        points so far, and which examples (N,) still stand. An attack that finds nobody
        standing is passed over.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached: the clean image if the model
        gets it wrong, else what fooled the model first, else the failed attempt (or the
        clean image) of the largest margin loss. A heuristic: the accuracy that remains
        is an upper bound on robust accuracy.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), or steps,
        targets or queries not positive.

    Notes
    -----
    The settings are those of the paper's standard version. Deviations from it: targeted APGD
    tries the five nearest of its nine classes (9 gradients to tell which, and 400 fewer); FMN
    stands in the place of FAB, with the same task and one gradient a step; the attacks' own
    are in their notes. With two or three classes the ratio is not defined, and its place is
    taken by the difference z_t - z_y, for every other class t.

    References
    ----------
    Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-free Attacks", ICML 2020, section 5.
    """
    check_ball(ball)
    images = check_call(model, images, labels, cross_entropy)
    check_counts(steps=steps, targets=targets, queries=queries)
    positions = torch.as_tensor(check_indices(indices, len(images)))
    everyone, worst = Aim(labels, margin_loss), Worst(images)
    rows = torch.arange(len(images), device=images.device)
    losses, reached = score(model, images, everyone)
    worst.offer(rows, images, reached, losses)
    stages: dict[str, Callable[..., Tensor]] = {
        "APGD-CE": partial(apgd, steps=steps, early_stop=True),
        "targeted APGD-DLR": partial(
            multi_targeted, steps=steps, targets=targets, candidates=max(targets, _CANDIDATES)
        ),
        "FMN": partial(_fmn_within, steps=steps),
        "Square": partial(square, queries=queries),
    }
    for name, attack in stages.items():
        rows = rows[~worst.reached[rows]]
        if not len(rows):
            break
        keys = {"seed": seed, "indices": positions[rows.cpu()]}
        with warnings.catch_warnings():
            # Said once already.
            warnings.filterwarnings("ignore", message="the model is in train mode")
            images_adv = attack(model, images[rows], labels[rows], ball, **keys)
        losses, reached = score(model, images_adv, everyone[rows])
        worst.offer(rows, images_adv, reached, losses)
        if callback is not None:
            callback(name, worst.images_adv.clone(), ~worst.reached)
    return worst.images_adv


def _fmn_within(
    model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, *, steps: int, **_keys: object
) -> Tensor:
    """Return the nearest adversarial images that FMN finds, brought back into the ball."""
    found = fmn(model, images, labels, norm=ball.norm, steps=steps)
    return ball.within(images).clip(found.images_adv)
