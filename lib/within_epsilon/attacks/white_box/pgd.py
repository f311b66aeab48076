"""PGD: many short steps up the loss, each brought back into the ball."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.black_box.noise import starting_points
from within_epsilon.attacks.core.objective import (
    Callback,
    Loss,
    Objective,
    Strongest,
    logits_of,
    steepest_ascent,
)
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import divisor, double, per_pixel
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball


@attack("PGD", "white box")
def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    momentum: float = 0.0,
    targeted: bool = False,
    loss: Loss = cross_entropy,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Attack with projected gradient descent: many short steps, each brought back.

    .. math:: x_{t+1} = \Pi\bigl(x_t + \alpha\, d_t\bigr), \quad
              d_t = \arg\max_{\|d\| \le 1} \langle \nabla_x \ell(h(x_t), y), d \rangle

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
        Gradient steps of each run, >= 1.
    step_size : float, optional
        Length of a step in the ball's norm, in pixel units; 2.5 epsilon / steps by
        default, enough to cross the ball.
    restarts : int
        Independent runs, >= 1; the worst end point of each example is kept.
    random_start : bool
        Start the first run at a random point of the ball (`starting_points`) instead of the
        clean image. All further runs start at random.
    momentum : float
        How much of its past directions a run remembers, >= 0: mu in the notes; 1 in
        the paper that proposes it, 0 for none.
    targeted : bool
        Descend the loss of the target instead of ascending that of the true class.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(step, images_adv, losses)`` at every point visited: the start as
        step 0, then 1 ... steps, the last iterate included; again from 0 in every
        restart.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached: the last iterates, and of
        several restarts, one that fools the model if there is any, then the one of
        the largest loss (smallest, if targeted). A heuristic: a lower bound on the
        worst loss.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), steps,
        restarts or step_size not positive, or momentum negative.

    Notes
    -----
    Deviations from the paper: the projection is that of `Ball.perturb`; an l1 step moves as
    many pixels as it takes to spend its length within [0, 1], see `Region.step`; l2 and
    l1 starts are drawn nearer to the image than uniformly, see `starting_points`.

    With momentum mu, d_t is steepest for v_t = mu v_{t-1} + g_t / ||g_t||_1 in place of
    the gradient g_t, from v_0 = 0: gradients count by their direction, not their size.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2.1. Momentum: Dong et al., "Boosting
    Adversarial Attacks with Momentum", CVPR 2018, Algorithm 1.
    """
    if step_size is None:
        step_size = 2.5 * ball.epsilon / steps
    if momentum < 0:
        raise ValueError(f"momentum: expected a number >= 0, received {momentum}")
    objective, region = Objective(labels, loss, targeted), ball.within(images)
    everyone, strongest = torch.arange(len(images), device=images.device), Strongest(images)
    for restart in range(restarts):
        images_adv, velocity = images, None
        if random_start or restart > 0:
            images_adv = starting_points(
                images, ball, restart=restart, seed=seed, indices=indices, region=region
            )
        for step in range(steps):
            logits, uphill = steepest_ascent(model, images_adv, objective)
            if callback is not None:
                callback(step, images_adv.clone(), objective.losses(logits))
            if momentum > 0:
                uphill = velocity = _accumulate(velocity, uphill, momentum)
            images_adv = region.step(images_adv, uphill, step_size)
        if restarts == 1 and callback is None:
            return images_adv  # nobody asks for the score of the only candidate
        logits = logits_of(model, images_adv)
        losses, achieved = objective.losses(logits), objective.achieved(logits)
        strongest.offer(everyone, images_adv, achieved, objective.sign * losses)
        if callback is not None:
            callback(steps, images_adv.clone(), losses)
    return strongest.images_adv


def _accumulate(velocity: Tensor | None, uphill: Tensor, momentum: float) -> Tensor:
    """Add a normalised gradient to what is left of the past ones."""
    wide = double(uphill)
    sizes = divisor(wide.abs().flatten(1).sum(dim=1))
    unit = wide / per_pixel(sizes, wide)
    return unit if velocity is None else unit.add_(velocity, alpha=momentum)
