"""Softmax and the losses built on it, from logits, without overflow.

Every function takes logits, any real numbers: the softmax and its relatives of shape
(..., k), the losses of shape (N, k) with labels (N,). None forms a probability on the way
to a loss: a probability that has been rounded to 0 or to 1 has forgotten which way is up.
"""

from within_epsilon.losses.entropy import (
    cross_entropy,
    cross_entropy_slopes,
    kl_divergence,
    log_softmax,
    log_sum_exp,
    softmax,
)
from within_epsilon.losses.margins import dlr, dlr_targeted, margin, margin_loss

__all__ = [
    "cross_entropy",
    "cross_entropy_slopes",
    "dlr",
    "dlr_targeted",
    "kl_divergence",
    "log_softmax",
    "log_sum_exp",
    "margin",
    "margin_loss",
    "softmax",
]
