"""Rows of logits: checked, widened and shifted, so that no sum over classes overflows."""

import torch
from torch import Tensor

from within_epsilon.checks import check_labels, check_logits


def check(logits: Tensor, labels: Tensor, classes: int = 2) -> None:
    """Refuse what is no logits (N, k) with labels (N,), or has too few classes."""
    check_logits(logits)
    check_labels(labels, *logits.shape)
    if logits.shape[1] < classes:
        raise ValueError(
            f"logits: expected at least {classes} classes for this loss, received "
            f"{logits.shape[1]}; use losses.margin_loss, which needs only two"
        )


def shift(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits minus their largest, (..., k), and the largest, (...)."""
    peak = logits.detach().amax(dim=-1, keepdim=True)
    # Infinity minus itself would be NaN; a finite stand-in leaves infinite rows infinite.
    largest = torch.finfo(peak.dtype).max
    peak = peak.clamp(-largest, largest)
    return logits - peak, peak.squeeze(-1)


def widen(logits: Tensor) -> Tensor:
    """Return half-precision logits in float32, where sums over classes are safe."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
