"""Checks for chapter 5, Stochastic gradient descent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.exercises.registry import exercise
from within_epsilon.losses import cross_entropy

Gradients = Sequence[Tensor]


class _Network(nn.Module):
    """Two layers, a parameter without a gradient, and a count of the images that came at once."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)
            )
        self.largest_batch = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(images))
        logits: Tensor = self.layers(images)
        return logits


def _with_idle_parameter() -> _Network:
    model = _Network()
    model.idle = nn.Parameter(torch.ones(3))
    return model


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    loss = cross_entropy(model(images), labels).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


def _close(ours: Gradients, theirs: Gradients, tolerance: float = 1e-5) -> bool:
    return all((a - b).abs().max() <= tolerance for a, b in zip(ours, theirs, strict=True))


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    for start in (0, 16, 32):
        yield digits().train[start : start + 16]


def _reference(factor: float, *, clear: bool = True) -> list[Tensor]:
    """Return the parameters after three steps of torch.optim.SGD with a step size of 0.1."""
    model = _with_idle_parameter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, labels in _batches():
        if clear:
            optimizer.zero_grad()
        (factor * cross_entropy(model(images), labels).mean()).backward()
        optimizer.step()
    return [theta.detach() for theta in model.parameters()]


@exercise("5.1")
def sgd_step(attempt: Callable[[nn.Module, Tensor, Tensor, float], object]) -> str | None:
    """`sgd_step(model, images, labels, step_size)` does what torch.optim.SGD does."""
    model = _with_idle_parameter()
    parameters = list(model.parameters())
    before = [theta.detach().clone() for theta in parameters]
    first_loss, losses = 0.0, []
    for step, (images, labels) in enumerate(_batches()):
        if step == 0:
            first_loss = cross_entropy(model(images), labels).mean().item()
        losses.append(attempt(model, images, labels, 0.1))
    after = list(model.parameters())
    if any(a is not b for a, b in zip(parameters, after, strict=True)):
        return "it put new parameters into the model; change those that are there, in place"
    if any(theta.grad_fn is not None or not theta.requires_grad for theta in after):
        return "the update itself was recorded for differentiation: put it under torch.no_grad()"
    complaint = _compare_steps(before, [theta.detach() for theta in after])
    if complaint or losses[0] is None:
        return complaint
    returned = losses[0].detach() if isinstance(losses[0], Tensor) else losses[0]
    try:
        distance = abs(float(returned) - first_loss)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"it must return the loss, a number, got {type(returned).__name__}"
    if distance > 1e-4:
        return (
            f"it returned {float(returned):.4f}, the mean loss before the step was "  # type: ignore[arg-type]
            f"{first_loss:.4f}"
        )
    return None


def _compare_steps(before: Gradients, after: Gradients) -> str | None:
    """Compare parameters after three steps with torch.optim's, and with what slips would give."""
    if _close(after, _reference(1.0)):
        return None
    if _close(after, before, 0.0):
        return "no parameter has moved"
    if _close(after, _reference(-1.0)):
        return "it went *up* the loss: subtract the gradient"
    if _close(after, _reference(16.0), 1e-3):
        return "its steps are |B| = 16 times too long: take the mean of the losses, not the sum"
    if _close(after, _reference(1.0, clear=False)):
        return "the gradients of earlier steps were added to this one: clear them first"
    distance = max((a - b).abs().max().item() for a, b in zip(after, _reference(1.0), strict=True))
    return f"after three steps a parameter is {distance:.2g} away from where torch.optim.SGD has it"


@exercise("5.2")
def full_gradient(
    attempt: Callable[[nn.Module, Tensor, Tensor, int], Gradients],
) -> str | None:
    """`full_gradient(model, images, labels, batch_size)` adds up minibatches with their weights."""
    for n, batch_size in [(48, 8), (50, 8), (10, 32)]:
        images, labels = digits().train[:n]
        model = _Network()
        expected = _gradient(model, images, labels)
        cross_entropy(model(images[:1]), labels[:1]).mean().backward()  # something left over
        before, model.largest_batch = copy.deepcopy(model.state_dict()), 0
        found = list(attempt(model, images, labels, batch_size))
        if [tuple(g.shape) for g in found] != [tuple(g.shape) for g in expected]:
            return "it must return one tensor per parameter, of the parameter's shape, in order"
        if any((model.state_dict()[name] != value).any() for name, value in before.items()):
            return "it moved the model's parameters; only the gradient was asked for"
        if model.largest_batch > batch_size:
            return (
                f"it sent {model.largest_batch} images through the model at once, and only "
                f"{batch_size} fit"
            )
        if not _close(found, expected):
            return _misweighed(found, expected, images, labels, batch_size)
    return None


def _misweighed(
    found: Gradients, expected: Gradients, images: Tensor, labels: Tensor, batch_size: int
) -> str:
    """Say how a wrong full gradient seems to have been put together."""
    model, n = _Network(), len(images)
    batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
    parts = [_gradient(model, *batch) for batch in batches]
    total = [sum(tensors, torch.zeros_like(tensors[0])) for tensors in zip(*parts, strict=True)]
    left_over = _gradient(model, images[:1], labels[:1])
    mean = [t / len(parts) for t in total]
    if n % batch_size and _close(found, mean):
        return (
            f"with {n} images the last batch has {n % batch_size}, and in a plain average of the "
            f"batches each of these counts as much as {batch_size // (n % batch_size)} others: "
            "weigh a batch by its size"
        )
    if _close(found, total):
        return "you added the means of all batches: that is too large by the number of batches"
    if _close(found, [n * g for g in expected], 1e-3):
        return f"that is the gradient of the sum of all losses: divide by {n}"
    if _close(found, [a + b for a, b in zip(expected, left_over, strict=True)]):
        return "a gradient that lay in .grad from before was added: clear it first"
    furthest = max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
    return f"with {n} images in batches of {batch_size} it is off by up to {furthest:.2g}"


@exercise("5.3")
def epoch_to_keep(attempt: Callable[[list[float], int], int]) -> str | None:
    """`epoch_to_keep(validation_losses, patience)` never sees what comes after the stop."""
    nan = float("nan")
    cases = [
        ([3.0, 2.0, 1.0], 2, 2, "the lowest loss came last, in epoch 2 counted from 0"),
        ([3.0, 1.0, 2.0, 2.0], 2, 1, "the lowest loss came in epoch 1, counted from 0"),
        (
            [3.0, 1.0, 2.0, 2.0, 0.5],
            2,
            1,
            "after two epochs without a new lowest loss training has stopped: the 0.5 later on "
            "was never computed",
        ),
        ([3.0, 1.0, 2.0, 0.9, 1.5], 2, 3, "one bad epoch is within a patience of two: go on"),
        (
            [3.0, 2.0, 2.5, 2.2, 2.1, 1.0],
            3,
            1,
            "2.5, 2.2 and 2.1 fall, but none is a new *lowest* loss, and the patience is three",
        ),
        ([2.0, 1.0, 1.0, 1.0, 0.5], 2, 1, "a loss that equals the lowest is no new lowest"),
        ([nan, 2.0, 1.0], 2, 2, "a NaN is not lower than anything, and nothing is lower than it"),
        ([2.0, 1.0, nan, nan, 0.5], 2, 1, "an epoch with a NaN is one without a new lowest loss"),
    ]
    for losses, patience, expected, reason in cases:
        found = attempt(list(losses), patience)
        if not isinstance(found, int | float | Tensor) or isinstance(found, bool):
            return f"it must return the number of an epoch, got {type(found).__name__}"
        if int(found) != expected:
            said = f"for {losses} and a patience of {patience} you keep epoch {int(found)}, not "
            return f"{said}{expected}: {reason}"
    return None


@exercise("5.4")
def largest_step(attempt: Callable[[list[float], float], float]) -> str | None:
    """`largest_step(curvatures, momentum)` lies between what converges and what does not."""
    for curvatures, momentum in [([2.0], 0.0), ([0.5, 4.0, 1.0], 0.0), ([4.0, 0.5], 0.9),
                                 ([1.0], 0.5)]:  # fmt: skip
        limit = float(attempt(list(curvatures), momentum))
        if not limit > 0:
            return f"for curvatures {curvatures} you return {limit:g}; a step size is positive"
        below, above = (_distance(f * limit, curvatures, momentum) for f in (0.99, 1.01))
        where = f"for curvatures {curvatures} and momentum {momentum:g} you say {limit:.3g}"
        if below > 1e-3:
            return f"{where}, but one percent below that it does not converge: try it"
        if above < 1e3:
            return f"{where}, but one percent above that it still converges: try it"
    return None


def _distance(step_size: float, curvatures: list[float], momentum: float) -> float:
    """Return how far from the minimum SGD with momentum is, after many steps from distance 1."""
    furthest = 0.0
    for curvature in curvatures:
        theta, velocity = 1.0, 0.0
        for _ in range(3000):
            velocity = momentum * velocity + curvature * theta
            theta -= step_size * velocity
            if abs(theta) > 1e6:
                break
        furthest = max(furthest, abs(theta))
    return furthest
