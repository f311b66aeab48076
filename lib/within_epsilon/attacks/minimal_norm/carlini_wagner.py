"""Carlini and Wagner's l2 attack: distance and misclassification in one smooth objective."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.minimal import Minimal, begin
from within_epsilon.attacks.core.objective import Callback, Objective, steepest_ascent
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import per_pixel

# The constant grows by this factor until it suffices.
_GROWTH = 10.0
# How far from 0 and 1 a pixel begins: far enough that w, of which a step is never longer than
# about the step size, gets somewhere.
_EDGE = 1e-3
# Over which last share of the steps the learning rate falls to zero.
_LANDING = 0.25


@attack("Carlini and Wagner", "minimal norm", norms=("l2",))
def carlini_wagner(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Literal["l2"] = "l2",
    *,
    steps: int = 1000,
    binary_search_steps: int = 9,
    step_size: float = 0.01,
    confidence: float = 0.0,
    initial_constant: float = 1e-3,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images (l2) with the attack of Carlini and Wagner.

    .. math:: \min_w \bigl\| x' - x \bigr\|_2^2
              + c \max\bigl( h(x')_y - \max_{j \ne y} h(x')_j + \kappa,\; 0 \bigr), \quad
              x' = \tfrac12 (\tanh w + 1)

    The pixels are a function of w that cannot leave [0, 1], and Adam minimises over w. The
    constant c weighs fooling against distance; binary search finds, for each example, the
    smallest that still fools the model.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"l2"}
        How distance is measured.
    steps : int
        Adam's steps for each constant, >= 1.
    binary_search_steps : int
        How many constants to try, >= 1.
    step_size : float
        Adam's first learning rate, in units of w. Photos want the paper's 0.01; digits, with few
        pixels that have far to go, 0.1 and ten times fewer steps.
    confidence : float
        kappa: the margin by which to fool the model, in units of logits, >= 0.
    initial_constant : float
        The first c; ten times as much until an example is fooled.
    targeted : bool
        Look for images that the model takes for the labels.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    seed, indices
        Without effect: nothing here is random. All attacks take them.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at every point visited, counted from 0
        through all constants, with the shortest distances so far.

    Returns
    -------
    Minimal
        The closest adversarial images found, of at least that confidence, and their l2
        distances: 0 where the clean image is misclassified (or, if targeted, taken for the
        target) by whatever margin, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), steps or
        binary_search_steps < 1, confidence < 0, or another number not positive.

    Notes
    -----
    Deviations from the paper: in the last quarter of the steps the learning rate falls to
    zero in a straight line, without which small distances are missed by a step's length; every
    step is scored, so that the closest point on the way counts; no run is stopped early;
    pixels begin at least 1e-3 away from 0 and 1, where tanh is so flat that black pixels would
    hardly move in hundreds of steps.

    References
    ----------
    Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017,
    section V (f_6, change of variables) and VI-A.
    """
    if initial_constant <= 0:
        raise ValueError(f"initial_constant: expected a number > 0, received {initial_constant}")
    if confidence < 0:
        raise ValueError(f"confidence: expected a margin >= 0, received {confidence}")
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    objective = closest.objective[rows]
    lower = torch.zeros_like(closest.distances[rows])
    upper = torch.full_like(lower, torch.inf)
    constants = torch.full_like(lower, initial_constant)
    for search in range(binary_search_steps if len(rows) else 0):
        run = _Run(images[rows], constants)
        fooled = torch.zeros_like(rows, dtype=torch.bool)
        for step in range(steps):
            length = step_size * min(1.0, (1 - step / steps) / _LANDING)
            achieved = run.advance(model, objective, confidence, length)
            closest.visit(search * steps + step, rows, run.visited, achieved)
            fooled |= achieved
        upper = torch.where(fooled, constants, upper)
        lower = torch.where(fooled, lower, constants)
        constants = torch.where(upper.isfinite(), (lower + upper) / 2, _GROWTH * constants)
    return closest.result()


class _Run:
    """Adam on the objective, for one constant per example.

    Attributes
    ----------
    visited : Tensor of shape (N, ...)
        The pixels that were last scored.
    """

    def __init__(self, images: Tensor, constants: Tensor) -> None:
        self.images, self.visited = images, images
        self.constants = per_pixel(constants, images)
        inner = images.to(constants).clamp(_EDGE, 1 - _EDGE)
        self.w = torch.atanh(2 * inner - 1)
        self.optimizer = torch.optim.Adam([self.w])

    def advance(
        self, model: nn.Module, objective: Objective, confidence: float, length: float
    ) -> Tensor:
        """Score the present point, then take a step of that length; return who is fooled, (N,)."""
        tanh = torch.tanh(self.w)
        self.visited = ((tanh + 1) / 2).clamp(0, 1).to(self.images)
        if objective.mask is not None:
            self.visited = torch.where(objective.mask, self.visited, self.images)
        logits, uphill = steepest_ascent(model, self.visited, objective)
        gaps = objective.values(logits)
        # The hinge pulls only on those that do not fool the model by enough.
        pull = per_pixel(gaps < confidence, uphill) * uphill.to(self.w)
        slope = 2 * (self.visited - self.images).to(self.w) - self.constants * pull
        # The chain rule through pixels = (tanh w + 1) / 2.
        self.w.grad = slope * (1 - tanh**2) / 2
        self.optimizer.param_groups[0]["lr"] = length
        self.optimizer.step()
        return objective.achieved(logits) & (gaps >= confidence)
