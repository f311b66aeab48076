"""What would make an evaluation doubtful, looked for in the model before any attack."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Loss
from within_epsilon.checks import check_images, check_labels, check_model
from within_epsilon.evaluation.diagnosis.gradients import check_gradient
from within_epsilon.evaluation.diagnosis.look import Look
from within_epsilon.evaluation.diagnosis.losses import check_losses
from within_epsilon.evaluation.diagnosis.outputs import (
    check_impossible,
    check_range,
    check_squeezed,
)
from within_epsilon.losses import cross_entropy
from within_epsilon.modes import how_to_eval, training_modules
from within_epsilon.reports import Finding
from within_epsilon.runtime import in_full_precision, untouched
from within_epsilon.threat import Ball, check_ball


class DoubtfulEvaluationWarning(UserWarning):
    """The robust accuracy may say less about the model than about the evaluation."""


def diagnose(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    losses: Sequence[Loss] = (cross_entropy,),
) -> list[Finding]:
    """Look for what makes attacks on a model fail for another reason than its robustness.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Pixels in [0, 1]; a few dozen examples are enough.
    labels : Tensor of shape (N,), int64
        True classes.
    ball : Ball
        The threat model.
    losses : sequence of callable
        What the attacks will raise, each (logits, labels) -> (N,). A loss that is flat is
        found only if all of them are.

    Returns
    -------
    list of Finding
        Of modules in train mode, answers that are random or depend on the batch, outputs
        that are probabilities, sigmoids or saturated, impossible classes, losses that are flat,
        of the wrong sign, take all rivals alike or miss the nearest, and gradients that are
        missing, not finite, zero, zero where pixels are 0 or 1 or where the loss has a slope, or
        at odds with what it does. Empty if nothing was found, which proves nothing.

    Raises
    ------
    TypeError, ValueError
        If images, labels or the model's outputs are unusable; see `checks`.

    Notes
    -----
    Costs at most two gradients and four forward passes per example, unless something looks
    suspicious: that is then looked into. The gradient is that of the margin loss, which no
    scale of the logits flattens, and it is taken just inside the box: at its faces, that of a
    clamp is zero. It is compared with the loss's rise along it, at a step as short as rounding
    allows, and, where they disagree, across the ball: a straight-through estimate is right
    there. Steps of random signs are compared too, up to a factor, on 16 examples: a gradient
    that is lost at some pixels, rounded or moved may rise as it says along itself. In half
    precision, steps that are longer than rounding are too long: a float32 copy is looked at, if
    there can be one. What acts on each output alone, by autograd's graph, must not bend the margin.
    A loss that gives the nearest rival less than half of its weight is compared with the margin
    loss, by ten steps of PGD, on 8 examples or more.
    """
    check_model(model)
    check_images(images)
    check_labels(labels, len(images))
    check_ball(ball)
    with untouched(model), in_full_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the model's own, which are not about this
        look = Look(model, images.detach(), labels, ball, tuple(losses))
        return [finding for check in _CHECKS if (finding := check(look)) is not None]


def warn_of(findings: Iterable[Finding], stacklevel: int = 3) -> None:
    """Warn the caller's caller of what is doubtful."""
    for finding in findings:
        if finding.doubtful:
            warnings.warn(str(finding), DoubtfulEvaluationWarning, stacklevel=stacklevel)


def training(model: nn.Module) -> Finding | None:
    """Find modules in train mode whose answers depend on it."""
    names = training_modules(model)
    if not names:
        return None
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Finding(
        "train mode",
        f"in train mode is {shown}",
        "dropout and batch statistics change the answers, from batch to batch",
        how_to_eval(model, names),
    )


def _training(look: Look) -> Finding | None:
    assert look.logits is not None  # a model may switch its own mode when it is called
    return training(look.model)


def _random(look: Look) -> Finding | None:
    hits = _differ_elsewhere(look)
    look.steady = not hits.any()
    if look.steady or training_modules(look.model):
        return None
    if not _differ(look.logits, look.answers(look.images)).any():
        return Finding(
            "batch dependence",
            f"answers depend on the other images of the batch for {look.of(hits)}",
            "outcomes change with the batch size, the order and the part of the data",
            "normalise by fixed numbers (BatchNorm: running statistics, in eval mode), and let "
            "noise follow from the image, not from its place in the batch",
        )
    return Finding(
        "randomness",
        f"two passes over the same images differ for {look.of(hits)}",
        "the model is random: an attack aims at another draw than it is judged by",
        "let the attack average gradients over draws, and the judge votes, and repeat it",
    )


def _differ_elsewhere(look: Look) -> Tensor:
    """Tell which images get another answer among others than before, (N,)."""
    images, logits, half = look.images, look.logits, len(look.images) // 2
    if not half:
        return _differ(logits, look.answers(torch.cat([1 - images, images]))[1:])
    # The second half alone: all that an answer could depend on is another there.
    hits = _differ(logits[half:], look.answers(images[half:]))
    first = torch.zeros(half, dtype=torch.bool, device=hits.device)
    if hits.any():
        first = _differ(logits[:half], look.answers(images[:half]))
    return torch.cat([first, hits])


def _differ(logits: Tensor, others: Tensor) -> Tensor:
    """Tell which rows differ by more than rounding, (N,)."""
    scale = logits.abs().nan_to_num(0, 0, 0).amax(dim=1).clamp(min=1e-6)
    apart = (logits - others).nan_to_num(0).abs().amax(dim=1)
    unlike = (logits.isnan() != others.isnan()).any(dim=1)
    differ: Tensor = unlike | (apart > torch.finfo(logits.dtype).eps ** 0.5 * scale)
    return differ


def _writes(look: Look) -> Finding | None:
    if not look.writes:
        return None
    return Finding(
        "in-place writes",
        "the model writes into the images that it is given",
        "an attack that does not give it copies is judged on other images than it returns",
        "replace in-place operations on the input (mul_, inplace=True); the library gives copies",
        doubtful=False,
    )


_CHECKS: tuple[Callable[[Look], Finding | None], ...] = (
    _training,
    check_range,
    _random,
    check_impossible,
    check_losses,
    check_gradient,
    check_squeezed,
    _writes,
)
