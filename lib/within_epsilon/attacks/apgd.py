"""APGD, the attack that chooses its own step size, and its targeted form."""

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.climb import Climb, DenseClimb, SparseClimb
from within_epsilon.attacks.common import Aim, Loss, Worst, check_call, check_counts, classify
from within_epsilon.attacks.gradient import Callback
from within_epsilon.attacks.linearise import nearest_first
from within_epsilon.checks import check_indices, check_labels
from within_epsilon.losses import cross_entropy, dlr_targeted
from within_epsilon.runtime import in_turn
from within_epsilon.threat import Ball, check_ball

# Where l1 runs begin: (radius in units of epsilon, share of the steps).
_WIDER = ((3, 0.3), (2, 0.3))


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    steps: int = 100,
    restarts: int = 1,
    early_stop: bool = False,
    targeted: bool = False,
    loss: Loss = cross_entropy,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Attack with Auto-PGD: momentum, and a step size halved where progress stalls.

    .. math:: z = \Pi\bigl(x_t + \eta_t\, d_t\bigr), \quad
              x_{t+1} = \Pi\bigl(x_t + \alpha (z - x_t) + (1 - \alpha)(x_t - x_{t-1})\bigr)

    with d_t the steepest direction as in `pgd` and alpha = 0.75. The step size eta starts
    at 2 epsilon. At checkpoints it is halved, and the run goes back to its best point, if
    fewer than 3 of 4 steps have raised the loss, or if none has raised its maximum since
    the last checkpoint and the step size was not halved there.

    For l1, steps have no momentum and move few pixels: a fifth of them at first, then 1.5
    times fewer than the best point so far has changed. The first 30% of the steps are
    spent in a ball of three times the radius, the next 30% in one of twice the radius.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    ball : Ball
        The threat model.
    steps : int
        Gradients that each run spends on an example, >= 1.
    restarts : int
        Independent runs from random points of the ball, >= 1.
    early_stop : bool
        Spend nothing more on an example once it fools the model; what is returned for
        it is then the first such point and not the one of the largest loss.
    targeted : bool
        Descend the loss of the target instead of ascending that of the true class.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise: `cross_entropy`, `dlr` or
        `margin_loss`.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(step, images_adv, losses)`` at every point visited, as in `pgd`. Examples
        that have stopped early repeat their last point; those of l1 may lie outside the
        ball during the first 60% of the steps.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached: of all points visited, one
        that fools the model if there is any, then the one of the largest loss (smallest,
        if targeted). A heuristic: a lower bound on the worst loss.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), or steps or
        restarts not positive.

    Notes
    -----
    Deviations from the papers. Starts are uniform in the ball. For l2, projecting onto
    ball and pixel range is that of `Ball.perturb`; for l1 it is exact, as in the paper.
    An l1 step passes over pixels that are stuck at 0 or 1.

    References
    ----------
    Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-free Attacks", ICML 2020, Algorithm 1. l1: Croce, Hein, "Mind the
    Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers", ICML 2021, in the
    form that starts from wider balls.
    """
    check_ball(ball)
    images = check_call(model, images, labels, loss)
    check_counts(steps=steps, restarts=restarts)
    search = _Search(model, images, ball, steps, early_stop, seed, indices, callback)
    for restart in range(restarts):
        search.run(Aim(labels, loss, targeted=targeted), restart)
    return search.worst.images_adv


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
) -> Tensor:
    r"""Attack with APGD once for each of the likeliest wrong classes, or the nearest.

    .. math:: \max_{t}\ \max_{x'}\ -\frac{z_y - z_t}{z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2},
              \quad z = h(x')

    Each run follows `losses.dlr_targeted` for another class t, the likeliest for the clean
    image first, and spends gradients only on examples that no run before it has fooled.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball
        The threat model.
    targets : int
        Number of other classes to try, >= 1; K - 1 if there are no more.
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
    check_ball(ball)
    images = check_call(model, images, labels, cross_entropy)
    check_counts(targets=targets, steps=steps, restarts=restarts)
    if candidates is not None and candidates < targets:
        raise ValueError(
            f"candidates: expected at least as many as targets, {targets}, received {candidates}"
        )
    search = _Search(model, images, ball, steps, True, seed, indices)
    logits = classify(model, images)
    check_labels(labels, *logits.shape)
    search.worst.reached |= logits.argmax(dim=1) != labels
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).argsort(dim=1, descending=True)
    rows = (~search.worst.reached).nonzero().squeeze(1)
    if candidates is not None and len(rows):
        nearest = nearest_first(model, images[rows], labels[rows], ball.norm, candidates)
        others[rows, : nearest.shape[1]] = nearest
    classes = logits.shape[1]
    loss = dlr_targeted if classes >= 4 else _gap
    ranks = range(min(targets, classes - 1))
    for number, (rank, _) in enumerate(itertools.product(ranks, range(restarts))):
        search.run(Aim(labels, loss, rivals=others[:, rank]), number)
    return search.worst.images_adv


class _Search:
    """Runs of APGD that share what they have found.

    Parameters
    ----------
    early_stop : bool
        Leave out examples whose aim an earlier run has reached.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        ball: Ball,
        steps: int,
        early_stop: bool,
        seed: int,
        indices: Tensor | Sequence[int] | None,
        callback: Callback | None = None,
    ) -> None:
        self.model, self.images = model, images
        self.phases = _phases(ball, steps)
        self.early_stop, self.seed = early_stop, seed
        self.positions = check_indices(indices, len(images))
        self.visit = None if callback is None else _watch(callback, images)
        self.worst = Worst(images)

    def run(self, aim: Aim, number: int) -> None:
        """Climb once from random points, which the run's number decides."""
        rows = torch.arange(len(self.images), device=self.images.device)
        if self.early_stop:
            rows = rows[~self.worst.reached]
        if not len(rows):
            return
        images, aim = self.images[rows], aim[rows]
        positions = [self.positions[row] for row in rows.tolist()]
        widest, done = self.phases[0][0], 0
        start = widest.random(images, in_turn(positions, self.seed, number))
        points = widest.perturb(images, start)
        for ball, steps in self.phases:
            region, is_last = ball.within(images), ball is self.phases[-1][0]
            climb: Climb
            if ball.norm == "l1":
                climb = SparseClimb(region.nearest(points), region, aim, rows, steps=steps)
            else:
                climb = DenseClimb(points, region, aim, rows, steps=steps)
            visit = None if self.visit is None else functools.partial(self.visit, done)
            worst = self.worst if is_last else None
            climb.run(self.model, steps, worst, visit, early_stop=self.early_stop and is_last)
            points, done = climb.best, done + steps


def _phases(ball: Ball, steps: int) -> list[tuple[Ball, int]]:
    """Return the balls that a run climbs in one after the other, with its steps in each."""
    if ball.norm != "l1":
        return [(ball, steps)]
    wide = [(Ball("l1", factor * ball.epsilon), int(share * steps)) for factor, share in _WIDER]
    wide = [(wider, number) for wider, number in wide if number > 0]
    return [*wide, (ball, steps - sum(number for _, number in wide))]


def _watch(callback: Callback, images: Tensor) -> Callable[..., None]:
    """Tell a callback of whole batches, in which examples that have stopped stay as they were."""
    whole: dict[str, Tensor] = {"points": images.clone()}

    def visit(done: int, step: int, rows: Tensor, points: Tensor, losses: Tensor) -> None:
        if "losses" not in whole:
            whole["losses"] = losses.new_full((len(images),), torch.nan)
        whole["points"][rows] = points
        whole["losses"][rows] = losses
        callback(done + step, whole["points"].clone(), whole["losses"].clone())

    return visit


def _gap(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return z_t - z_y, (N,): what is left of the targeted ratio with too few classes."""
    pairs = logits.gather(1, torch.stack([targets, labels], dim=1))
    return pairs[:, 0] - pairs[:, 1]
