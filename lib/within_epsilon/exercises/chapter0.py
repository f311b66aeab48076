"""Checks for chapter 0, Tensors and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import listed, number, tensor_like
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import variant


@exercise("0.1")
def behind_the_label(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`behind_the_label(logits, labels)` is each logit minus that of the row's own label."""
    generator = torch.Generator().manual_seed(variant(0))
    # With as many examples as classes, a column taken for a row raises no error.
    for n, k in [(3, 5), (4, 4), (1, 3)]:
        logits = torch.randn(n, k, generator=generator)
        labels = torch.randint(0, k, (n,), generator=generator)
        own = logits.gather(1, labels[:, None])
        right = logits - own
        try:
            found = tensor_like(attempt(logits, labels), right)
        except RuntimeError as error:
            if "must match the size" not in str(error):
                raise
            return (
                f"the labels' logits, of shape ({n},), do not line up with ({n}, {k}): missing "
                "axes are added in *front*, so make it a column, of shape (N, 1)"
            )
        if torch.allclose(found, right, atol=1e-6):
            continue
        mistakes = [
            (-right, "the sign is wrong: take the label's logit *from* the others"),
            (own - logits, "the sign is wrong: take the label's logit *from* the others"),
            (own.expand_as(logits), "that is the label's logit alone: what is left of the others?"),
            (logits - logits.amax(1, keepdim=True), "take off the label's logit, not the largest"),
        ]
        if n == k:
            mistakes += [
                (
                    logits - own.T,
                    "with as many images as classes, column and row fit equally: a shape (N,) is "
                    "taken for a *row*; each image needs its own number, shape (N, 1)",
                )
            ]
        for value, reason in mistakes:
            if torch.allclose(found, value, atol=1e-6):
                return reason
        row = int((found - right).abs().amax(dim=1).argmax())
        return (
            f"for logits {listed(logits[row])} with label {labels[row]} it must be "
            f"{listed(right[row])}, yours is {listed(found[row])}"
        )
    return None


@exercise("0.2")
def slopes(attempt: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str | None:
    """`slopes(function, images)` differentiates each image's own number in its own pixels."""
    generator = torch.Generator().manual_seed(variant(0))
    images = torch.rand(5, 1, 3, 3, generator=generator)
    weights = torch.rand(1, 1, 3, 3, generator=generator).requires_grad_()

    def function(batch: Tensor) -> Tensor:
        return (weights * batch**3).flatten(1).sum(dim=1)

    right = (3 * weights * images**2).detach()
    answer = attempt(function, images)
    if weights.grad is not None and weights.grad.any():
        return (
            "it left a gradient in the function's weights: ask `torch.autograd.grad` for the "
            "images' alone"
        )
    if isinstance(answer, tuple | list) and len(answer) == 1:
        raise Wrong("`torch.autograd.grad` returns a tuple; unpack its one member")
    found = tensor_like(answer, right)
    if torch.allclose(found, right, atol=1e-5):
        return None
    if torch.allclose(found, right / len(images), atol=1e-6):
        return (
            f"every slope is {len(images)} times too small: you differentiated the mean of the "
            "batch; their sum gives each image the gradient of its own number"
        )
    if (found[1:] == 0).all():
        return "only the first image has slopes: each of the others has a number, too"
    worst = (found - right).abs().max().item()
    return f"slopes are wrong by up to {worst:.2g}"


@exercise("0.3")
def lead(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`lead(logits, labels)` is the own logit minus the largest other, one number per image."""
    generator = torch.Generator().manual_seed(variant(1))
    for n, k in [(4, 6), (5, 5), (1, 2)]:
        # All below zero: whoever puts 0 in the label's place finds that 0 is the largest.
        logits = torch.randn(n, k, generator=generator) - 5
        labels = torch.randint(0, k, (n,), generator=generator)
        own = logits.gather(1, labels[:, None])[:, 0]
        right = own - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
        answer = attempt(logits, labels)
        if isinstance(answer, Tensor) and answer.shape == (n, n) and n > 1:
            return (
                f"it returns a table of shape ({n}, {n}): a column (N, 1) met a row (N,); take "
                "`own[:, 0]` before you subtract"
            )
        found = tensor_like(answer, right)
        if torch.allclose(found, right, atol=1e-5):
            continue
        mistakes = [
            (-right, "the sign is wrong: positive means that the label's logit is ahead"),
            (own - logits.amax(dim=1), "the largest *other*: the label's own logit must not "
             "compete, or no lead is ever positive"),
            (own - logits.scatter(1, labels[:, None], 0.0).amax(dim=1), "logits may all be "
             "negative, and then 0 is the largest: put minus infinity in the label's place"),
        ]  # fmt: skip
        for value, reason in mistakes:
            if torch.allclose(found, value, atol=1e-5):
                return reason
        return (
            f"for logits {listed(logits[0])} with label {labels[0]} it must be {right[0]:.2f}, "
            f"yours is {found[0]:.2f}"
        )
    return None


def _batch_functions() -> list[tuple[Callable[[Tensor], Tensor], bool, str]]:
    """Return functions of a batch, whether they mix it, and what to say if that is not seen."""

    def alone(batch: Tensor) -> Tensor:
        return (batch**3).flatten(1).sum(dim=1)

    def centred(batch: Tensor) -> Tensor:
        return alone(batch - batch.mean(dim=0))

    def neighbours(batch: Tensor) -> Tensor:
        numbers = alone(batch)
        return torch.cat([numbers[:-1], numbers[-1:] * numbers.roll(1)[-1:]])

    def cancelling(batch: Tensor) -> Tensor:
        numbers = alone(batch)
        return numbers - numbers.roll(1) + numbers.detach()

    def by_place(batch: Tensor) -> Tensor:
        return alone(batch) + alone(batch.mean(dim=(2, 3), keepdim=True))

    return [
        (alone, False, "each number is a sum over one image's own pixels: nothing is mixed"),
        (centred, True, "it subtracts the mean of the batch, as batch normalisation does"),
        (by_place, False, "a mean over an image's *own* pixels mixes no images"),
        (neighbours, True, "the last image's number is multiplied by that of the one before: look "
         "at every image, not at the first alone"),
        (cancelling, True, "each number has the one before taken off: the gradient of the *sum* "
         "does not show it, for there it cancels; look at the numbers one by one"),
    ]  # fmt: skip


@exercise("0.4")
def mixes(attempt: Callable[[Callable[[Tensor], Tensor], Tensor], bool]) -> str | None:
    """`mixes(function, images)` says whether some image's number depends on another image."""
    generator = torch.Generator().manual_seed(variant(2))
    images = 0.1 + torch.rand(4, 1, 3, 3, generator=generator)
    for function, expected, reason in _batch_functions():
        answer = attempt(function, images)
        if isinstance(answer, Tensor) and answer.numel() != 1:
            return f"it must return one True or False, got shape {tuple(answer.shape)}"
        if bool(answer) != expected:
            return f"for one function it says {bool(answer)}, and it is {expected}: {reason}"
    return None


class _Shifted(nn.Module):
    """A layer with two tables of weights, one of them used twice, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 6))
        self.again = self.weight
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, images: Tensor) -> Tensor:
        mean = self.get_buffer("mean")
        return (images.flatten(1) - mean) @ (self.weight + self.again).T * self.scale


@exercise("0.5")
def learned(attempt: Callable[[nn.Module], int]) -> str | None:
    """`learned(network)` is how many numbers training may change in it."""
    frozen = nn.Linear(6, 4)
    frozen.bias.requires_grad_(False)
    cases: list[tuple[nn.Module, int, dict[float, str]]] = [
        (nn.Linear(64, 10), 650, {
            640: "the bias has ten numbers, too",
            2: "you count tensors: add up how many numbers each of them holds",
        }),
        (nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)), 947, {
            72 + 864: "biases are numbers, too", 867: "the convolution has numbers, too",
        }),
        (_Shifted(), 28, {
            34: "its buffer has 6 numbers, and training does not change them",
            52: "a table that is used twice is trained once: count it once",
            58: "a table that is used twice counts once, and a buffer not at all",
        }),
        (frozen, 24, {28: "a parameter that asks for no gradient stays as it is"}),
        (nn.ReLU(), 0, {}),
    ]  # fmt: skip
    for network, right, mistakes in cases:
        found = number(attempt(network), "a number")
        if found != right:
            why = mistakes.get(found, "read its lines, and add up the sizes")
            return f"of {network} training may change {right} numbers, you say {found:g}: {why}"
    return None
