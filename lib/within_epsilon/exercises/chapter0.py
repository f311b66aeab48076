"""Checks for chapter 0, Tensors and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from within_epsilon.exercises.answers import tensor_like
from within_epsilon.exercises.registry import Wrong, exercise


@exercise("0.1")
def behind_the_label(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`behind_the_label(logits, labels)` is each logit minus that of the row's own label."""
    generator = torch.Generator().manual_seed(0)
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
            f"for logits {_list(logits[row])} with label {labels[row]} it must be "
            f"{_list(right[row])}, yours is {_list(found[row])}"
        )
    return None


def _list(row: Tensor) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in row.tolist()) + "]"


@exercise("0.2")
def slopes(attempt: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str | None:
    """`slopes(function, images)` differentiates each image's own number in its own pixels."""
    generator = torch.Generator().manual_seed(0)
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
