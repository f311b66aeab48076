"""What would make an evaluation doubtful, looked for in the model before any attack."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Loss
from within_epsilon.checks import check_images, check_labels, check_model
from within_epsilon.evaluation.looking import Look
from within_epsilon.evaluation.slopes import check_gradient
from within_epsilon.losses import cross_entropy
from within_epsilon.modes import training_modules
from within_epsilon.reports import Finding
from within_epsilon.runtime import untouched
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
        Of modules in train mode, random answers, outputs that are probabilities or
        sigmoids, impossible classes, losses that are flat or of the wrong sign, and
        gradients that are missing, not finite, zero, zero where pixels are 0 or 1, or at
        odds with what the loss does. Empty if nothing was found, which proves nothing.

    Raises
    ------
    TypeError, ValueError
        If images, labels or the model's outputs are unusable; see `checks`.

    Notes
    -----
    Costs at most two gradients and five forward passes per example. The gradient is that of
    the margin loss, which no scale of the logits flattens, and it is taken just inside the
    box: at its faces, that of a clamp is zero. It is compared with the loss's rise along
    it, at a step as short as rounding allows, and, where they disagree, across the ball:
    a straight-through estimate is right there.
    """
    check_model(model)
    check_images(images)
    check_labels(labels, len(images))
    check_ball(ball)
    with untouched(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the model's own, which are not about this
        look = Look(model, images.detach(), labels, ball, tuple(losses))
        return [finding for check in _CHECKS if (finding := check(look)) is not None]


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
        "call model.eval() first",
    )


def _training(look: Look) -> Finding | None:
    return training(look.model)


def _random(look: Look) -> Finding | None:
    # On images that are not the first pass's: the two must differ by nothing but chance.
    logits, again = look.logits, look.answers(look.images)
    scale = logits.abs().nan_to_num(0, 0, 0).amax(dim=1).clamp(min=1e-6)
    apart = (logits - again).nan_to_num(0).abs().amax(dim=1)
    hits = apart > torch.finfo(logits.dtype).eps ** 0.5 * scale
    if not hits.any() or training_modules(look.model):
        return None
    return Finding(
        "randomness",
        f"two passes over the same images differ for {look.of(hits)}",
        "the model is random: an attack aims at another draw than it is judged by",
        "let the attack average gradients over draws, and the judge votes, and repeat it",
    )


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


def _probabilities(look: Look) -> Finding | None:
    wide = look.logits.double()
    within = ((wide >= 0) & (wide <= 1)).all()
    allowed = max(1e-3, torch.finfo(look.logits.dtype).eps / 2)
    sums_to_one = ((wide.sum(dim=1) - 1).abs() <= allowed).all()
    # That a few logits lie in [0, 1] may be chance.
    if not within or not (sums_to_one or wide.numel() >= 16):
        return None
    kind = "softmax" if sums_to_one else "sigmoids"
    return Finding(
        "probabilities",
        f"all outputs lie in [0, 1]{' and sum to 1' if sums_to_one else ''}, as after {kind}",
        "they flatten every loss and hide its gradient",
        f"return the logits, without the {kind}",
    )


def _impossible(look: Look) -> Finding | None:
    hits = look.logits.isneginf().any(dim=1)
    if not hits.any():
        return None
    return Finding(
        "impossible classes",
        f"a logit is -inf for {look.of(hits)}",
        "losses that add or subtract logits turn infinite or NaN there",
        "fill with -1e9 in place of -inf; the library's losses know such classes",
        doubtful=False,
    )


def _loss(look: Look) -> Finding | None:
    """Judge the losses by their slopes in the logits: no pass through the model is needed."""
    flat, wrong = [], []
    for loss in look.losses:
        slopes = _slopes(loss, look.logits, look.labels)
        if slopes is None:
            return None
        own = slopes.gather(1, look.labels.unsqueeze(1)).squeeze(1)
        flat.append((slopes == 0).all(dim=1))
        wrong.append(own > 0)
    hits = torch.stack(wrong).all(dim=0) if wrong else look.labels < 0
    if hits.double().mean() > 0.5:
        return Finding(
            "loss of the wrong sign",
            f"the loss rises with the true class's logit for {look.of(hits)}",
            "an attack that raises it makes the model more certain",
            "give minus this loss, or losses.margin_loss",
        )
    hits = torch.stack(flat).all(dim=0) if flat else look.labels < 0
    if not look.many(hits):
        return None
    return Finding(
        "flat loss",
        f"the loss does not change with the logits for {look.of(hits)}, which are up to "
        f"{look.logits.nan_to_num(0, 0, 0).abs().max().item():.3g} large",
        "attacks that follow it stand still there, and the robust accuracy is too high",
        "try losses.margin_loss, or an attack without gradients",
    )


def _slopes(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor | None:
    """Differentiate a loss in the logits; None if it is called otherwise, as one's own may be."""
    leaf = logits.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            values = loss(leaf, labels)
            (slopes,) = torch.autograd.grad(values.sum(), leaf)
    except (TypeError, AttributeError, RuntimeError, ValueError):
        return None
    return slopes


_CHECKS: tuple[Callable[[Look], Finding | None], ...] = (
    _training,
    _probabilities,
    _random,
    _impossible,
    _loss,
    check_gradient,
    _writes,
)
