"""Which linear functions of the logits are bounded: margins over all rivals, or others."""

import torch
from torch import Tensor

from within_epsilon.checks import check_labels


def rivals(labels: Tensor, classes: int) -> Tensor:
    """List every other class, in order.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        Classes, from 0 to k - 1.
    classes : int
        How many classes there are, k.

    Returns
    -------
    Tensor of shape (N, k - 1), int64
        0 to k - 1 without the label.
    """
    places = torch.arange(classes - 1)
    return places + (places >= labels.cpu().unsqueeze(1))


def objective_rows(labels: Tensor | None, n: int, classes: int) -> Tensor:
    """Return the linear functions of the logits that a caller asks for.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64; or (S, k) or (N, S, k), floating point; or None
        Class numbers: the margins over all rivals. Or coefficients of S functions, for all
        problems or for each. None: the logits themselves.
    n, classes : int
        N and k.

    Returns
    -------
    Tensor of shape (1 or N, S, k), float64
        Their coefficients.

    Raises
    ------
    TypeError, ValueError
        If they are none of these.
    """
    eye = torch.eye(classes, dtype=torch.float64)
    if labels is None:
        return eye.unsqueeze(0)
    if not isinstance(labels, Tensor) or not labels.is_floating_point():
        check_labels(labels, n, classes)
        if classes < 2:
            raise ValueError(
                f"logits: expected shape (N, k) with k >= 2, received {(n, classes)}; give a "
                "two-class model two outputs"
            )
        labels = labels.cpu()
        return eye[labels].unsqueeze(1) - eye[rivals(labels, classes)]
    rows = labels.detach().cpu().double()
    rows = rows.unsqueeze(0) if rows.ndim == 2 else rows
    if rows.ndim != 3 or len(rows) not in (1, n) or rows.shape[2] != classes:
        raise ValueError(
            f"labels: expected {n} class numbers, or coefficients of functions of the logits, "
            f"(S, {classes}) or ({n}, S, {classes}), received shape {tuple(labels.shape)}"
        )
    return rows
