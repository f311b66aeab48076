"""Losses that are flat, of the wrong sign, or take all rivals alike."""

import torch
from torch import Tensor

from within_epsilon.attacks import Loss
from within_epsilon.evaluation.diagnosis.look import Look
from within_epsilon.evaluation.diagnosis.outputs import check_range
from within_epsilon.reports import Finding


def check_losses(look: Look) -> Finding | None:
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
    if 2 * alike.sum() > len(alike) and not check_range(look):
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
