"""Attacks on models that may refuse to answer: to be refused is no success.

Such a model has one class more than the data, which means "none of these". To an attack that
does not know it, an image that is refused is simply wrong, and it stops content.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.registry import accepted
from within_epsilon.checks import check_labels, check_logits
from within_epsilon.geometry import per_pixel
from within_epsilon.threat import Ball


def unnoticed_margin(logits: Tensor, labels: Tensor, *, reject: int = -1) -> Tensor:
    r"""Compute by how much another class wins over the true one and over the refusal.

    .. math:: \max_{j \ne y, r} z_j - \max(z_y, z_r)

    Parameters
    ----------
    logits : Tensor of shape (N, k + 1), k >= 2
        The model's outputs.
    labels : Tensor of shape (N,), int64
        The true classes y.
    reject : int
        The class r that means "none of these"; negative from the end.

    Returns
    -------
    Tensor of shape (N,)
        Above 0 exactly where the model answers, and wrongly: a loss for attacks to raise.

    Raises
    ------
    TypeError, ValueError
        If logits or labels have the wrong type, shape or range, or there is no such class.

    References
    ----------
    In the manner of Carlini, Wagner, "Adversarial Examples Are Not Easily Detected", AISec
    2017, section 3.
    """
    check_logits(logits)
    check_labels(labels, *logits.shape)
    refused = torch.full_like(labels, _place(reject, logits.shape[1]))
    barriers = torch.stack([labels, refused], dim=1)
    rival = logits.scatter(1, barriers, -torch.inf).amax(dim=1)
    return rival - logits.gather(1, barriers).amax(dim=1)


def unnoticed(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    attack: Callable[..., Tensor],
    reject: int = -1,
    seed: int | None = None,
    indices: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """Attack a model that may refuse; give up where it does.

    Judged by "another class than the label", as `evaluation.robust_accuracy` judges, the
    result fools whom it fools unnoticed: where the model refuses what the attack has found,
    the clean image is returned.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k + 1).
    images, labels, ball, indices
        As for the attack.
    attack : callable
        ``attack(model, images, labels, ball)``; give it `unnoticed_margin` for a loss, or it
        is content to be refused.
    reject : int
        The class that means "none of these"; negative from the end.
    seed : int, optional
        Given to the attack if it takes one.

    Returns
    -------
    Tensor of shape (N, ...)
        The attack's images, or clean ones.

    Raises
    ------
    TypeError, ValueError
        As the attack.
    """
    options = accepted(attack, seed=seed, indices=indices)
    images_adv = attack(model, images.clone(), labels, ball, **options)
    with torch.no_grad():
        logits = check_logits(model(images_adv.clone()), len(images))
    refused = logits.argmax(dim=1) == _place(reject, logits.shape[1])
    return torch.where(per_pixel(refused, images), images, images_adv)


def _place(reject: int, classes: int) -> int:
    if not -classes <= reject < classes or classes < 3:
        raise ValueError(
            f"reject: expected one of the model's classes, at least 3 of them, received {reject} "
            f"and {classes} classes; -1 is the last"
        )
    return reject % classes
