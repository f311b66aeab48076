"""Softmax and the losses built on it, from logits, without overflow.

Every function takes logits of shape (..., K), any real numbers, and never forms a
probability on the way to a loss: a probability that has been rounded to 0 or to 1 has
forgotten which way is up.
"""

import torch
from torch import Tensor

from within_epsilon.checks import check_labels, check_logits


def log_sum_exp(logits: Tensor) -> Tensor:
    """Compute log sum_j exp(z_j) over the last dimension.

    The largest logit is taken out first, so that no exponential exceeds 1.

    Parameters
    ----------
    logits : Tensor of shape (..., K)
        Real numbers; minus infinity stands for an impossible class.

    Returns
    -------
    Tensor of shape (...)
        Between max_j z_j and max_j z_j + log K.
    """
    shifted, peak = _shift(_widen(logits))
    return (peak + shifted.exp().sum(dim=-1).log()).to(logits.dtype)


def softmax(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, exp(z_i) / sum_j exp(z_j).

    Parameters
    ----------
    logits : Tensor of shape (..., K)
        Real numbers.

    Returns
    -------
    Tensor of shape (..., K)
        Non-negative, with sum 1 over the last dimension.
    """
    shifted, _ = _shift(_widen(logits))
    weights = shifted.exp()
    return (weights / weights.sum(dim=-1, keepdim=True)).to(logits.dtype)


def log_softmax(logits: Tensor) -> Tensor:
    """Compute log-probabilities, z_i - log sum_j exp(z_j).

    Parameters
    ----------
    logits : Tensor of shape (..., K)
        Real numbers.

    Returns
    -------
    Tensor of shape (..., K)
        At most 0; finite where softmax has long been rounded to 0.
    """
    # Subtracting twice, never the sum of both: peak + log(...) would round the log away.
    shifted, _ = _shift(_widen(logits))
    return (shifted - shifted.exp().sum(dim=-1, keepdim=True).log()).to(logits.dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the cross-entropy of each example.

    .. math:: \ell(z, y) = \log \sum_j e^{z_j} - z_y
              = \log\Bigl(1 + \sum_{j \ne y} e^{z_j - z_y}\Bigr)

    Parameters
    ----------
    logits : Tensor of shape (N, K)
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to K - 1.

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
    _check(logits, labels)
    gaps = _rival_gaps(logits, labels)
    # log(1 + sum e^gap), with e^peak taken out where it exceeds 1.
    peak = gaps.detach().amax(dim=-1).clamp_(min=0)
    rivals = (gaps - peak.unsqueeze(-1)).exp().sum(dim=-1)
    return (peak + torch.log1p(torch.expm1(-peak) + rivals)).to(logits.dtype)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the margin of each example, :math:`z_y - \max_{j \ne y} z_j`.

    Parameters
    ----------
    logits : Tensor of shape (N, K)
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to K - 1.

    Returns
    -------
    Tensor of shape (N,)
        Positive where the label wins, negative where a rival does.

    Raises
    ------
    TypeError, ValueError
        If logits or labels have the wrong type, shape or range.
    """
    _check(logits, labels)
    return -_rival_gaps(logits, labels).amax(dim=-1).to(logits.dtype)


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute minus the margin of each example: a loss for attacks to raise.

    Unlike cross-entropy it does not flatten out on confident examples. See `margin`
    for parameters and errors.

    References
    ----------
    Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE
    S&P 2017: their f_6 without the cut-off at 0.
    """
    return -margin(logits, labels)


def _rival_gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_j - z_y, with minus infinity in the place of j = y."""
    wide, column = _widen(logits), labels.unsqueeze(-1)
    return (wide - wide.gather(-1, column)).scatter(-1, column, -torch.inf)


def _check(logits: Tensor, labels: Tensor) -> None:
    check_logits(logits)
    check_labels(labels, *logits.shape)


def _shift(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits minus their largest, (..., K), and the largest, (...)."""
    peak = logits.detach().amax(dim=-1, keepdim=True)
    # Infinity minus itself would be NaN; a finite stand-in leaves infinite rows infinite.
    largest = torch.finfo(peak.dtype).max
    peak = peak.clamp(-largest, largest)
    return logits - peak, peak.squeeze(-1)


def _widen(logits: Tensor) -> Tensor:
    """Return half-precision logits in float32, where sums over classes are safe."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
