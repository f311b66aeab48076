"""Universal perturbations: one change that fools a model on most images."""

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Callback, Loss, input_gradient
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import per_pixel
from within_epsilon.losses import margin_loss
from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball


@attack("universal perturbation", "universal")
def universal_perturbation(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    step_size: float | None = None,
    cap: float = 5.0,
    targeted: bool = False,
    loss: Loss = margin_loss,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    r"""Look for one perturbation that fools the model on as many images as possible.

    .. math:: \max_{\|\delta\| \le \epsilon} \frac1N \sum_i
              \min\bigl( \ell(h(\mathrm{clip}_{[0, 1]}(x_i + \delta)), y_i),\; \kappa \bigr)

    Stochastic gradient ascent in delta: each step follows the mean gradient of a minibatch
    in its steepest direction, then projects onto the ball. The cap keeps images that are
    fooled already from outweighing the others.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1], to learn from; measure the result on others.
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    ball : Ball
        The threat model.
    epochs : int
        Passes over the images, >= 1.
    batch_size : int
        Images to a step, >= 1.
    step_size : float, optional
        Length of the first step in the ball's norm, falling linearly to a tenth; by
        default half of epsilon.
    cap : float
        kappa: an image whose loss has reached it pulls no more; for targeted attacks, one
        whose loss has fallen to -kappa.
    targeted : bool
        Lower the loss of the targets instead of raising that of the true classes.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise.
    seed : int
        Seed of the order of the images.
    callback : callable, optional
        ``callback(step, delta, losses)`` at every step, with the perturbation and the
        minibatch's losses under it.

    Returns
    -------
    Tensor of shape (1, ...)
        The perturbation: within the ball, detached, in the images' dtype. Apply it as
        ``ball.perturb(images, delta.expand_as(images))``, which clips to [0, 1].

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), epochs or
        batch_size < 1, or step_size not positive.

    Notes
    -----
    This is the stochastic-gradient form of Shafahi and others, simpler and stronger than
    the original, which adds up DeepFool's steps image by image. Their loss is
    cross-entropy, capped likewise.

    References
    ----------
    Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal Adversarial Perturbations", CVPR
    2017.
    Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal Adversarial Training", AAAI
    2020, Algorithm 2 and equation 4.
    """
    if ball.mask is not None and len(ball.mask) > 1:
        raise ValueError("mask: expected one for all images, for there is one perturbation")
    if step_size is None:
        step_size = ball.epsilon / 2
    sign = -1 if targeted else 1
    (generator,) = example_generators([0], seed)
    delta = torch.zeros_like(images[:1])
    batches = -(-len(images) // batch_size)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for number, rows in enumerate(order.split(batch_size)):
            step = epoch * batches + number
            moved = images[rows] + delta
            losses, gradient = input_gradient(model, moved.clamp(0, 1), labels[rows], loss)
            if callback is not None:
                callback(step, delta.clone(), losses)
            # A pixel clipped at its edge does not feel delta.
            pulls = (moved >= 0) & (moved <= 1) & per_pixel(sign * losses < cap, images)
            uphill = sign * (gradient * pulls).mean(dim=0, keepdim=True)
            length = step_size * (1 - 0.9 * step / (epochs * batches))
            delta = ball.project(delta + length * ball.steepest(uphill))
    return delta
