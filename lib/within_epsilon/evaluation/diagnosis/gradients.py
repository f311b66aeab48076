"""What may be wrong with a model's gradient in the pixels."""

import torch
from torch import Tensor

from within_epsilon.evaluation.diagnosis.directions import check_across, check_dead
from within_epsilon.evaluation.diagnosis.look import Look, per_row, possible
from within_epsilon.reports import Finding


def check_gradient(look: Look) -> Finding | None:
    """Find the first thing that is wrong with the margin loss's gradient in the pixels."""
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
    found = _at_bounds(look) or _prediction(look)
    if found is None or found.name != "misleading gradient":
        return found or _in_single_precision(look)
    # Half precision anywhere inside makes stairs of an honest slope.
    copied = look.in_single_precision(anywhere=True)
    return found if copied is None or copied.gradient is None else _prediction(copied)


def _missing(look: Look) -> Finding:
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


def _at_bounds(look: Look) -> Finding | None:
    """Compare gradients at pixels of exactly 0 or 1 with those a float inside."""
    there = look.at_faces
    assert there is not None
    images, inside = look.images[: len(there)], look.gradient[: len(there)]  # type: ignore[index]
    bound = ((images == 0) | (images == 1)) & (inside != 0)
    if not bound.any():
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


def _prediction(look: Look) -> Finding | None:
    """Compare the loss's rises with what the gradient predicts: along it, and across it."""
    along = _along(look)
    if along is None:
        return None
    hits, judged, (predicted, risen) = along
    most = 2 * int(hits.sum()) > int(judged.sum())
    # A model that answers anew each time has rises by chance.
    if not (look.many(hits) if look.steady else most):
        return check_across(look, risen / predicted)
    region = look.ball.within(look.images)
    assert look.gradient is not None
    far = region.clip(region.step(look.images, look.gradient, look.ball.epsilon / 2))
    at_end = look.rise(far, look.images)
    hits &= _apart(*at_end, 4)
    enough = 2 * int(hits.sum()) > int(judged.sum())
    if not enough and look.steady:
        # Of many, a loss that bends upwards, as a softmax does, is none that fell short.
        hits &= at_end[1] < at_end[0] / 4
        if most:
            # A straight-through estimate misleads some, but leads none the other way.
            hits &= (risen < -predicted / 2) & (at_end[1] < 0)
        enough = look.many(hits) and int(hits.sum()) >= min(2, len(hits))
    if not enough:
        # A straight-through estimate, if the loss has no slope of its own.
        stepped = most and 2 * (risen == 0).sum() >= len(risen)
        return check_dead(look) if stepped else check_across(look, risen / predicted)
    return Finding(
        "misleading gradient",
        f"for {look.of(hits)} the loss does not rise along the gradient as that predicts: by "
        f"{risen[hits].median().item():.3g} in place of {predicted[hits].median().item():.3g} "
        "(medians)",
        "attacks that follow it go astray, and the robust accuracy is too high",
        "look for a backward pass of one's own, shuffling or an inverted sign; try an attack "
        "without gradients",
    )


def _in_single_precision(look: Look) -> Finding | None:
    """Predict a half-precision model's rises by a copy in float32: its own are mostly rounding."""
    copied = look.in_single_precision()
    if copied is None or copied.gradient is None or not copied.gradient.isfinite().all():
        return None
    return _prediction(copied)


def _along(look: Look) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]] | None:
    """Tell for which examples the rise along the gradient is another than predicted.

    Returns
    -------
    hits, judged : Tensor of shape (N,), bool
        Whom it holds for, and whose rise is larger than rounding within the ball.
    rises : tuple of Tensor of shape (N,)
        As predicted and as found. None in place of all, if nobody can be judged.
    """
    gradient, inside = look.gradient, look.inside
    assert gradient is not None
    length = gradient.double().flatten(1).norm(dim=1)
    # So short that few kinks lie between, so long that rounding is a hundredth of the rise.
    step = 300 * torch.finfo(inside.dtype).eps * look.scale / length
    assert look.losses_inside is not None
    judged = (length > 0) & (step <= _reach(look)) & possible(look.losses_inside)
    if not judged.any():
        return None
    direction = gradient.double() / per_row(length.clamp(min=1e-300), inside)
    delta = direction * per_row(step.clamp(max=1).nan_to_num(0), inside)
    rises = look.rise((inside.double() + delta).clamp(0, 1).to(inside), inside)
    return judged & _apart(*rises, 2), judged, rises


def _reach(look: Look) -> float:
    """Return the Euclidean length of a change as large as the ball allows."""
    pixels = look.images[0].numel()
    return look.ball.epsilon * (pixels**0.5 if look.ball.norm == "linf" else 1)


def _apart(predicted: Tensor, risen: Tensor, factor: float) -> Tensor:
    """Tell where a rise is not what was predicted, up to a factor."""
    ratio = risen / predicted
    return ~((ratio >= 1 / factor) & (ratio <= factor))
