"""What would make an evaluation doubtful, looked for in the model before any attack."""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Loss
from within_epsilon.checks import check_images, check_labels, check_logits, check_model
from within_epsilon.evaluation.modes import training_modules
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.reports import Finding
from within_epsilon.runtime import untouched
from within_epsilon.threat import Ball, check_ball

# A tenth of the examples, so that one odd example is no finding.
_MANY = 0.1


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
        Takes images in [0, 1], returns logits (N, K).
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
        look = _Look(model, images.detach(), labels, ball, tuple(losses))
        return [finding for check in _CHECKS if (finding := check(look)) is not None]


@dataclass
class _Look:
    """What the checks look at; each part is computed when first asked for."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    ball: Ball
    losses: tuple[Loss, ...]
    writes: bool = False
    no_gradient: str = ""

    def answers(self, images: Tensor) -> Tensor:
        """Return the logits of a copy of images."""
        given = images.clone()
        with torch.no_grad():
            logits = check_logits(self.model(given), len(images))
        self.writes |= not torch.equal(given, images)
        return logits

    @functools.cached_property
    def logits(self) -> Tensor:
        return self.answers(self.images)

    @functools.cached_property
    def inside(self) -> Tensor:
        margin = torch.finfo(self.images.dtype).eps
        return self.images.clamp(margin, 1 - margin)

    @functools.cached_property
    def gradient(self) -> Tensor | None:
        """The margin loss's gradient just inside the box, (N, ...), or None."""
        return self.slope(self.inside, self.labels)

    def slope(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """Differentiate the margin loss in the pixels."""
        leaf = images.detach().requires_grad_()
        try:
            with torch.enable_grad():
                # Not the leaf itself, which a model could not write into.
                losses = margin_loss(self.model(leaf.clone()), labels)
                (gradient,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            self.no_gradient = str(error).splitlines()[0]
            return None
        return gradient

    def rise(self, there: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far the margin loss rises from here to there, as predicted and as it does."""
        assert self.gradient is not None
        predicted = (self.gradient.double() * (there.double() - here.double())).flatten(1).sum(1)
        rises = [margin_loss(self.answers(x).double(), self.labels) for x in (there, here)]
        return predicted, rises[0] - rises[1]

    def of(self, hits: Tensor) -> str:
        return f"{int(hits.sum())} of {len(hits)} examples"

    def many(self, hits: Tensor) -> bool:
        return bool(hits.any()) and int(hits.sum()) >= _MANY * len(hits)


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


def _training(look: _Look) -> Finding | None:
    return training(look.model)


def _random(look: _Look) -> Finding | None:
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


def _writes(look: _Look) -> Finding | None:
    if not look.writes:
        return None
    return Finding(
        "in-place writes",
        "the model writes into the images that it is given",
        "an attack that does not give it copies is judged on other images than it returns",
        "replace in-place operations on the input (mul_, inplace=True); the library gives copies",
        doubtful=False,
    )


def _probabilities(look: _Look) -> Finding | None:
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


def _impossible(look: _Look) -> Finding | None:
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


def _loss(look: _Look) -> Finding | None:
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


def _gradient(look: _Look) -> Finding | None:
    gradient = look.gradient
    if gradient is None:
        return _missing(look)
    bad = ~gradient.isfinite().flatten(1).all(dim=1)
    if bad.any():
        return Finding(
            "gradient not finite",
            f"the gradient has infinities or NaN for {look.of(bad)}",
            "attacks stop there, and these examples count as lost",
            "look for a logarithm of 0, a division by 0 or an overflowing exponential",
        )
    flat = (gradient == 0).flatten(1).all(dim=1)
    if look.many(flat):
        return Finding(
            "zero gradient",
            f"the gradient in the pixels is zero for {look.of(flat)}",
            "attacks that follow it stand still there, and the robust accuracy is too high",
            "replace rounding and thresholds by smooth stand-ins in the backward pass (BPDA), or "
            "try an attack without gradients",
        )
    return _at_bounds(look) or _prediction(look)


def _missing(look: _Look) -> Finding:
    integers = [
        name or type(module).__name__
        for name, module in look.model.named_modules()
        if "quantized" in type(module).__module__
    ]
    layers = f" (quantised: {', '.join(integers[:3])})" if integers else ""
    return Finding(
        "no gradient",
        f"the logits do not depend on the pixels by differentiable steps{layers}"
        + (f": {look.no_gradient}" if look.no_gradient else ""),
        "no attack that follows a gradient can run",
        "attack the model before it was quantised and transfer, look for detach(), no_grad(), "
        "argmax or NumPy, or use an attack that needs no gradient, such as square",
    )


def _at_bounds(look: _Look) -> Finding | None:
    """Compare gradients at pixels of exactly 0 or 1 with those a float inside."""
    some = slice(0, 8)
    images, inside = look.images[some], look.gradient[some]  # type: ignore[index]
    bound = ((images == 0) | (images == 1)) & (inside != 0)
    if not bound.any():
        return None
    there = look.slope(images, look.labels[some])
    if there is None:
        return None
    lost, elsewhere = there[bound] == 0, there[~bound & (inside != 0)] == 0
    if lost.double().mean() < 0.9 or (len(elsewhere) and elsewhere.double().mean() > 0.5):
        return None
    return Finding(
        "zero gradient at 0 and 1",
        f"the gradient is zero at {int(lost.sum())} of {len(lost)} pixels that are exactly 0 or 1, "
        "and not just inside",
        "attacks that differentiate there never move these pixels",
        "leave out a clamp in front of the model; the library differentiates just inside",
        doubtful=False,
    )


def _prediction(look: _Look) -> Finding | None:
    """Compare the loss's rise along the gradient with what the gradient predicts."""
    gradient, inside = look.gradient, look.inside
    assert gradient is not None
    length = gradient.double().flatten(1).norm(dim=1)
    scale = look.logits.double().nan_to_num(0, 0, 0).abs().amax(dim=1)
    # So short that few kinks lie between, so long that rounding is a hundredth of the rise.
    step = 300 * torch.finfo(inside.dtype).eps * scale / length
    reach = _reach(look)
    judged = (length > 0) & (step <= reach)
    if not judged.any():
        return None
    view = (-1, *[1] * (inside.ndim - 1))
    direction = gradient.double() / length.clamp(min=1e-300).view(view)
    delta = direction * step.clamp(max=1).nan_to_num(0).view(view)
    ends = [(inside.double() + sign * delta).clamp(0, 1).to(inside) for sign in (1, -1)]
    hits = judged & _apart(*look.rise(*ends), 2)
    if 2 * hits.sum() <= judged.sum():
        return None
    region = look.ball.within(look.images)
    far = region.clip(region.step(look.images, gradient, look.ball.epsilon / 2))
    hits &= _apart(*look.rise(far, look.images), 4)
    if 2 * hits.sum() <= judged.sum():
        return None
    predicted, risen = (part[hits].median().item() for part in look.rise(*ends))
    return Finding(
        "misleading gradient",
        f"for {look.of(hits)} the loss does not rise along the gradient as that predicts: by "
        f"{risen:.3g} in place of {predicted:.3g} (medians)",
        "attacks that follow it go astray, and the robust accuracy is too high",
        "look for a backward pass of one's own, shuffling or an inverted sign; try an attack "
        "without gradients",
    )


def _reach(look: _Look) -> float:
    """Return the Euclidean length of a change as large as the ball allows."""
    pixels = look.images[0].numel()
    return look.ball.epsilon * (pixels**0.5 if look.ball.norm == "linf" else 1)


def _apart(predicted: Tensor, risen: Tensor, factor: float) -> Tensor:
    """Tell where a rise is not what was predicted, up to a factor."""
    ratio = risen / predicted
    return ~((ratio >= 1 / factor) & (ratio <= factor))


_CHECKS: tuple[Callable[[_Look], Finding | None], ...] = (
    _training,
    _probabilities,
    _random,
    _impossible,
    _loss,
    _gradient,
    _writes,
)
