"""Stochastic gradient descent written out: the step, and the minibatches that it takes."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from within_epsilon.checks import check_counts


@torch.no_grad()
def sgd_step(
    parameters: Iterable[Tensor],
    step_size: float,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    velocities: list[Tensor] | None = None,
) -> None:
    r"""Take one step of stochastic gradient descent, in place.

    .. math:: v := \mu v + (g + \lambda \theta), \quad \theta := \theta - \alpha v

    Parameters
    ----------
    parameters : iterable of Tensor
        The parameters theta, with their minibatch gradient g in ``.grad``; those
        without one stay as they are.
    step_size : float
        The step size alpha.
    momentum : float
        The share mu of the last step that goes on; needs `velocities`.
    weight_decay : float
        The factor lambda that pulls parameters to 0.
    velocities : list of Tensor, optional
        One velocity v per parameter, zero at first, updated in place.

    Raises
    ------
    ValueError
        If there is momentum but no velocities.

    Notes
    -----
    The same update as torch.optim.SGD with neither dampening nor Nesterov's variant.
    """
    if momentum and velocities is None:
        raise ValueError(
            f"velocities: expected one tensor per parameter for momentum={momentum:g}, received "
            "None; start with zeros and pass the same list at every step"
        )
    for number, theta in enumerate(parameters):
        if theta.grad is None:
            continue
        direction = theta.grad
        if weight_decay:
            direction = direction + weight_decay * theta
        if velocities is not None:
            direction = velocities[number].mul_(momentum).add_(direction)
        theta -= step_size * direction


def minibatches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffle 0 ... n - 1 and cut it into minibatches.

    Parameters
    ----------
    n : int
        Number of examples.
    batch_size : int
        Examples in a minibatch; the last may be smaller.
    generator : torch.Generator
        Source of the shuffle, on the CPU.

    Yields
    ------
    Tensor of shape (B,), int64
        Indices; together every example once.
    """
    check_counts(batch_size=batch_size)
    yield from torch.split(torch.randperm(n, generator=generator), batch_size)
