"""Evaluation: how often a classifier is right, with and without an adversary."""

import warnings
from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe, input_gradient, settings, takes
from within_epsilon.checks import (
    Labelled,
    check_images,
    check_labels,
    check_logits,
    check_no_nan,
    warn_if_training,
)
from within_epsilon.models import Classifier
from within_epsilon.reports import RobustReport, wilson_interval
from within_epsilon.runtime import device_of, progress_bar
from within_epsilon.threat import Ball
from within_epsilon.wording import percent

__all__ = ["RobustReport", "accuracy", "robust_accuracy", "verdict", "wilson_interval"]

Data: TypeAlias = Labelled | tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]

# How far an attack may overstep epsilon by rounding before its result is refused.
_ROUNDING = 1e-5


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> float:
    """Measure the share of images that the model classifies as labelled.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        True classes.
    batch_size : int
        Images to classify at a time.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If images, labels or the model's outputs are unusable; see `checks`.
    """
    warn_if_training(model)
    device = device_of(model)
    hits = 0
    for batch, answers in _batches((images, labels), batch_size):
        hits += int(_is_right(model, batch.to(device), answers.to(device)).sum())
    return hits / len(images)


def robust_accuracy(
    model: nn.Module,
    data: Data,
    attack: Callable[..., Tensor],
    ball: Ball,
    *,
    batch_size: int = 256,
    progress: bool = True,
) -> RobustReport:
    """Measure how often the model is right although an adversary may change the image.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    data : Labelled, pair of Tensors, or iterable of such pairs
        A split, ``(images, labels)``, or a DataLoader. An example's place in it keys
        the attack's randomness, so a loader must not shuffle if results are to repeat.
    attack : callable
        ``attack(model, images, labels, ball)``, such as `attacks.fgsm` or
        ``functools.partial(pgd, steps=100)``; gets ``indices`` too if it takes them.
    ball : Ball
        The threat model.
    batch_size : int
        Images to attack at a time; a loader brings its own.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    RobustReport
        Accuracies, threat model, attack and sample count. Only examples classified
        correctly are attacked; the others count as lost.

    Raises
    ------
    ValueError
        If the data are unusable, the attack is targeted, or it leaves ball or [0, 1].

    Warns
    -----
    UserWarning
        If the model is in train mode, returns probabilities, or has no gradient: the
        attack then fails for another reason than robustness.
    """
    if settings(attack).get("targeted"):
        raise ValueError(
            "attack: expected an untargeted one, received targeted=True, which would lead "
            "images to their true classes; drop it"
        )
    warn_if_training(model)
    device = device_of(model)
    n = clean = robust = 0
    batches = _batches(data, batch_size)
    for images, labels in progress_bar(batches, show=progress, label="attacking", unit="batch"):
        images, labels = images.to(device), labels.to(device)
        right = _is_right(model, images, labels).nonzero().squeeze(1)
        if n == 0:
            _warn_of_masking(model, images, labels)
        if len(right):
            chosen = images[right], labels[right]
            images_adv = _run(attack, model, *chosen, ball, n + right)
            robust += int(_is_right(model, images_adv, chosen[1]).sum())
        n, clean = n + len(images), clean + len(right)
    if n == 0:
        raise ValueError("data: expected at least one example, received none")
    return RobustReport(clean / n, robust / n, ball, describe(attack), n)


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
    ValueError
        If there is more than one image, or the perturbed one is not within the ball.
    """
    if len(image) != 1 or image.shape != image_adv.shape:
        raise ValueError(
            f"image, image_adv: expected one image each, of shape (1, C, H, W), received "
            f"{tuple(image.shape)} and {tuple(image_adv.shape)}"
        )
    _require_admitted(ball, image, image_adv)
    words = attack if isinstance(attack, str) else describe(attack)
    before, after = (model.predict(pixels, top=1)[0][0] for pixels in (image, image_adv))
    return (
        f"{before.category} {percent(before.probability)} → "
        f"{after.category} {percent(after.probability)}, {ball}, {words}"
    )


@torch.no_grad()
def _is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images the model classifies as labelled, (N,)."""
    check_images(images)
    check_labels(labels, len(images))
    logits = check_logits(model(images), len(images))
    check_no_nan(logits)
    check_labels(labels, *logits.shape)
    return logits.argmax(dim=1) == labels


def _run(
    attack: Callable[..., Tensor],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    indices: Tensor,
) -> Tensor:
    """Call the attack, with `indices` if it takes them, and check what it returns."""
    extra = {"indices": indices} if takes(attack, "indices") else {}
    images_adv = attack(model, images, labels, ball, **extra)
    _require_admitted(ball, images, images_adv)
    return images_adv


def _require_admitted(ball: Ball, images: Tensor, images_adv: Tensor) -> None:
    admitted = ball.admits(images, images_adv, atol=_ROUNDING)
    if not admitted.all():
        lowest, highest = (extreme.item() for extreme in torch.aminmax(images_adv))
        raise ValueError(
            f"images_adv: expected pixels in [0, 1] and a change within {ball}, received pixels "
            f"in [{lowest:.4g}, {highest:.4g}] and a change of norm up to "
            f"{ball.length(images_adv - images).max().item():.4g}; end the attack with "
            "ball.perturb(images, delta)"
        )


def _warn_of_masking(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Warn of what makes gradient attacks fail where the model is not robust."""
    with torch.no_grad():
        outputs = check_logits(model(images), len(images))
    if outputs.min() >= 0 and (outputs.sum(dim=1) - 1).abs().max() < 1e-3:
        warnings.warn(
            "the model seems to return probabilities: softmax flattens the loss and hides its "
            "gradient; return the logits",
            stacklevel=3,
        )
    try:
        _, gradient = input_gradient(model, images, labels)
    except ValueError as error:
        warnings.warn(f"the model has no usable gradient: {error}", stacklevel=3)
        return
    flat = int((gradient == 0).flatten(1).all(dim=1).sum())
    if flat:
        warnings.warn(
            f"the gradient in the pixels is zero for {flat} of the first {len(images)} examples: "
            "attacks that follow it stand still there, and the robust accuracy is too high; try "
            "losses.margin_loss, or an attack without gradients",
            stacklevel=3,
        )


def _batches(data: Data, batch_size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Cut a split or a pair into batches; leave a loader as it is."""
    if isinstance(data, Labelled):
        images, labels = data.images, data.labels
    elif isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor):
        images, labels = data
    else:
        return cast("Iterable[tuple[Tensor, Tensor]]", data)
    check_labels(labels, len(images))
    columns = (torch.split(column, batch_size) for column in (images, labels))
    return list(zip(*columns, strict=True))
