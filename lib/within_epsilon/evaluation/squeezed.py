"""Whether outputs were squeezed on their way out, told by an attack that undoes it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.attacks import Loss, pgd
from within_epsilon.evaluation.looking import Look
from within_epsilon.losses import cross_entropy
from within_epsilon.reports import Finding

# From how many examples on attacks are compared, on how many at most, and in how many steps.
_LEAST, _MOST, _STEPS = 8, 64, 10
# The largest outputs of unlike examples are seldom that much alike, unless something bounds them.
_ALIKE = 0.1
# An attack must fool so many more, and such a share of the examples.
_MORE, _SHARE = 4, 0.08


def check_squeezed(look: Look) -> Finding | None:
    """Attack outputs that look bounded as they are, and with the squeezing undone.

    Softsign, arctan and the log-sigmoid keep the order of the logits and bend every loss. Honest
    outputs may look bounded too: what counts is that undoing it, or another scale, fools more.
    """
    undo = _undoing(look)
    right = look.logits.argmax(dim=1) == look.labels
    rows = right.nonzero().squeeze(1)[:_MOST]
    if undo is None or not look.losses or not look.steady or len(rows) < _LEAST:
        return None
    gradient = look.gradient
    if look.ball.epsilon == 0 or gradient is None or not gradient.isfinite().all():
        return None

    largest = look.scale.max().item()

    def undone(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(undo(logits), labels)

    def scaled(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(10 / largest * logits, labels)

    try:
        plain = max(_fooled(look, rows, loss) for loss in dict.fromkeys(look.losses))
        better = max(_fooled(look, rows, loss) for loss in (undone, scaled))
    except (TypeError, AttributeError, RuntimeError, ValueError):
        return None  # a loss that is called otherwise, or a model that cannot be attacked
    if better - plain < max(_MORE, _SHARE * len(rows)):
        return None
    return Finding(
        "saturated outputs",
        f"{_STEPS} steps of PGD fool {plain} of {len(rows)} examples, and {better} where the "
        "outputs are stretched again, which seem to come from softsign, arctan or a log-sigmoid",
        "they flatten every loss and hide its gradient",
        "return the logits, without what squeezes them",
    )


def _undoing(look: Look) -> Callable[[Tensor], Tensor] | None:
    """Return what would undo a squeezing that keeps the order, if outputs look squeezed."""
    wide = look.logits.double()
    if not wide.isfinite().all() or wide.shape[1] < 3:
        return None
    # Log-probabilities are below 0 as well.
    if (wide < 0).all() and (wide.logsumexp(dim=1).abs() > 1e-3).any():
        return _before_log_sigmoid
    largest = wide.abs().amax(dim=1)
    if len(largest) < _LEAST or largest.std() > _ALIKE * largest.mean():
        return None
    bounds = [bound for bound in (1.0, math.pi / 2) if 0.5 * bound < largest.max() < bound]
    bound = bounds[0] if bounds else 1.02 * largest.max().item()
    return lambda logits: logits / (bound - logits.abs()).clamp(min=1e-3 * bound)


def _before_log_sigmoid(logits: Tensor) -> Tensor:
    return logits - (-logits.expm1()).clamp(min=torch.finfo(logits.dtype).tiny).log()


def _fooled(look: Look, rows: Tensor, loss: Loss) -> int:
    """Count the examples that a few steps fool."""
    images, labels, ball = look.images[rows], look.labels[rows], look.ball[rows.cpu()]
    images_adv = pgd(look.model, images, labels, ball, steps=_STEPS, loss=loss, random_start=False)
    return int((look.answers(images_adv).argmax(dim=1) != labels).sum())
