"""Checks for chapter 5, Stochastic gradient descent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.exercises.answers import describe, number, tensor_like, whole
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.step_sizes import RUNS, distance, misjudged
from within_epsilon.exercises.variants import jittered, variant
from within_epsilon.losses import cross_entropy

Gradients = Sequence[Tensor]


class _Network(nn.Module):
    """Two layers, a parameter without a gradient, and a count of the images that came at once."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(variant(0))
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)
            )
        self.largest_batch = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(images))
        logits: Tensor = self.layers(images)
        return logits


def _with_idle_parameter() -> _Network:
    """Return a network with one more parameter, and gradients that lie about in all others."""
    model = _Network()
    model.idle = nn.Parameter(torch.ones(3))
    images, labels = digits().validation[:10]
    (-3 * cross_entropy(model(images), labels).mean()).backward()
    return model


def _close(ours: Gradients, theirs: Gradients, tolerance: float = 1e-5) -> bool:
    return all((a - b).abs().max() <= tolerance for a, b in zip(ours, theirs, strict=True))


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    for start in (0, 16, 32):
        yield digits().train[start : start + 16]


def _reference(factor: float, *, clear: str = "before") -> list[Tensor]:
    """Return the parameters after three steps of 0.1, as torch.optim.SGD takes them."""
    model = _with_idle_parameter()
    for images, labels in _batches():
        if clear == "before":
            model.zero_grad()
        (factor * cross_entropy(model(images), labels).mean()).backward()
        with torch.no_grad():
            for theta in model.parameters():
                if theta.grad is not None:
                    theta.sub_(0.1 * theta.grad)
        if clear == "after":
            model.zero_grad()
    return [theta.detach() for theta in model.parameters()]


@exercise("5.1")
def sgd_step(attempt: Callable[[nn.Module, Tensor, Tensor, float], object]) -> str | None:
    """`sgd_step(model, images, labels, step_size)` does what torch.optim.SGD does."""
    model = _with_idle_parameter()
    parameters = list(model.parameters())
    before = [theta.detach().clone() for theta in parameters]
    wanted, returned = [], []
    for images, labels in _batches():
        with torch.no_grad():
            wanted.append(cross_entropy(model(images), labels).mean().item())
        returned.append(attempt(model, images, labels, 0.1))
    after = list(model.parameters())
    if any(a is not b for a, b in zip(parameters, after, strict=True)):
        raise Wrong(
            "it put new parameters into the model; change those that are there, in place",
            attempted=True,
        )
    if any(theta.grad_fn is not None or not theta.requires_grad for theta in after):
        return "the update itself was recorded for differentiation: put it under torch.no_grad()"
    complaint = _compare_steps(before, [theta.detach() for theta in after])
    if complaint:
        raise Wrong(complaint, attempted=not _close(after, before, 0.0))
    for loss, right in zip(returned, wanted, strict=True):
        if loss is None or loss is ...:
            raise Wrong(
                "it returns nothing, and the loss before the step was asked for", attempted=True
            )
        value = number(loss, "the loss, a number")
        if not abs(value - right) <= 1e-4:
            return f"it returned {value:.4f}, the mean loss before the step was {right:.4f}"
    return None


def _compare_steps(before: Gradients, after: Gradients) -> str | None:
    """Compare parameters after three steps with torch.optim's, and with what slips would give."""
    if _close(after, _reference(1.0)):
        return None
    if _close(after, before, 0.0):
        return "no parameter has moved"
    slips = [
        (_reference(-1.0), "it went *up* the loss: subtract the gradient"),
        (
            _reference(16.0),
            "its steps are |B| = 16 times too long: take the mean of the losses, not the sum",
        ),
        (
            _reference(1.0, clear="never"),
            "the gradients of earlier steps were added to this one: clear them first",
        ),
        (
            _reference(1.0, clear="after"),
            "a gradient that lay in .grad before the first step was added to it: clear before "
            "`backward`, not after the step",
        ),
    ]
    for parameters, reason in slips:
        if _close(after, parameters, 1e-3 if "|B|" in reason else 1e-5):
            return reason
    distance = max((a - b).abs().max().item() for a, b in zip(after, _reference(1.0), strict=True))
    return f"after three steps a parameter is {distance:.2g} away from where torch.optim.SGD has it"


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    loss = cross_entropy(model(images), labels).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


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
        answer = attempt(model, images, labels, batch_size)
        found = _per_parameter(answer, model, expected)
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


def _per_parameter(answer: object, model: nn.Module, like: list[Tensor]) -> list[Tensor]:
    """Return one tensor per parameter, from a sequence or from a dictionary by name."""
    names = [name for name, _ in model.named_parameters()]
    if isinstance(answer, Mapping) and set(answer) == set(names):
        answer = [answer[name] for name in names]
    if not isinstance(answer, Sequence | Iterator) or isinstance(answer, str):
        raise Wrong(f"it must return one tensor per parameter, got {describe(answer)}")
    parts = list(answer)
    if len(parts) != len(like):
        raise Wrong(f"it must return one tensor per parameter, {len(like)}, got {len(parts)}")
    return [
        tensor_like(part, theta, f"for parameter `{name}` a tensor")
        for part, theta, name in zip(parts, like, names, strict=True)
    ]


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
def choose(attempt: Callable[[Tensor, list[float]], float]) -> str | None:
    """`choose(errors, step_sizes)` takes the lowest mean of those that never diverged."""
    for table, sizes in RUNS:
        errors = jittered(torch.tensor(table))
        step_sizes = jittered(torch.tensor(sizes, dtype=torch.float64)).tolist()
        found = number(attempt(errors, list(step_sizes)), "a step size")
        if complaint := misjudged(found, errors, step_sizes):
            return complaint
    return None


@exercise("5.4")
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
        found = whole(attempt(losses, patience), "the number of an epoch")
        if found != expected:
            said = f"for {losses} and a patience of {patience} you keep epoch {found}, not "
            return f"{said}{expected}: {reason}"
    return None


@exercise("5.5")
def largest_step(attempt: Callable[[list[float], float], float]) -> str | None:
    """`largest_step(curvatures, momentum)` lies between what converges and what does not."""
    for curvatures, momentum in [([2.0], 0.0), ([0.5, 4.0, 1.0], 0.0), ([4.0, 0.5], 0.9),
                                 ([1.0], 0.5)]:  # fmt: skip
        curvatures = jittered(torch.tensor(curvatures, dtype=torch.float64)).tolist()
        limit = number(attempt(curvatures, momentum))
        where = f"for curvatures {curvatures} and momentum {momentum:g} you say {limit:.3g}"
        if not limit > 0:
            return f"{where}; a step size is positive"
        below, above = (distance(f * limit, curvatures, momentum) for f in (0.99, 1.01))
        if below <= 1e-3 and above >= 1e3:
            continue
        if below > 1e-3:
            return f"{where}, but one percent below that it does not converge" + _guess(
                limit, curvatures, momentum
            )
        return f"{where}, but one percent above that it still converges" + _guess(
            limit, curvatures, momentum
        )
    return None


def _guess(limit: float, curvatures: list[float], momentum: float) -> str:
    """Say what a wrong limit seems to have been made of."""
    steepest, flattest = max(curvatures), min(curvatures)
    other = [(flattest, "the flattest"), (sum(curvatures), "the sum"),
             (sum(curvatures) / len(curvatures), "the mean")]  # fmt: skip
    for factor in {1.0, 1 + momentum}:
        for curvature, name in other:
            if curvature != steepest and abs(limit * curvature - 2 * factor) < 1e-6:
                return f": {name} of the curvatures does not decide, the steepest does"
    if momentum and abs(limit * steepest - 2) < 1e-6:
        return ": 2/L is the limit without momentum"
    if momentum and abs(limit * steepest - 2 * (1 - momentum)) < 1e-6:
        return (
            ": dividing the step by what the velocity adds up to, 1/(1 - μ), holds on a slope that "
            "stays the same; at the limit θ jumps to and fro, and the slope with it"
        )
    return ": try it in a loop with one curvature, θ = 1 and v = 0, and watch its sign"
