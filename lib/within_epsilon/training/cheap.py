"""Objectives that attack at the price of a gradient or less.

One step from noise, one step from where the last epoch's ended, and free.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Objective, steepest_ascent
from within_epsilon.checks import check_counts
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball, check_ball
from within_epsilon.training.objectives import standard, under_attack


@dataclass(frozen=True)
class SingleStep:
    r"""The loss after one step from a noisy image: the price of two gradients, N-FGSM.

    .. math:: x' = x + \eta + \epsilon\,\mathrm{sign}\,\nabla_x \ell(h_\theta(x + \eta), y), \quad
              \eta_i \sim U(-k\epsilon, k\epsilon)

    The step is not brought back into the ball: what is trained on may lie k + 1 radii from the
    image. Pixels are kept in [0, 1].

    Parameters
    ----------
    ball : Ball
        The threat model, linf.
    noise : float
        k, the reach of the noise in radii, >= 0; with 0 this is FGSM, which can collapse.

    References
    ----------
    de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez, Dokania, "Make Some Noise: Reliable and Efficient
    Single-Step Adversarial Training", NeurIPS 2022.
    """

    ball: Ball
    noise: float = 2.0

    def __post_init__(self) -> None:
        check_ball(self.ball)
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise: expected a finite number >= 0, received {self.noise}")
        if self.ball.norm != "linf" or self.ball.mask is not None:
            raise ValueError(
                f"ball: expected linf without a mask, received {self.ball}; train with "
                "Adversarial(functools.partial(pgd, steps=2), ball)"
            )

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Take the step, and return the losses there, (N,)."""
        reach = self.noise * self.ball.epsilon
        with torch.no_grad():
            points = images
            if reach > 0:
                points = (images + torch.empty_like(images).uniform_(-reach, reach)).clamp_(0, 1)
            with under_attack(model):
                _, uphill = steepest_ascent(model, points, Objective(labels, cross_entropy))
            points = torch.add(points, uphill.sign_(), alpha=self.ball.epsilon).clamp_(0, 1)
        return standard(model, points, labels)

    def __str__(self) -> str:
        """Name the step, its noise and the threat model."""
        if not self.noise:
            return f"FGSM, {self.ball}"
        return f"one step from noise of {self.noise:g} ε, {self.ball}"


@dataclass(eq=False)
class _Carried:
    """Perturbations that go on from one call to the next, and into a checkpoint."""

    _delta: Tensor | None = field(default=None, init=False, repr=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes on to the next call."""
        return {"delta": self._delta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what another one has left."""
        self._delta = state["delta"]

    def reset(self) -> None:
        """Begin anew, without perturbations."""
        self._delta = None


@dataclass(eq=False)
class Free(_Carried):
    r"""Adversarial training at the price of the standard one: every gradient is used twice.

    Each minibatch is replayed. One backward pass gives the gradient in the parameters, for the
    step of training, and in the pixels, for the adversary's, whose perturbation goes on from
    replay to replay, and on to the next minibatch.

    Parameters
    ----------
    ball : Ball
        The threat model.
    replays : int
        How often a minibatch is used in an epoch, >= 1: with m replays an epoch is m epochs'
        work.

    References
    ----------
    Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor, Goldstein, "Adversarial Training
    for Free!", NeurIPS 2019, Algorithm 1.
    """

    ball: Ball
    replays: int = 4

    def __post_init__(self) -> None:
        check_ball(self.ball)
        check_counts(replays=self.replays)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the losses at the perturbation so far, (N,), whose gradient will move it."""
        n, delta = len(images), self._delta
        if delta is None or delta.shape[1:] != images.shape[1:] or len(delta) < n:
            delta = torch.zeros_like(images)
        rest = delta[n:]  # a smaller last minibatch leaves the others' as they are
        points = self.ball.perturb(images, delta[:n]).requires_grad_()

        def ascend(gradient: Tensor) -> None:
            moved = delta[:n] + self.ball.epsilon * self.ball.steepest(gradient)
            self._delta = torch.cat((self.ball.project(moved), rest))

        if torch.is_grad_enabled():
            points.register_hook(ascend)
        return standard(model, points, labels)

    def __str__(self) -> str:
        """Name the method and the threat model."""
        return f"free, {self.replays} replays, {self.ball}"


@dataclass(eq=False)
class Atta(_Carried):
    r"""The loss after a few steps from where the last epoch's ended: PGD spread over epochs, ATTA.

    .. math:: x'_i \leftarrow \Pi\bigl(x'_i + \alpha\, d_i\bigr), \quad
              d_i = \arg\max_{\|d\| \le 1} \langle \nabla_x \ell(h_\theta(x'_i), y_i), d \rangle

    From one epoch to the next the network changes little, and what fooled it nearly fools it
    still. So every example keeps its perturbation, which begins at 0 and goes on from epoch to
    epoch: with one step, an epoch costs two gradients, and the attack has as many steps behind it
    as there were epochs.

    Parameters
    ----------
    ball : Ball
        The threat model.
    steps : int
        Steps in each epoch, >= 1.
    step_size : float, optional
        Length of a step in the ball's norm; half of the radius by default.

    References
    ----------
    Zheng, Zhang, Gu, Lee, Prakash, "Efficient Adversarial Training with Transferable Adversarial
    Examples", CVPR 2020, arXiv 1912.11969. They move perturbations along with augmented images,
    and begin anew every few epochs; here examples are expected to stay as they are, and nothing
    begins anew.
    """

    ball: Ball
    steps: int = 1
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_ball(self.ball)
        check_counts(steps=self.steps)
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size: expected a finite length > 0, received {self.step_size}")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> Tensor:
        """Go on from what is kept of these examples, and return the losses there, (N,).

        `fit` says where in the split they stand; by default they are its first N.
        """
        length = self.ball.epsilon / 2 if self.step_size is None else self.step_size
        rows = torch.arange(len(images)) if indices is None else indices
        with torch.no_grad():
            delta = self._kept(images, rows)
            region, objective = self.ball.within(images), Objective(labels, cross_entropy)
            points = region.perturb(delta[rows])
            with under_attack(model):
                for _ in range(self.steps):
                    _, uphill = steepest_ascent(model, points, objective)
                    points = region.step(points, uphill, length)
        if torch.is_grad_enabled():  # looking at losses without gradients moves nothing
            delta[rows] = points - images
            self._delta = delta
        return standard(model, points, labels)

    def _kept(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the perturbations of all examples so far, 0 for those that are new."""
        delta = self._delta
        if delta is None or delta.shape[1:] != images.shape[1:]:
            delta = images.new_zeros(0, *images.shape[1:])
        missing = int(rows.max()) + 1 - len(delta)
        if missing <= 0:
            return delta
        return torch.cat((delta, delta.new_zeros(missing, *delta.shape[1:])))

    def __str__(self) -> str:
        """Name the method, its steps and the threat model."""
        return f"ATTA, {self.steps} step{'s' * (self.steps > 1)} an epoch, {self.ball}"
