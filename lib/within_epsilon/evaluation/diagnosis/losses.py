"""Losses that are flat, of the wrong sign, take all rivals alike, or miss the nearest."""

import torch
from torch import Tensor

from within_epsilon.attacks import Loss, pgd
from within_epsilon.evaluation.diagnosis.look import Look
from within_epsilon.evaluation.diagnosis.outputs import check_range
from within_epsilon.losses import margin_loss
from within_epsilon.reports import Finding

# Where the nearest rival has less than this share of the weight, steps are taken to see whether
# that costs anything; so many, on no fewer examples, of which so many more must fall.
_SHARE, _STEPS, _COMPARED, _MORE = 0.5, 10, 8, 0.05


def check_losses(look: Look) -> Finding | None:
    """Judge the losses by their slopes in the logits; steps are taken where rivals count alike."""
    flat, wrong, shares = [], [], []
    for loss in look.losses:
        slopes = _slopes(loss, look.logits, look.labels)
        if slopes is None:
            return None
        own = slopes.gather(1, look.labels.unsqueeze(1)).squeeze(1)
        flat.append((slopes == 0).all(dim=1))
        wrong.append(own > 0)
        shares.append(_share(slopes, look.labels))
    hits = torch.stack(wrong).all(dim=0) if wrong else look.labels < 0
    if hits.double().mean() > 0.5:
        return Finding(
            "loss of the wrong sign",
            f"the loss rises with the true class's logit for {look.of(hits)}",
            "an attack that raises it makes the model more certain",
            "give minus this loss, or losses.margin_loss",
        )
    hits = torch.stack(flat).all(dim=0) if flat else look.labels < 0
    # Squeezed outputs are said by themselves.
    if shares and not check_range(look):
        share = torch.stack(shares).amax(dim=0)
        if (found := _small(look, share) or _weak(look, share)) is not None:
            return found
    if not look.many(hits):
        return None
    return Finding(
        "flat loss",
        f"the loss does not change with the logits for {look.of(hits)}, which are up to "
        f"{look.logits.nan_to_num(0, 0, 0).abs().max().item():.3g} large",
        "attacks that follow it stand still there, and the robust accuracy is too high",
        "try losses.margin_loss, or an attack without gradients",
    )


def _small(look: Look, share: Tensor) -> Finding | None:
    """Find logits so small that the losses cannot tell the nearest rival from the others."""
    spread = _spread(look.logits)
    alike = (share < 1.6 / (look.logits.shape[1] - 1 or 1)) & (spread < 2)
    if 2 * alike.sum() <= len(alike):
        return None
    return Finding(
        "small logits",
        f"the loss weighs all other classes alike for {look.of(alike)}, whose logits differ by "
        f"{spread.median().item():.2g} (median)",
        "an attack that follows it heads for none of them, and the robust accuracy is too high",
        "return the logits, not squeezed or divided; try losses.margin_loss, or autoattack",
    )


def _weak(look: Look, share: Tensor) -> Finding | None:
    """Find losses that hardly tell the nearest rival, where that costs an attack its finds."""
    n = len(share)
    suspicious = n >= _COMPARED and 2 * int((share < _SHARE).sum()) > n
    if not suspicious or not look.steady or look.gradient is None:
        return None

    def fooled(loss: Loss) -> Tensor:
        points = pgd(look.model, look.images, look.labels, look.ball, steps=_STEPS, loss=loss)
        return look.answers(points).argmax(dim=1) != look.labels

    try:
        theirs = int(torch.stack([fooled(loss) for loss in look.losses]).any(dim=0).sum())
        ours = int(fooled(margin_loss).sum())
    except (RuntimeError, ValueError):  # a gradient that is not finite is said by itself
        return None
    if ours - theirs <= _MORE * n:
        return None
    return Finding(
        "weak loss",
        f"the loss weighs the other classes much alike: {_STEPS} steps of PGD fool {theirs} of {n} "
        f"examples with it, and {ours} with the margin loss",
        "an attack that follows it misses the nearest class, and the robust accuracy is too high",
        "give the attack losses.margin_loss, or use autoattack; return logits as they are, if "
        "something divides them",
    )


def _share(slopes: Tensor, labels: Tensor) -> Tensor:
    """Return the nearest rival's share of a loss's weight on all classes but the true one, (N,)."""
    rivals = slopes.double().scatter(1, labels.unsqueeze(1), 0).abs()
    # Of two or three classes the others are too few to compare; a flat loss weighs none.
    if rivals.shape[1] <= 3:
        return torch.full_like(rivals[:, 0], torch.inf)
    return (rivals.amax(dim=1) / rivals.sum(dim=1)).nan_to_num(1.0)


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
