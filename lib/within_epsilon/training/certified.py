"""Objectives that minimise a bound of the worst loss: IBP, CROWN-IBP, and MTL-IBP between.

Each raises its radius from 0 to the ball's over many minibatches, which it counts itself: bounds of
an untrained network are so loose at the full radius that what lowers them is a constant answer.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe
from within_epsilon.threat import Ball, check_ball
from within_epsilon.training.objectives import (
    Attack,
    attacked,
    check_climbs,
    in_eval_mode,
    standard,
)
from within_epsilon.verification.domain import Domain
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds


def bounded_margins(
    model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, *, linear: float = 0.0
) -> Tensor:
    """Bound margins from below, with gradients to the parameters, and without proof.

    The bounds are those of `verification.ibp` and of `verification.crown` with intermediate bounds
    by intervals, in the model's own float arithmetic, whose rounding is not accounted for.

    Parameters
    ----------
    model : nn.Module
        Takes images, returns logits (N, k); see `verification.network.read_network` for the
        layers it may have. Its modes are looked at as in eval mode.
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        Classes from 0 to k - 1.
    ball : Ball
        The threat model.
    linear : float
        The share of the linear bounds, in [0, 1]; the rest is the intervals'.

    Returns
    -------
    Tensor of shape (N, k - 1)
        Bounds of z_y - z_j, in the order of the rivals j.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass.
    """
    reach = torch.full_like(images, ball.epsilon)
    if ball.mask is not None:
        reach = reach * ball.mask.to(images.device)
    ends = (images - reach).clamp(min=0), (images + reach).clamp(max=1)
    with in_eval_mode(model):
        network = read_network(model, images.shape[1:], like=images)
    bounds = Bounds(network, Domain(*ends, ball.norm, images, ball.epsilon), None)
    bounds.extend_all()
    last = len(network.nodes) - 1
    rows = objective_rows(labels, len(images), network.nodes[last].shape[0]).to(images)
    margins = images.new_zeros(())
    if linear < 1:
        margins = margins + (1 - linear) * bounds.least(last, rows, through=False)
    if linear > 0:
        margins = margins + linear * bounds.least(last, rows)
    return margins


def worst_cross_entropy(margins: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + \sum_j e^{-m_j})`: with bounds of margins, a bound of the loss.

    Parameters
    ----------
    margins : Tensor of shape (N, k - 1)
        Margins over all rivals, or bounds of them from below.

    Returns
    -------
    Tensor of shape (N,)
        Cross-entropies.
    """
    return torch.cat([margins.new_zeros(len(margins), 1), -margins], dim=1).logsumexp(dim=1)


@dataclass(eq=False)
class Ramp:
    """A radius that rises from 0 to the ball's, linearly in the minibatches seen.

    Parameters
    ----------
    ball : Ball
        The threat model at the end.
    ramp : int
        Minibatches over which the radius rises; 0: it is full at once, from which training
        seldom recovers.
    warmup : int
        Minibatches of radius 0 before that.

    Raises
    ------
    ValueError
        If a number of minibatches is below 0.
    """

    ball: Ball
    ramp: int
    warmup: int = 0
    seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        check_ball(self.ball)
        for name in ("ramp", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}: expected a number of minibatches >= 0, received {getattr(self, name)}"
                )

    @property
    def risen(self) -> float:
        """Which share of the radius the next minibatch meets, from 0 to 1."""
        past = self.seen - self.warmup
        return 1.0 if past >= self.ramp else max(0.0, past / max(1, self.ramp))

    def now(self) -> Ball:
        """Return the ball that the next minibatch meets."""
        return replace(self.ball, epsilon=self.risen * self.ball.epsilon)

    def tick(self) -> None:
        """Count a minibatch of training; looking at losses without gradients does not count."""
        self.seen += torch.is_grad_enabled()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on from minibatch to minibatch."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what another one has left."""
        self.seen = state["seen"]

    def reset(self) -> None:
        """Begin anew, at radius 0."""
        self.seen = 0


@dataclass(eq=False)
class IBP(Ramp):
    r"""The worst loss that intervals allow, beside the clean one: interval bound propagation.

    .. math:: \kappa\, \ell(h_\theta(x), y) + (1 - \kappa) \log\Bigl(1 + \sum_{j \ne y}
              e^{-\underline{m}_j(x, \epsilon)}\Bigr)

    Parameters
    ----------
    ball, ramp, warmup
        See `Ramp`. The adversary's ball; a norm other than linf is trained on the box around it.
    clean : float
        κ at the end, in [0, 1]: it falls from 1 as the radius rises.

    References
    ----------
    Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably
    Robust Models", arXiv 1810.12715, section 4.
    """

    clean: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("clean", self.clean)

    @property
    def linear(self) -> float:
        """The share of linear bounds: none."""
        return 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Bound the margins at the radius of the moment, and return losses (N,)."""
        kept, ball, linear = 1 - (1 - self.clean) * self.risen, self.now(), self.linear
        self.tick()
        losses = images.new_zeros(len(images))
        if kept > 0:
            losses = losses + kept * standard(model, images, labels)
        if kept < 1:
            margins = bounded_margins(model, images, labels, ball, linear=linear)
            losses = losses + (1 - kept) * worst_cross_entropy(margins)
        return losses

    def __str__(self) -> str:
        """Name the method, κ and the threat model."""
        return f"IBP, κ = {self.clean:g}, {self.ball}"


@dataclass(eq=False)
class CrownIBP(IBP):
    """IBP whose margins come from linear bounds at first: hidden layers by intervals, then CROWN.

    Parameters
    ----------
    ball, ramp, warmup, clean
        See `IBP`.
    final : float
        The share of linear bounds when the radius is full, in [0, 1]: it falls from 1.

    References
    ----------
    Zhang, Chen, Xiao, Gowal, Stanforth, Li, Boning, Hsieh, "Towards Stable and Efficient Training
    of Verifiably Robust Neural Networks", ICLR 2020.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("final", self.final)

    @property
    def linear(self) -> float:
        """The share of linear bounds that the next minibatch meets."""
        return 1 - (1 - self.final) * self.risen

    def __str__(self) -> str:
        """Name the method, κ and the threat model."""
        return f"CROWN-{super().__str__()}"


@dataclass(eq=False)
class MtlIBP(Ramp):
    r"""Between the loss that an attack finds and the one that intervals allow: MTL-IBP.

    .. math:: (1 - \alpha)\, \ell(h_\theta(x'), y) + \alpha \log\Bigl(1 + \sum_{j \ne y}
              e^{-\underline{m}_j(x, \epsilon)}\Bigr)

    With α = 0 this is adversarial training, with α = 1 pure IBP; the true worst loss lies between
    the two, and so does the sum for some α.

    Parameters
    ----------
    ball, ramp, warmup
        See `Ramp`; the attack meets the same radius.
    attack : callable
        As in `Adversarial`.
    alpha : float
        The weight of the bound, in [0, 1].

    References
    ----------
    De Palma, Bunel, Dvijotham, Kumar, Stanforth, Lomuscio, "Expressive Losses for Verified
    Robustness via Convex Combinations", ICLR 2024.
    """

    attack: Attack = field(kw_only=True)
    alpha: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_climbs(self.attack)
        _check_share("alpha", self.alpha)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Attack and bound at the radius of the moment, and return losses (N,)."""
        ball = self.now()
        self.tick()
        losses = images.new_zeros(len(images))
        if self.alpha < 1:
            images_adv = attacked(self.attack, model, images, labels, ball)
            losses = losses + (1 - self.alpha) * standard(model, images_adv, labels)
        if self.alpha > 0:
            margins = bounded_margins(model, images, labels, ball)
            losses = losses + self.alpha * worst_cross_entropy(margins)
        return losses

    def __str__(self) -> str:
        """Name the method, alpha, the attack and the threat model."""
        return f"MTL-IBP, α = {self.alpha:g}, {describe(self.attack)}, {self.ball}"


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a share from 0 to 1, received {value}")
