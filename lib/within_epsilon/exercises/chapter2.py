"""Checks for chapter 2, Notation."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.exercises.answers import entries, number, tensor_like
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.variants import variant
from within_epsilon.geometry import Norm
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

# What each name stands for in the exercise's setting: its shape, and why.
SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "images": ((32, 3, 64, 64), "the batch comes first, then channels, height and width"),
    "labels": ((32,), "one class number per picture, no axis for the classes"),
    "logits": ((32, 200), "one row per picture, one logit per class"),
    "losses": ((32,), "the loss is one number per picture: it has summed the classes away"),
    "mean_loss": ((), "a mean over the batch is one number, and its shape has no axis"),
    "gradient": ((32, 3, 64, 64), "a gradient has the shape of what it is taken in"),
    "lengths": ((32,), "there is one norm per picture"),
    "weight": ((200, 512), "a linear layer keeps its outputs in the first axis"),
}
PARAMETERS = 200 * 512 + 200


@exercise("2.1")
def shapes(attempt: Mapping[str, object]) -> str | None:
    """`shapes` gives every name in the exercise its shape, and counts the last layer."""
    entries(attempt, [*SHAPES, "parameters"])
    for name, (shape, reason) in SHAPES.items():
        if _axes(attempt[name]) != shape:
            return f"{name} is not {attempt[name]}: {reason}"
    parameters = number(_read(attempt["parameters"]), "for parameters a number")
    if parameters == PARAMETERS - 200:
        return "a linear layer has biases, too: one for each output"
    if parameters != PARAMETERS:
        return f"the last layer does not have {parameters:g} parameters: multiply, then add"
    return None


def _read(given: object) -> object:
    """Return what a string spells, and anything else as it is."""
    try:
        return ast.literal_eval(given) if isinstance(given, str) else given
    except (SyntaxError, ValueError):
        return given


def _axes(given: object) -> object:
    """Return a shape as a tuple; (32) is a number, and who forgets the comma means the tuple."""
    given = _read(given)
    if isinstance(given, int | float):
        return (given,)
    return (
        tuple(given.tolist() if isinstance(given, Tensor) else given)
        if isinstance(given, list | tuple | Tensor)
        else given
    )


def _of_the_class() -> Tensor:
    generator = torch.Generator().manual_seed(variant(0))
    return torch.randint(2, 13, (8,), generator=generator)


@exercise("2.2")
def count_from_zero(attempt: Callable[[Tensor, int], Tensor]) -> str | None:
    """`count_from_zero(labels, k)` turns classes 1 to k into 0 to k - 1, and nothing else."""
    cases = [
        (torch.arange(1, 11), 10, "classes 1 to 10 must become 0 to 9"),
        (
            torch.tensor([4, 2, 2, 7]),
            10,
            "not every batch contains class 1: how much you subtract must not depend on the batch",
        ),
        (torch.tensor([3, 3]), 3, "the last of 3 classes is number 2"),
        (_of_the_class(), 12, "a batch of 8 labels from 1 to 12 comes out wrong"),
    ]
    for labels, k, reason in cases:
        answer = attempt(labels, k)
        right = tensor_like(answer, labels.double(), "labels")
        if not torch.equal(right, labels.double() - 1):
            return f"{reason}; you made {right.tolist()} of {labels.tolist()}"
        if isinstance(answer, Tensor) and (answer.is_floating_point() or answer.is_complex()):
            return f"class numbers stay whole numbers, torch.int64; yours became {answer.dtype}"
    wrong = [
        (torch.tensor([5, 0, 2]), "a 0 among the labels says that they count from 0 already"),
        (torch.tensor([1, 11]), "there is no class 11 of 10"),
    ]
    for labels, reason in wrong:
        try:
            attempt(labels, 10)
        except ValueError:
            continue
        except Exception as error:  # an assertion, for instance
            return f"{reason}: raise a ValueError, not {type(error).__name__}"
        return f"{reason}: raise a ValueError instead of an answer"
    return None


@exercise("2.3")
def lengths(attempt: Callable[[Tensor, str], Tensor]) -> str | None:
    """`lengths(delta, norm)` measures each picture's perturbation, whatever its shape."""
    generator = torch.Generator().manual_seed(variant(0))
    norms: tuple[Norm, ...] = ("linf", "l2", "l1")
    for shape in [(5, 1, 8, 8), (2, 3, 4, 6), (1, 1, 8, 8), (7, 10), (3, 2, 2, 2, 2)]:
        delta = torch.randn(shape, generator=generator)
        delta[0] = -delta[0].abs()  # a picture that only gets darker
        for norm in norms:
            complaint = _judge_lengths(attempt(delta, norm), delta, norm)
            if complaint:
                return f"{norm} of a delta of shape {shape}: {complaint}"
    return None


def _judge_lengths(answer: object, delta: Tensor, norm: Norm) -> str | None:
    """Compare one answer with the library's, and recognise the usual mistakes."""
    ball = Ball(norm, 1.0)
    right = ball.length(delta).float()
    found = tensor_like(answer, right, "one number per picture,")
    if torch.allclose(found, right, rtol=1e-4):
        return None
    if torch.allclose(found, ball.length(delta.flatten()[None]).float()):
        return "that is one norm of the whole batch, repeated"
    if norm == "l2" and torch.allclose(found, right.square(), rtol=1e-4):
        return "that is the sum of the squares; take the root"
    if found[0] < 0 or norm != "l2":
        return "changes up and down count alike; mind the signs and the pixels' axes"
    return f"expected {right[0]:.4f} for the first picture, got {found[0]:.4f}"


@exercise("2.4")
def worst_mean_loss(
    attempt: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor],
) -> str | None:
    """`worst_mean_loss(model, images, labels, deltas)`: a mean of maxima over a finite set."""
    model, split = digits_classifier(), digits().validation
    generator = torch.Generator().manual_seed(variant(2))
    for members, n in [(6, 40), (3, 3), (1, 7)]:
        images, labels = split.images[:n], split.labels[:n]
        deltas = 0.25 * torch.randn(members, 1, 8, 8, generator=generator).sign()
        with torch.no_grad():
            table = torch.stack([cross_entropy(model(images + delta), labels) for delta in deltas])
            changed = [(images + delta).clamp(0, 1) for delta in deltas]
            clipped = torch.stack([cross_entropy(model(batch), labels) for batch in changed])
        value = number(
            attempt(model, images, labels, deltas), "one number, the mean over the batch"
        )
        complaint = _judge_worst(value, table, clipped)
        if complaint:
            return complaint
    return None


def _judge_worst(value: float, table: Tensor, clipped: Tensor) -> str | None:
    """Compare with the mean over examples (columns) of the maxima over the set (rows)."""
    if abs(value - table.amax(dim=0).mean().item()) < 1e-3:
        return None
    others = [
        (
            table.mean(dim=1).max(),
            "that is the maximum of the means, one δ for all pictures together; "
            "in the formula the maximum stands inside: each picture has its own worst δ",
        ),
        (table.max(), "that is the worst loss of a single picture; where is the mean?"),
        (table.mean(), "that is the mean over all members of Δ; the adversary takes the worst"),
        (table.amax(dim=0).sum(), "that is the sum of the worst losses; divide by m"),
        (table.amax(dim=1).mean(), "the maximum runs over the pictures and the mean over Δ"),
        (clipped.amax(dim=0).mean(), "you have clipped x + δ to [0, 1], and the task says not to"),
    ]
    for other, reason in others:
        if abs(value - other.item()) < 1e-3:
            return reason
    return (
        f"expected {table.amax(dim=0).mean():.3f} on a batch of {table.shape[1]}, got {value:.3f}"
    )
