"""Ensembles of attacks that fail in different ways, one after the other: AutoAttack."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from within_epsilon.attacks.black_box.square import square
from within_epsilon.attacks.core.in_turn import StageCallback, in_turn
from within_epsilon.attacks.core.registry import WithinBall, attack
from within_epsilon.attacks.minimal_norm.fab import fab
from within_epsilon.attacks.minimal_norm.fmn import fmn
from within_epsilon.attacks.white_box.apgd import apgd
from within_epsilon.attacks.white_box.multi_targeted import multi_targeted
from within_epsilon.checks import check_counts
from within_epsilon.runtime import derive_seed
from within_epsilon.threat import Ball

Version = Literal["fast", "standard"]


def stages(
    ball: Ball,
    *,
    version: Version = "fast",
    steps: int = 100,
    targets: int | None = None,
    queries: int | None = None,
    seed: int = 0,
) -> tuple[Callable[..., Tensor], ...]:
    """Return the attacks of `autoattack`, in order; see there for parameters and errors."""
    if version not in ("fast", "standard"):
        raise ValueError(f"version: expected 'fast' or 'standard', received {version!r}")
    standard, is_l1 = version == "standard", ball.norm == "l1"
    if targets is None:
        targets = 9 if standard and not is_l1 else 5
    queries = (5000 if standard else 1000) if queries is None else queries
    check_counts(steps=steps, targets=targets, queries=queries)
    seeds = [derive_seed(seed, number) for number in range(4)]
    first = partial(apgd, steps=steps, early_stop=True, seed=seeds[0])
    second = partial(multi_targeted, steps=steps, targets=targets, seed=seeds[1])
    if standard:
        nearest = partial(fab, steps=steps, near_enough=ball.epsilon, seed=seeds[2])
    else:
        second = partial(second, candidates=max(targets, 9))
        nearest = partial(fmn, steps=steps, seed=seeds[2])
    return (
        partial(first, restarts=5) if standard and is_l1 else first,
        second,
        WithinBall(nearest),
        partial(square, queries=queries, rescale_schedule=not standard, seed=seeds[3]),
    )


@attack("AutoAttack", "ensemble", stages=stages)
def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    version: Version = "fast",
    steps: int = 100,
    targets: int | None = None,
    queries: int | None = None,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: StageCallback | None = None,
) -> Tensor:
    r"""Attack with AutoAttack, or with a faster ensemble in its manner.

    .. math:: \max_{\|x' - x\| \le \epsilon,\ x' \in [0, 1]}\
              \Bigl[ \max_{j \ne y} h(x')_j - h(x')_y > 0 \Bigr]

    Four attacks in turn: APGD on the cross-entropy; APGD on the targeted
    difference-of-logits ratio, once for each of several wrong classes; one that looks for the
    nearest adversarial image; and Square, which needs no gradient and so is not led astray by
    a masked one. What one attack has fooled, or the model gets wrong without any, costs the
    next ones nothing.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1]; for Square, rows and columns come last.
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball
        The threat model.
    version : {"fast", "standard"}
        "standard" is that of Croce and Hein, to publish and to compare with others: targeted
        APGD for the nine likeliest classes (for l1 five, and five restarts of the first
        attack), targeted FAB, Square with 5,000 queries. "fast" reaches nearly the same in a
        fraction of the time: of the nine likeliest classes the five whose borders would be
        nearest, were the model linear; FMN, one gradient a step, in the place of FAB's nine;
        1,000 queries of Square.
    steps : int
        Gradients that each run of APGD, and of FAB or FMN, spends on an example, >= 1.
    targets : int, optional
        Number of other classes that targeted APGD tries, >= 1; as the version says.
    queries : int, optional
        Most forward passes that Square spends on an example, >= 1; as the version says.
    seed : int
        Seed of the experiment; each of the four attacks has draws of its own.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(name, images_adv, standing)`` after every attack: what it is called, the
        best points so far, and which examples (N,) still stand. An attack that finds nobody
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
        If images, labels, logits or gradient are unusable (see `checks`), the version is
        unknown, or steps, targets or queries not positive.

    Notes
    -----
    "standard" differs from the authors' code in what leaves its strength as it is, or adds to
    it: examples leave a run once they are fooled; every example has random numbers of its own,
    whatever the batch; an l1 step passes over pixels that are stuck at 0 or 1; Square's squares
    reach the last row and column, and its l1 search is that of `square`. APGD follows the
    paper where the code departs from it: a step size is halved if fewer than 3 of 4 steps have
    raised the loss, not if exactly as many have, and a run that went back counts its next rise
    from there; l1 runs begin uniformly in the ball and move a fifth of the pixels at most. With
    two or three classes the ratio is not defined, and its place is taken by the difference
    z_t - z_y, for every other class t.

    References
    ----------
    Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-free Attacks", ICML 2020, section 5; for l1 "Mind the Box", ICML 2021.
    """
    attacks = stages(
        ball, version=version, steps=steps, targets=targets, queries=queries, seed=seed
    )
    return in_turn(
        model, images, labels, ball, attacks, indices=indices, callback=callback
    ).images_adv
