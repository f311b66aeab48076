"""Losses that compare logits with each other, and are flat for no scale of them."""

import torch
from torch import Tensor

from within_epsilon.checks import check_labels
from within_epsilon.losses.rows import check, widen


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
    check(logits, labels)
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
    check(logits, labels, classes=3)
    top = _possible(widen(logits)).topk(3).values
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
    check(logits, labels, classes=4)
    check_labels(targets, *logits.shape)
    wide = widen(logits)
    top = _possible(wide).topk(4).values
    pairs = _finite(wide.gather(-1, torch.stack([targets, labels], dim=-1)))
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
    if not impossible.any():
        return logits
    lowest = logits.masked_fill(impossible, torch.inf).amin(dim=-1, keepdim=True)
    return torch.where(impossible, lowest, logits)


def _rival_gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_j - z_y, with minus infinity in the place of j = y."""
    wide, column = widen(logits), labels.unsqueeze(-1)
    return (wide - _finite(wide.gather(-1, column))).scatter(-1, column, -torch.inf)


def _finite(logits: Tensor) -> Tensor:
    """Return the lowest number for minus infinity, which minus itself would be NaN."""
    return logits.clamp(min=torch.finfo(logits.dtype).min)
