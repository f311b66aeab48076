"""Softmax, and the losses that compare distributions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from within_epsilon.losses.rows import check, shift, widen


def log_sum_exp(logits: Tensor) -> Tensor:
    """Compute log sum_j exp(z_j) over the last dimension.

    The largest logit is taken out first, so that no exponential exceeds 1.

    Parameters
    ----------
    logits : Tensor of shape (..., k)
        Real numbers; minus infinity stands for an impossible class.

    Returns
    -------
    Tensor of shape (...)
        Between max_j z_j and max_j z_j + log k.
    """
    shifted, peak = shift(widen(logits))
    return (peak + shifted.exp().sum(dim=-1).log()).to(logits.dtype)


def softmax(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, exp(z_i) / sum_j exp(z_j).

    Parameters
    ----------
    logits : Tensor of shape (..., k)
        Real numbers.

    Returns
    -------
    Tensor of shape (..., k)
        Non-negative, with sum 1 over the last dimension.
    """
    shifted, _ = shift(widen(logits))
    weights = shifted.exp()
    return (weights / weights.sum(dim=-1, keepdim=True)).to(logits.dtype)


def log_softmax(logits: Tensor) -> Tensor:
    """Compute log-probabilities, z_i - log sum_j exp(z_j).

    Parameters
    ----------
    logits : Tensor of shape (..., k)
        Real numbers.

    Returns
    -------
    Tensor of shape (..., k)
        At most 0; finite where softmax has long been rounded to 0.
    """
    # Subtracting twice, never the sum of both: peak + log(...) would round the log away.
    shifted, _ = shift(widen(logits))
    return (shifted - shifted.exp().sum(dim=-1, keepdim=True).log()).to(logits.dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the cross-entropy of each example.

    .. math:: \ell(z, y) = \log \sum_j e^{z_j} - z_y
              = \log\Bigl(1 + \sum_{j \ne y} e^{z_j - z_y}\Bigr)

    Parameters
    ----------
    logits : Tensor of shape (N, k)
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.

    Returns
    -------
    Tensor of shape (N,)
        One loss per example, >= 0; its mean is the caller's to take.

    Raises
    ------
    TypeError, ValueError
        If logits or labels have the wrong type, shape or range.

    Notes
    -----
    The second form is the one computed. The first subtracts two numbers that agree
    in all digits once the label's probability rounds to 1, and so does its gradient,
    softmax minus one-hot; the second keeps loss and gradient to full precision there.
    """
    check(logits, labels)
    wide, column = widen(logits), labels.unsqueeze(-1)
    # The label's place is filled with what counts for nothing, yet differs from infinity.
    # Measured from the best rival, huge logits lose no digits of small differences.
    rivals, peak = shift(wide.scatter(-1, column, torch.finfo(wide.dtype).min))
    rise = torch.logsumexp(rivals, dim=-1) - (wide.gather(-1, column).squeeze(-1) - peak)
    # log(1 + e^rise), which is rise itself in all digits beyond the threshold.
    return F.softplus(rise, threshold=40).to(logits.dtype)


def cross_entropy_slopes(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the derivatives of each example's cross-entropy in its logits.

    .. math:: \frac{\partial \ell}{\partial z_j} = \sigma(z)_j \quad (j \ne y), \qquad
              \frac{\partial \ell}{\partial z_y} = -\sum_{j \ne y} \sigma(z)_j

    Parameters
    ----------
    logits : Tensor of shape (N, k)
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1; not checked, for attacks ask in every step.

    Returns
    -------
    Tensor of shape (N, k)
        Derivatives, detached. The label's is a sum, and not the :math:`\sigma(z)_y - 1` that
        it equals, which a confident example rounds to 0.
    """
    column = labels.unsqueeze(-1)
    rivals = torch.softmax(widen(logits.detach()), dim=-1).scatter_(-1, column, 0.0)
    return rivals.scatter_(-1, column, -rivals.sum(dim=-1, keepdim=True)).to(logits.dtype)


def kl_divergence(clean: Tensor, logits: Tensor) -> Tensor:
    r"""Compute how far predictions have moved: :math:`\mathrm{KL}(\sigma(z) \,\|\, \sigma(z'))`.

    An attack that raises it needs no label: it leads away from what the model said before.

    Parameters
    ----------
    clean, logits : Tensor of shape (N, k)
        The logits z before the change, and z' after it.

    Returns
    -------
    Tensor of shape (N,)
        At least 0, up to rounding. A class that was impossible before adds nothing.
    """
    return divergence_from(clean)(logits)


def divergence_from(clean: Tensor) -> Callable[[Tensor], Tensor]:
    """Prepare `kl_divergence` from these logits, (N, k), to many others: ``divergence(logits)``."""
    before = log_softmax(clean)
    chances = before.exp()
    possible = chances > 0

    def divergence(logits: Tensor) -> Tensor:
        moved = before - log_softmax(logits)
        return (chances * torch.where(possible, moved, 0)).sum(dim=1)

    return divergence
