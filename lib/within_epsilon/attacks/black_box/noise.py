"""Points of a ball drawn without a look: the control beside every attack, and where PGD starts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_images, check_indices
from within_epsilon.geometry import double
from within_epsilon.region import Region
from within_epsilon.runtime import streams
from within_epsilon.threat import Ball, check_ball


@torch.no_grad()
def random_noise(
    images: Tensor,
    ball: Ball,
    *,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """Add random noise as large as the threat model allows.

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    ball : Ball
        The threat model. For linf every pixel moves by epsilon, up or down; for l2
        and l1 the direction is random and the length epsilon.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.

    Returns
    -------
    Tensor of shape (N, ...)
        Noisy images within ball and [0, 1]; clipping to [0, 1] may have shortened
        the noise.
    """
    check_images(images)
    check_ball(ball)
    generators = streams(check_indices(indices, len(images)), seed)
    # In float64: rounded here and once more in the sum, noise would fall short of epsilon.
    return ball.perturb(images, ball.random(double(images), generators, boundary=True))


@torch.no_grad()
def starting_points(
    images: Tensor,
    ball: Ball,
    *,
    restart: int = 0,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    region: Region | None = None,
) -> Tensor:
    """Draw where an attack starts: one random point of the ball per image.

    For linf it is uniform in the ball. In many dimensions nearly all of an l2 or l1 ball lies
    next to its surface, far from the image and from most of the ball: for these norms a
    uniform draw is shortened by a factor that is itself uniform in [0, 1].

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    ball : Ball
        The threat model.
    restart : int
        Number of the restart, from 0: each has its own draw.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    region : Region, optional
        What ``ball.within(images)`` returns, for who has it already.

    Returns
    -------
    Tensor of shape (N, ...)
        Images within ball and [0, 1].
    """
    generators = streams(check_indices(indices, len(images)), seed, restart)
    delta = ball.random(images, generators, shortened=ball.norm != "linf")
    return (region or ball.within(images)).perturb(delta)


def noise_control(
    model: nn.Module,  # noqa: ARG001 - the control is not to look
    images: Tensor,
    labels: Tensor,  # noqa: ARG001
    ball: Ball,
    *,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """Call `random_noise` the way an attack is called, for `evaluation.robust_accuracy`."""
    return random_noise(images, ball, seed=seed, indices=indices)
