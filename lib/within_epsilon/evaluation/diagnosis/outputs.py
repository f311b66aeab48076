"""Outputs that are no logits: probabilities, sigmoids, what squeezes them, impossible classes."""

import torch

from within_epsilon.evaluation.diagnosis.look import Look
from within_epsilon.reports import Finding

# One output of the margin moves by less than this part of what the other does.
_BENT = 0.5


def check_range(look: Look) -> Finding | None:
    """Find outputs that keep to a range, which logits do not."""
    return _probabilities(look) or _saturated(look)


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
    if len(wide) < 2 or wide.shape[1] < 4:
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


def check_squeezed(look: Look) -> Finding | None:
    """Compare the slopes, at the margin's two outputs, of what stands between them and logits.

    A softsign, an arctan, a log-sigmoid, a ReLU or a clamp at the end bends every loss: the
    larger output hardly changes with its logit, or the smaller does not at all. Where logits
    come out as they are, or multiplied, the two slopes are the same.
    """
    if (
        check_range(look)
        or look.early_slopes is None
        or look.early_slopes.numel() != look.logits.numel()
    ):
        return None
    slopes = look.early_slopes.abs().view_as(look.logits)
    own = slopes.gather(1, look.labels.unsqueeze(1)).squeeze(1)
    rival = slopes.scatter(1, look.labels.unsqueeze(1), 0).amax(dim=1)
    hits = torch.minimum(own, rival) < _BENT * torch.maximum(own, rival)
    # Who is wrong already is not attacked, and may be so because the label's output is masked.
    hits &= look.logits.argmax(dim=1) == look.labels
    if not look.many(hits):
        return None
    return Finding(
        "saturated outputs",
        f"the largest outputs follow their logits by unlike parts for {look.of(hits)}, as after "
        "softsign, arctan, a log-sigmoid, a ReLU or a clamp",
        "they flatten every loss and hide its gradient",
        "return the logits, without what squeezes them",
    )


def check_impossible(look: Look) -> Finding | None:
    """Find classes whose logit is minus infinity."""
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
