"""APGD, the PGD that chooses its own step size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import (
    Callback,
    Loss,
    Objective,
    Strongest,
    logits_of,
    steepest_ascent,
)
from within_epsilon.attacks.core.packing import one_by_one, packed, superfluous
from within_epsilon.attacks.core.registry import attack
from within_epsilon.attacks.white_box.apgd_steps import Run, begin, dense_step, sparse_step
from within_epsilon.checks import check_indices
from within_epsilon.geometry import wider
from within_epsilon.losses import cross_entropy
from within_epsilon.runtime import streams
from within_epsilon.threat import Ball

# Like `Callback`, for some rows of the batch: (step, rows, images_adv, losses).
Visit = Callable[[int, Tensor, Tensor, Tensor], None]

# Where l1 runs begin: (radius in units of epsilon, share of the steps).
_WIDER = ((3, 0.3), (2, 0.3))


@attack("APGD", "white box")
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
    at_once: int | None = None,
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
        Takes images in [0, 1], returns logits (N, k).
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
    at_once : int, optional
        Most points in a pass through the model, which bounds memory; N by default. Where
        fewer examples are left, they take several of their runs at once: results are the same.
    callback : callable, optional
        ``callback(step, images_adv, losses)`` at every point visited, as in `pgd`, run by run.
        Examples that have stopped early repeat their last point; those of l1 may lie outside
        the ball during the first 60% of the steps.

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
    strongest, positions = Strongest(images), torch.as_tensor(check_indices(indices, len(images)))
    rows = torch.arange(len(images), device=images.device).repeat(restarts)
    numbers = torch.arange(restarts, device=rows.device).repeat_interleave(len(images))
    run_apgd(
        *(model, images, ball, Objective(labels, loss, targeted)[rows], strongest, rows, numbers),
        positions=positions,
        seed=seed,
        steps=steps,
        early_stop=early_stop,
        at_once=(at_once or len(images)) if callback is None else None,
        visit=None if callback is None else whole_batch(callback, images),
    )
    return strongest.images_adv


def whole_batch(callback: Callback, images: Tensor) -> Visit:
    """Tell a callback of whole batches, in which examples that have stopped stay as they were."""
    whole = images.clone()
    losses = images.new_full((len(images),), torch.nan, dtype=wider(images.dtype))

    def visit(step: int, rows: Tensor, points: Tensor, theirs: Tensor) -> None:
        whole[rows], losses[rows] = points, theirs.to(losses)
        callback(step, whole.clone(), losses.clone())

    return visit


def run_apgd(
    model: nn.Module,
    images: Tensor,
    ball: Ball,
    objective: Objective,
    strongest: Strongest,
    rows: Tensor,
    numbers: Tensor,
    *,
    positions: Tensor,
    seed: int,
    steps: int,
    early_stop: bool,
    at_once: int | None,
    visit: Visit | None = None,
) -> None:
    """Climb from random points, as if in one run after the other.

    Parameters
    ----------
    images, ball : Tensor of shape (N, ...), Ball
        The batch.
    objective : Objective
        What each of R runs wants.
    strongest : Strongest
        Is offered every point visited in the ball.
    rows, numbers : Tensor of shape (R,), int64
        The example and the number of each run; see `packed`.
    positions : Tensor of shape (N,), int64
        Of the examples in their data set, on the CPU.
    seed : int
        Of the experiment; a run's draws follow from it, its example's position and its number.
    steps : int
        Gradients to spend in each.
    early_stop : bool
        Let examples go as soon as they achieve the objective.
    at_once : int, optional
        Most runs at once; those of one number by default.
    visit : callable, optional
        Is told of every point visited.
    """

    def going(some: Tensor) -> Tensor:
        return ~strongest.achieved[some] if early_stop else torch.ones_like(some, dtype=torch.bool)

    for runs in packed(rows, numbers, going, at_once):
        some, own = rows[runs], Strongest(images[rows[runs]])
        draws = streams(positions[some.cpu()], seed, numbers[runs].tolist())
        climbers = images[some], ball[some], objective[runs], own, some, draws
        _climb(model, *climbers, steps=steps, early_stop=early_stop, visit=visit)
        for part in one_by_one(some, numbers[runs], going):
            strongest.offer(some[part], own.images_adv[part], own.achieved[part], own.values[part])


def _climb(
    model: nn.Module,
    images: Tensor,
    ball: Ball,
    objective: Objective,
    strongest: Strongest,
    rows: Tensor,
    draws: Iterator[torch.Generator],
    *,
    steps: int,
    early_stop: bool,
    visit: Visit | None,
) -> None:
    """Climb once in each of M runs, on the examples `rows`; `strongest` has a place for each."""

    def report(
        run: Run, wanted: Objective, logits: Tensor, step: int, in_ball: bool
    ) -> tuple[Tensor, Tensor]:
        """Offer the present points, tell the callback; return values, and who has achieved."""
        losses, achieved = wanted.losses(logits), wanted.achieved(logits)
        if in_ball:
            strongest.offer(run.rows, run.points, achieved, wanted.sign * losses)
        if visit is not None:
            visit(step, rows[run.rows], run.points, losses)
        return wanted.sign * losses, achieved

    shares = _WIDER if ball.norm == "l1" else ()
    larger = [(k * ball.epsilon, n) for k, share in shares if (n := int(share * steps)) > 0]
    radii = [*larger, (ball.epsilon, steps - sum(n for _, n in larger))]
    widest, done = replace(ball, epsilon=radii[0][0]), 0
    points = widest.perturb(images, widest.random(images, draws))
    places = torch.arange(len(rows), device=rows.device)
    for radius, number in radii:
        region, final = replace(ball, epsilon=radius).within(images), done + number == steps
        step_in = sparse_step if ball.norm == "l1" else dense_step
        run, wanted = begin(region, points, places), objective
        for step in range(number):
            logits, uphill = steepest_ascent(model, run.points, wanted)
            values, achieved = report(run, wanted, logits, done + step, final)
            run = run.arrive(values, uphill)
            if early_stop and final and achieved.any():
                going = ~superfluous(rows[run.rows], achieved)
                run = Run(*(part[going] for part in run))
                region, wanted = region[going], wanted[going]
                if not len(run.rows):
                    return
            run = step_in(run, region, step, number)
        points, done = run.best, done + number
    report(run, wanted, logits_of(model, run.points), steps, True)
