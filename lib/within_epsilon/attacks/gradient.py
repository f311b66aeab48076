"""Attacks that follow the gradient of the loss in the input: FGSM and PGD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.common import (
    Aim,
    Loss,
    Worst,
    check_call,
    check_counts,
    follow,
    input_gradient,
    per_pixel,
    score,
)
from within_epsilon.attacks.noise import starting_points
from within_epsilon.checks import check_indices
from within_epsilon.geometry import double
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball, check_ball

# (step, images_adv, losses), called at every point that PGD visits.
Callback = Callable[[int, Tensor, Tensor], None]


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    targeted: bool = False,
    loss: Loss = cross_entropy,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
) -> Tensor:
    r"""Attack with the fast gradient sign method: one step, as long as the ball is wide.

    .. math:: x' = \mathrm{clip}_{[0, 1]}\bigl(x + \epsilon\, d\bigr), \quad
              d = \arg\max_{\|d\| \le 1} \langle \nabla_x \ell(h(x), y), d \rangle

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    ball : Ball
        The threat model. For linf, d is the gradient's sign, as in the paper. For l1 the
        step moves the steepest pixels, each as far as [0, 1] lets it.
    targeted : bool
        Descend the loss of the target instead of ascending that of the true class.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise.
    seed, indices
        Without effect: nothing here is random. All attacks take them.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached. A heuristic: a lower bound
        on the worst loss.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable; see `checks`.

    References
    ----------
    Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR
    2015, section 4. l2 and l1 are the same step by another norm.
    """
    check_ball(ball)
    images = check_call(model, images, labels, loss)
    _, gradient = input_gradient(model, images, labels, loss)
    uphill = -gradient if targeted else gradient
    return ball.within(images).step(images, uphill, ball.epsilon)


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
        Takes images in [0, 1], returns logits (N, K).
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
    many pixels as it takes to spend its length within [0, 1], see `Region.steepest`; l2 and
    l1 starts are drawn nearer to the image than uniformly, see `starting_points`.

    With momentum mu, d_t is steepest for v_t = mu v_{t-1} + g_t / ||g_t||_1 in place of
    the gradient g_t, from v_0 = 0: gradients count by their direction, not their size.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2.1. Momentum: Dong et al., "Boosting
    Adversarial Attacks with Momentum", CVPR 2018, Algorithm 1.
    """
    check_ball(ball)
    images = check_call(model, images, labels, loss)
    check_counts(steps=steps, restarts=restarts)
    if step_size is None:
        step_size = 2.5 * ball.epsilon / steps
    elif step_size <= 0:
        raise ValueError(
            f"step_size: expected a length > 0, received {step_size}; "
            "to descend towards a class, set targeted=True"
        )
    if momentum < 0:
        raise ValueError(f"momentum: expected a number >= 0, received {momentum}")
    positions = check_indices(indices, len(images))
    aim, region, worst = Aim(labels, loss, targeted=targeted), ball.within(images), Worst(images)
    for restart in range(restarts):
        images_adv = images
        if random_start or restart > 0:
            images_adv = starting_points(
                images, ball, restart=restart, seed=seed, indices=positions
            )
        direction = None
        for step in range(steps):
            logits, gradient = follow(model, images_adv, aim)
            if callback is not None:
                callback(step, images_adv.clone(), aim.losses(logits))
            direction = _remember(direction, aim.gains(gradient), momentum)
            images_adv = region.step(images_adv, direction, step_size)
        if restarts == 1 and callback is None:
            return images_adv  # nobody asks for the score of the only candidate
        losses, reached = score(model, images_adv, aim)
        everyone = torch.arange(len(images), device=images.device)
        worst.offer(everyone, images_adv, reached, aim.gains(losses))
        if callback is not None:
            callback(steps, images_adv.clone(), losses)
    return worst.images_adv


def _remember(past: Tensor | None, gradient: Tensor, momentum: float) -> Tensor:
    """Add a normalised gradient to what is left of the past ones."""
    if momentum == 0:
        return gradient  # no step depends on its length
    wide = double(gradient)
    sizes = wide.abs().flatten(1).sum(dim=1).clamp_(min=torch.finfo(wide.dtype).tiny)
    unit = wide / per_pixel(sizes, wide)
    return unit if past is None else unit.add_(past, alpha=momentum)
