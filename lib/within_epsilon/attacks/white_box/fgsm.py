"""FGSM: one step, as long as the ball is wide."""

from collections.abc import Sequence

from torch import Tensor, nn

from within_epsilon.attacks.core.objective import (
    Callback,
    Loss,
    Objective,
    logits_of,
    steepest_ascent,
)
from within_epsilon.attacks.core.registry import attack
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball


@attack("FGSM", "white box")
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
    callback: Callback | None = None,
) -> Tensor:
    r"""Attack with the fast gradient sign method: one step, as long as the ball is wide.

    .. math:: x' = \mathrm{clip}_{[0, 1]}\bigl(x + \epsilon\, d\bigr), \quad
              d = \arg\max_{\|d\| \le 1} \langle \nabla_x \ell(h(x), y), d \rangle

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
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
        Without effect: nothing here is random. They are here so that attacks can be exchanged.
    callback : callable, optional
        ``callback(step, images_adv, losses)`` at the start and the end, as in `pgd`.

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
    objective = Objective(labels, loss, targeted)
    logits, uphill = steepest_ascent(model, images, objective)
    images_adv = ball.within(images).step(images, uphill, ball.epsilon)
    if callback is not None:
        callback(0, images.clone(), objective.losses(logits))
        callback(1, images_adv.clone(), objective.losses(logits_of(model, images_adv)))
    return images_adv
