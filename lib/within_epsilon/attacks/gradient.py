"""Attacks that follow the gradient of the loss in the input: FGSM and PGD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.common import Loss, Worst, check_call, input_gradient
from within_epsilon.checks import check_indices
from within_epsilon.losses import cross_entropy
from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball

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
        The threat model. For linf, d is the gradient's sign, as in the paper.
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
    images = check_call(model, images, labels, loss)
    _, gradient = input_gradient(model, images, labels, loss)
    return _step(ball, images, images, gradient, -ball.epsilon if targeted else ball.epsilon)


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
        Start the first run at a random point of the ball instead of the clean image.
        All further runs start at random.
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
        If images, labels, logits or gradient are unusable (see `checks`), or steps,
        restarts or step_size not positive.

    Notes
    -----
    Besides the projection of `Ball.perturb`, one deviation from the paper: an l1 step,
    which moves a single pixel, passes over pixels that are stuck at 0 or 1.

    References
    ----------
    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018, section 2.1.
    """
    images = check_call(model, images, labels, loss)
    for name, number in (("steps", steps), ("restarts", restarts)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, received {number}")
    if step_size is None:
        step_size = 2.5 * ball.epsilon / steps
    elif step_size <= 0:
        raise ValueError(
            f"step_size: expected a length > 0, received {step_size}; "
            "to descend towards a class, set targeted=True"
        )
    positions = check_indices(indices, len(images))
    ascent = -step_size if targeted else step_size
    worst = Worst(targeted)
    for restart in range(restarts):
        images_adv = images
        if random_start or restart > 0:
            start = ball.random(images, example_generators(positions, seed, restart))
            images_adv = ball.perturb(images, start)
        for step in range(steps):
            losses, gradient = input_gradient(model, images_adv, labels, loss)
            if callback is not None:
                callback(step, images_adv.clone(), losses)
            images_adv = _step(ball, images, images_adv, gradient, ascent)
        if restarts == 1 and callback is None:
            return images_adv  # nobody asks for the score of the only candidate
        losses = worst.offer(model, images_adv, labels, loss)
        if callback is not None:
            callback(steps, images_adv.clone(), losses)
    return worst.images_adv


@torch.no_grad()
def _step(
    ball: Ball, images: Tensor, images_adv: Tensor, gradient: Tensor, ascent: float
) -> Tensor:
    """Move along the steepest direction by `ascent`, then back into ball and [0, 1]."""
    if ball.norm == "l1":
        uphill = gradient * ascent
        stuck = ((images_adv <= 0) & (uphill < 0)) | ((images_adv >= 1) & (uphill > 0))
        gradient = gradient.masked_fill(stuck, 0.0)
    delta = (images_adv - images).add_(ball.steepest(gradient), alpha=ascent)
    return ball.perturb(images, delta)
