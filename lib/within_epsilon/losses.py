"""Softmax and the losses built on it, from logits, without overflow.

Every function takes logits, any real numbers: the softmax and its relatives of shape
(..., k), the losses of shape (N, k) with labels (N,). None forms a probability on the way
to a loss: a probability that has been rounded to 0 or to 1 has forgotten which way is up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from within_epsilon.checks import check_labels, check_logits


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
    shifted, peak = _shift(_widen(logits))
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
    shifted, _ = _shift(_widen(logits))
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
    shifted, _ = _shift(_widen(logits))
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
    _check(logits, labels)
    wide, column = _widen(logits), labels.unsqueeze(-1)
    # The label's place is filled with what counts for nothing, yet differs from infinity.
    # Measured from the best rival, huge logits lose no digits of small differences.
    rivals, peak = _shift(wide.scatter(-1, column, torch.finfo(wide.dtype).min))
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
    rivals = torch.softmax(_widen(logits.detach()), dim=-1).scatter_(-1, column, 0.0)
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
    before = log_softmax(clean)
    chances = before.exp()
    moved = before - log_softmax(logits)
    return (chances * torch.where(chances > 0, moved, 0)).sum(dim=1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the margin of each example, :math:`z_y - \max_{j \ne y} z_j`.

    Parameters
    ----------
    logits : Tensor of shape (N, k)
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.

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


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Compute the difference-of-logits ratio of each example: a loss for attacks to raise.

    .. math:: -\frac{z_y - \max_{j \ne y} z_j}{z_{\pi_1} - z_{\pi_3}}, \quad
              z_{\pi_1} \ge z_{\pi_2} \ge \dots \ge z_{\pi_K}

    Parameters
    ----------
    logits : Tensor of shape (N, k), k >= 3
        The model's outputs.
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.

    Returns
    -------
    Tensor of shape (N,)
        From -1 to 0 where the label wins, above 0 where a rival does. The same for
        c z + b as for z, with any c > 0 and b.

    Raises
    ------
    TypeError, ValueError
        If logits or labels have the wrong type, shape or range, or k < 3.

    Notes
    -----
    Why it does not vanish: a network multiplied by 1000 has the same decisions, but a
    cross-entropy whose gradient has been rounded to 0. Here the factor cancels.

    Where the three largest logits are equal, the paper's ratio divides by 0; the
    denominator is therefore kept above the rounding error of the numerator, and a ratio
    of two zeros counts as 0. There, an impossible class (minus infinity) counts as the
    lowest of the others, or the ratio would be 0 whatever the image.

    References
    ----------
    Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
    Diverse Parameter-free Attacks", ICML 2020, equation 6.
    """
    _check(logits, labels, classes=3)
    top = _possible(_widen(logits)).topk(3).values
    rise = _rival_gaps(logits, labels).amax(dim=-1)
    return _ratio(rise, top[..., 0] - top[..., 2]).to(logits.dtype)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    r"""Compute the targeted difference-of-logits ratio: a loss for attacks to raise.

    .. math:: -\frac{z_y - z_t}{z_{\pi_1} - (z_{\pi_3} + z_{\pi_4}) / 2}

    Parameters
    ----------
    logits : Tensor of shape (N, k), k >= 4
        The model's outputs.
    labels : Tensor of shape (N,), int64
        The true classes y, from 0 to k - 1.
    targets : Tensor of shape (N,), int64
        The classes t that shall overtake them.

    Returns
    -------
    Tensor of shape (N,)
        Above 0 exactly where the target has overtaken the label; see `dlr` for its
        invariance and for denominators of 0. Constant 0 where t = y.

    Raises
    ------
    TypeError, ValueError
        If logits, labels or targets have the wrong type, shape or range, or k < 4.

    References
    ----------
    Croce, Hein, ICML 2020, equation 7.
    """
    _check(logits, labels, classes=4)
    check_labels(targets, *logits.shape)
    wide = _widen(logits)
    top = _possible(wide).topk(4).values
    pairs = wide.gather(-1, torch.stack([targets, labels], dim=-1))
    spread = top[..., 0] - (top[..., 2] + top[..., 3]) / 2
    return _ratio(pairs[..., 0] - pairs[..., 1], spread).to(logits.dtype)


def _ratio(rise: Tensor, spread: Tensor) -> Tensor:
    """Divide, by no less than the rounding error of `rise`; 0 / 0 is 0."""
    least = rise.detach().abs() * torch.finfo(rise.dtype).eps
    spread = torch.maximum(spread, least)
    return rise / spread.masked_fill(spread == 0, 1)


def _possible(logits: Tensor) -> Tensor:
    """Return logits in which an impossible class, minus infinity, is as the lowest possible."""
    impossible = logits == -torch.inf
    lowest = logits.masked_fill(impossible, torch.inf).amin(dim=-1, keepdim=True)
    return torch.where(impossible, lowest, logits)


def _rival_gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_j - z_y, with minus infinity in the place of j = y."""
    wide, column = _widen(logits), labels.unsqueeze(-1)
    return (wide - wide.gather(-1, column)).scatter(-1, column, -torch.inf)


def _check(logits: Tensor, labels: Tensor, classes: int = 2) -> None:
    check_logits(logits)
    check_labels(labels, *logits.shape)
    if logits.shape[1] < classes:
        raise ValueError(
            f"logits: expected at least {classes} classes for this loss, received "
            f"{logits.shape[1]}; use losses.margin_loss, which needs only two"
        )


def _shift(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits minus their largest, (..., k), and the largest, (...)."""
    peak = logits.detach().amax(dim=-1, keepdim=True)
    # Infinity minus itself would be NaN; a finite stand-in leaves infinite rows infinite.
    largest = torch.finfo(peak.dtype).max
    peak = peak.clamp(-largest, largest)
    return logits - peak, peak.squeeze(-1)


def _widen(logits: Tensor) -> Tensor:
    """Return half-precision logits in float32, where sums over classes are safe."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
