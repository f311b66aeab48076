"""Verdicts: what became of an image, in a sentence."""

from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.attacks import Minimal, describe
from within_epsilon.models import Classifier
from within_epsilon.threat import Ball
from within_epsilon.wording import percent

# How far an attack may overstep epsilon by rounding before its result is refused.
_ROUNDING = 1e-5


def verdict(
    model: Classifier,
    image: Tensor,
    image_adv: Tensor,
    ball: Ball,
    attack: str | Callable[..., Tensor] = "PGD, 40 steps",
) -> str:
    """Say what became of an image, and under which threat model.

    Parameters
    ----------
    model : Classifier
        Names the classes.
    image, image_adv : Tensor of shape (1, C, H, W)
        The clean image and the perturbed one, pixels in [0, 1].
    ball : Ball
        The threat model.
    attack : str or callable
        What was done, in words, or the attack itself.

    Returns
    -------
    str
        Such as "Egyptian cat 86% → airliner 100%, l∞ ε = 2/255, PGD, 40 steps";
        percentages as in `wording.percent`.

    Raises
    ------
    TypeError, ValueError
        If there is more than one image, or the perturbed one is of another dtype or not
        within the ball.
    """
    if len(image) != 1 or image.shape != image_adv.shape:
        raise ValueError(
            f"image, image_adv: expected one image each, of shape (1, C, H, W), received "
            f"{tuple(image.shape)} and {tuple(image_adv.shape)}"
        )
    require_admitted(ball, image, image_adv)
    words = attack if isinstance(attack, str) else describe(attack)
    before, after = (model.predict(pixels, top=1)[0][0] for pixels in (image, image_adv))
    return (
        f"{before.category} {percent(before.probability)} → "
        f"{after.category} {percent(after.probability)}, {ball}, {words}"
    )


def require_admitted(ball: Ball, images: Tensor, images_adv: Tensor) -> None:
    """Require that the threat model allows what an attack returned.

    Raises
    ------
    TypeError
        If that is no tensor of the images' dtype.
    ValueError
        If its shape or device is another, a pixel leaves [0, 1], or a change the ball by
        more than rounding.
    """
    _require_alike(images, images_adv)
    admitted = ball.admits(images, images_adv, atol=_ROUNDING)
    if not admitted.all():
        lowest, highest = (extreme.item() for extreme in torch.aminmax(images_adv))
        raise ValueError(
            f"images_adv: expected pixels in [0, 1] and a change within {ball}, received pixels "
            f"in [{lowest:.4g}, {highest:.4g}] and a change of norm up to "
            f"{ball.length(images_adv - images).max().item():.4g}; end the attack with "
            "ball.perturb(images, delta)"
        )


def _require_alike(images: Tensor, images_adv: object) -> None:
    """Require what an attack returned to be a tensor of the same kind as the images."""
    if not isinstance(images_adv, Tensor):
        remedy = "return the adversarial images"
        if isinstance(images_adv, Minimal):
            remedy = "return its `.images_adv`, brought back with ball.within(images).clip(...)"
        raise TypeError(
            f"images_adv: expected a torch.Tensor, received {type(images_adv).__name__}; {remedy}"
        )
    if images_adv.dtype != images.dtype:
        raise TypeError(
            f"images_adv: expected the images' dtype {images.dtype}, received {images_adv.dtype}; "
            "convert with images_adv.to(images)"
        )
    if images_adv.shape != images.shape:
        raise ValueError(
            f"images_adv: expected the images' shape {tuple(images.shape)}, received "
            f"{tuple(images_adv.shape)}; return one adversarial image for each"
        )
    if images_adv.device != images.device:
        raise ValueError(
            f"images_adv: expected the images' device {images.device}, received "
            f"{images_adv.device}; move them with images_adv.to(images)"
        )
