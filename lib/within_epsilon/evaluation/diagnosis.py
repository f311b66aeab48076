"""What would make an evaluation doubtful, looked for in the model before any attack."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Loss
from within_epsilon.checks import check_images, check_labels, check_model
from within_epsilon.evaluation.looking import Look
from within_epsilon.evaluation.slopes import check_gradient
from within_epsilon.evaluation.squeezed import check_squeezed
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
        of the wrong sign or take all rivals alike, and gradients that are missing, not finite,
        zero, zero where pixels are 0 or 1 or where the loss has a slope, or at odds with what
        it does. Empty if nothing was found, which proves nothing.

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


def _saturated(look: Look) -> Finding | None:
    """Find outputs that gather at the ends of their range, which logits do not."""
    logits = look.logits.double().nan_to_num(0, 0, 0)
    # A class that is never possible is constant.
    wide = logits[:, (logits != logits[:1]).any(dim=0)]
    if len(wide) < 2 or wide.shape[1] < 4 or _probabilities(look) is not None:
        return None
    low, high = wide.aminmax(dim=1, keepdim=True)
    # Not exactly there, as scores of 0 are.
    gap = torch.minimum(wide - low, high - wide)
    near = (gap > 0) & (gap <= 0.05 * (high - low))
    hits = near.sum(dim=1) > 0.5 * (wide.shape[1] - 2)
    if 4 * hits.sum() <= len(hits):
        return None
    return Finding(
        "saturated outputs",
        f"most outputs lie at the ends of their range for {look.of(hits)}, as after sigmoids, tanh "
        "or a clamp",
        "they flatten every loss and hide its gradient",
        "return the logits, without what squeezes them",
    )


def _squeezed(look: Look) -> Finding | None:
    return None if _probabilities(look) or _saturated(look) else check_squeezed(look)


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
    flat, wrong, even = [], [], []
    for loss in look.losses:
        slopes = _slopes(loss, look.logits, look.labels)
        if slopes is None:
            return None
        own = slopes.gather(1, look.labels.unsqueeze(1)).squeeze(1)
        flat.append((slopes == 0).all(dim=1))
        wrong.append(own > 0)
        even.append(_even(slopes, look.labels))
    hits = torch.stack(wrong).all(dim=0) if wrong else look.labels < 0
    if hits.double().mean() > 0.5:
        return Finding(
            "loss of the wrong sign",
            f"the loss rises with the true class's logit for {look.of(hits)}",
            "an attack that raises it makes the model more certain",
            "give minus this loss, or losses.margin_loss",
        )
    hits = torch.stack(flat).all(dim=0) if flat else look.labels < 0
    alike = torch.stack(even).all(dim=0) if even else look.labels < 0
    alike &= _spread(look.logits) < 2
    # Squeezed outputs are said by themselves.
    if 2 * alike.sum() > len(alike) and not (_probabilities(look) or _saturated(look)):
        return Finding(
            "small logits",
            f"the loss weighs all other classes alike for {look.of(alike)}, whose logits differ by "
            f"{_spread(look.logits).median().item():.2g} (median)",
            "an attack that follows it heads for none of them, and the robust accuracy is too high",
            "return the logits, not squeezed or divided; try losses.margin_loss, or autoattack",
        )
    if not look.many(hits):
        return None
    return Finding(
        "flat loss",
        f"the loss does not change with the logits for {look.of(hits)}, which are up to "
        f"{look.logits.nan_to_num(0, 0, 0).abs().max().item():.3g} large",
        "attacks that follow it stand still there, and the robust accuracy is too high",
        "try losses.margin_loss, or an attack without gradients",
    )


def _even(slopes: Tensor, labels: Tensor) -> Tensor:
    """Tell for which examples a loss weighs all classes but the true one alike, (N,)."""
    rivals = slopes.double().scatter(1, labels.unsqueeze(1), 0).abs()
    # Of two or three classes the others are too few to compare.
    most = 1.6 / (rivals.shape[1] - 1) if rivals.shape[1] > 3 else 0
    return rivals.amax(dim=1) < most * rivals.sum(dim=1)


def _spread(logits: Tensor) -> Tensor:
    """Return how far apart the logits of each example are, (N,)."""
    return logits.amax(dim=1) - logits.amin(dim=1)


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
    _saturated,
    _random,
    _impossible,
    _loss,
    check_gradient,
    _squeezed,
    _writes,
)
