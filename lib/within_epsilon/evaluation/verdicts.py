"""Verdicts: what became of an image, in a sentence."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import check_admitted, describe
from within_epsilon.checks import check_images, check_logits, check_model
from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import untouched
from within_epsilon.threat import Ball
from within_epsilon.wording import with_share


def verdict(
    model: nn.Module,
    image: Tensor,
    image_adv: Tensor,
    ball: Ball,
    attack: str | Callable[..., Tensor] | None = None,
) -> str:
    """Say what became of an image, and under which threat model.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits. A `models.Classifier` names the classes; those
        of another module are numbers.
    image, image_adv : Tensor of shape (1, ...)
        The clean image and the perturbed one, pixels in [0, 1].
    ball : Ball
        The threat model.
    attack : str or callable, optional
        What was done, in words, or the attack itself. Without it, none is named.

    Returns
    -------
    str
        Such as "Egyptian cat 86% → airliner 100%, ℓ∞ ε = 2/255, PGD, 40 steps", or
        "9 (100%) → 3 (99.9%), …" of digits; see `wording.with_share`.

    Raises
    ------
    TypeError, ValueError
        If there is more than one image, or the perturbed one is of another dtype or not
        within the ball.
    """
    check_model(model)
    check_images(image)
    if len(image) != 1 or image.shape != image_adv.shape:
        raise ValueError(
            f"image, image_adv: expected one image each, of shape (1, C, H, W), received "
            f"{tuple(image.shape)} and {tuple(image_adv.shape)}"
        )
    check_admitted(ball, image, image_adv)
    warn_if_training(model)
    with untouched(model):
        before, after = (_answer(model, pixels) for pixels in (image, image_adv))
    words = [f"{before} → {after}", str(ball)]
    if attack is not None:
        words.append(attack if isinstance(attack, str) else describe(attack))
    return ", ".join(words)


@torch.no_grad()
def _answer(model: nn.Module, image: Tensor) -> str:
    """Return the most probable class of an image and its probability."""
    logits = check_logits(model(image.clone()), 1)
    probability, index = logits.cpu().double().softmax(dim=1)[0].max(dim=0)
    categories = getattr(model, "categories", ()) or ()
    name = categories[int(index)] if len(categories) else str(int(index))
    return with_share(name, probability.item())
