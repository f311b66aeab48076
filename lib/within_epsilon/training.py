"""Training: stochastic gradient descent written out, and the loop around it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_logits, check_model
from within_epsilon.data.examples import Examples, Given
from within_epsilon.evaluation import accuracy
from within_epsilon.losses import cross_entropy
from within_epsilon.runtime import device_of, progress_bar


@dataclass
class History:
    """What training looked like, one entry per epoch.

    Parameters
    ----------
    train_losses : list of float
        Mean loss over the epoch's minibatches, each before its own step.
    validation_accuracies : list of float
        Accuracy on the validation split after the epoch; empty without one.
    """

    train_losses: list[float] = field(default_factory=list)
    validation_accuracies: list[float] = field(default_factory=list)


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
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, received {batch_size}")
    yield from torch.split(torch.randperm(n, generator=generator), batch_size)


def fit(
    model: nn.Module,
    split: Given,
    *,
    epochs: int,
    batch_size: int,
    step_size: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    validation: Given | None = None,
    seed: int = 0,
    progress: bool = True,
    callback: Callable[[int, History], None] | None = None,
) -> History:
    r"""Train a classifier: minimise its mean cross-entropy by minibatch SGD.

    .. math:: \min_\theta \frac1m \sum_{i=1}^m \ell(h_\theta(x_i), y_i)

    Parameters
    ----------
    model : nn.Module
        Takes images, returns logits (N, K). Trained in place, on its own device, and
        left in eval mode.
    split : Labelled, pair of Tensors, Dataset or DataLoader
        Training examples: ``.images`` in [0, 1] and ``.labels``; the two as a pair; or a
        data set of such pairs, read anew in every epoch. A DataLoader brings its own
        minibatches, shuffled by itself.
    epochs : int
        Passes over the training examples.
    batch_size : int
        Examples in a minibatch; those of a DataLoader stay as they are.
    step_size, momentum, weight_decay : float
        See `sgd_step`.
    validation : as `split`, optional
        Examples to measure accuracy on after every epoch.
    seed : int
        Seed of the shuffles, and of dropout if there is any.
    progress : bool
        Show a progress bar on a terminal.
    callback : callable, optional
        ``callback(epoch, history)`` after every epoch, from 0.

    Returns
    -------
    History
        Losses and accuracies per epoch.

    Raises
    ------
    TypeError
        If there are no images and labels where they are looked for.
    ValueError
        If the data are unusable, no parameter can be trained, BatchNorm gets a minibatch of
        one, or the loss stops being finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs: expected at least 1, received {epochs}")
    check_model(model)
    device = device_of(model)
    examples = Examples(split, device)
    held_out = None if validation is None else Examples(validation, device)
    generator = torch.Generator().manual_seed(seed)
    cut = partial(minibatches, batch_size=batch_size, generator=generator)
    velocities = [torch.zeros_like(theta) for theta in model.parameters()]
    update = partial(
        sgd_step,
        step_size=step_size,
        momentum=momentum,
        weight_decay=weight_decay,
        velocities=velocities,
    )
    history = History()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # dropout draws from the global generator
        for epoch in progress_bar(range(epochs), show=progress, label="training", unit="epoch"):
            model.train()
            total, n = 0.0, 0
            for images, labels in examples.batches(cut):
                loss = _mean_loss(model, images, labels)
                _require_finite(loss, epoch, step_size)
                model.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                update(model.parameters())
                total += loss.item() * len(images)
                n += len(images)
            model.eval()
            history.train_losses.append(total / n)
            if held_out is not None:
                history.validation_accuracies.append(_accuracy(model, held_out))
            if callback is not None:
                callback(epoch, history)
    return history


def _accuracy(model: nn.Module, examples: Examples) -> float:
    hits, n = 0, 0
    for images, labels in examples.batches(lambda n: torch.arange(n).split(256)):
        hits += round(accuracy(model, images, labels) * len(images))
        n += len(images)
    return hits / n


def _mean_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    try:
        logits = check_logits(model(images), len(images))
    except (ValueError, RuntimeError, torch.jit.Error) as error:
        if len(images) > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "batch_size: expected minibatches of at least two examples, for BatchNorm to compare, "
            "received one of a single example; choose a batch_size that leaves no single one over, "
            "or drop_last=True in a DataLoader"
        ) from error
    loss = cross_entropy(logits, labels).mean()
    if not loss.requires_grad:
        raise ValueError(
            "model: expected parameters to train, received a model that is frozen: none that its "
            "logits depend on requires a gradient; unfreeze some with "
            "model.requires_grad_(True), and look for no_grad() or detach() in the model"
        )
    return loss


def _require_finite(loss: Tensor, epoch: int, step_size: float) -> None:
    if not torch.isfinite(loss):
        raise ValueError(
            f"loss: expected a finite number, received {loss.item()} in epoch {epoch}; "
            f"step_size={step_size:g} is too large, try {step_size / 10:g}"
        )
