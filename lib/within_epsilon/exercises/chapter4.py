"""Checks for chapter 4, Cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.exercises.registry import exercise
from within_epsilon.losses import cross_entropy, log_softmax
from within_epsilon.models import digits_classifier

K = 10


@exercise("4.1")
def from_logits(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`cross_entropy(logits, labels)` is right at any size of logits, and at both ends."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, K, generator=generator)
    labels = torch.tensor([0, 3, 9, 3, 5, 1])
    found = attempt(logits, labels)
    if not isinstance(found, Tensor) or found.shape != labels.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        return f"it must return one loss per row, shape (6,), not {shape}"
    exact = cross_entropy(logits.double(), labels).float()
    if torch.allclose(found, -exact, rtol=1e-4):
        return "the sign is wrong: log p_y is at most 0, and a loss at least 0"
    if not torch.allclose(found, exact, rtol=1e-4):
        return f"for {_row(logits[0])} and label 0 the loss is {exact[0]:.4f}, not {found[0]:.4f}"
    shifted = attempt(logits + 1000, labels)
    if not torch.allclose(shifted, exact, rtol=1e-2, atol=1e-3):
        return "adding 1000 to every logit must not change the loss: take the largest out first"
    sure = torch.tensor([[30.0, 0.0], [400.0, 0.0], [-400.0, 0.0]])
    small, none, large = attempt(sure, torch.zeros(3, dtype=torch.int64)).tolist()
    if not abs(large - 400) < 0.1:
        return f"sure and wrong by 400 costs 400, not {large:g}"
    if not abs(none) < 1e-30:
        return f"sure and right by 400 costs nothing, not {none:g}"
    if not math.isclose(small, math.exp(-30), rel_tol=1e-3):
        return (
            f"at margin 30 the loss is {math.exp(-30):.2g}, not {small:.2g}: 1 + x forgets a "
            "small x before the logarithm sees it"
        )
    return _slope_at_margin_30(attempt)


def _slope_at_margin_30(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """Complain unless the gradient in the label's logit, p_y - 1, has survived."""
    logits = torch.tensor([[0.0, 30.0, 0.0]], requires_grad=True)
    loss = attempt(logits, torch.tensor([1])).sum()
    if not loss.requires_grad:
        return "autograd cannot follow it back to the logits: compute with tensors all the way"
    (weights,) = torch.autograd.grad(loss, logits)
    if not math.isclose(weights[0, 1], -2 * math.exp(-30), rel_tol=1e-3):
        return (
            f"the values are right, but at margin 30 the slope in the label's own logit is "
            f"{weights[0, 1]:.2g} instead of {-2 * math.exp(-30):.2g}"
        )
    return None


@exercise("4.2")
def overconfident(attempt: Callable[[], tuple[Tensor, Tensor]]) -> str | None:
    """`overconfident()` returns logits that are mostly right and cost more than guessing."""
    logits, labels = (torch.as_tensor(part) for part in attempt())
    if logits.shape != (K, K) or labels.shape != (K,):
        return (
            f"logits must have shape ({K}, {K}) and labels ({K},), not {tuple(logits.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if not torch.isfinite(logits).all():
        return "the logits must be finite: infinity is no answer of a network"
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= K:
        return f"labels must be whole numbers from 0 to {K - 1}"
    if (logits == logits.amax(dim=1, keepdim=True)).sum() > K:
        return "in some row two logits are equally large, so that there is no single answer"
    right = int((logits.argmax(dim=1) == labels).sum())
    if right < K - 1:
        return f"only {right} of {K} answers are right"
    loss = cross_entropy(logits.double(), labels.long()).mean().item()
    if loss <= math.log(K):
        return (
            f"the mean loss is {loss:.3f}, and a guess costs {math.log(K):.3f}; "
            f"one mistake among {K} must cost {K} times as much"
        )
    return None


@exercise("4.3")
def repair(attempt: Callable[[nn.Sequential], nn.Module]) -> str | None:
    """`repair(model)` returns logits where the model returned probabilities."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(40, 64, generator=generator)
    labels = torch.randint(0, K, (40,), generator=generator)
    cases: list[tuple[list[nn.Module], str]] = [
        ([], "a model that returned logits gives another loss after the repair"),
        ([nn.Softmax(dim=1)], "for a model that ends in a softmax the loss is still wrong"),
        (
            [nn.Softmax(dim=1), nn.Linear(K, K)],
            "a softmax *inside* the model is no fault, and this one is gone or was doubled",
        ),
        (
            [nn.LogSoftmax(dim=1)],
            "a log-softmax at the end does no harm, whether you leave it there or not, "
            "but the loss must stay what it was",
        ),
    ]
    for size in (1.0, 300.0):
        for ending, complaint in cases:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                linear = nn.Linear(64, K)
                linear.weight *= size  # 300: as sure as can be
                model = nn.Sequential(linear, *ending)
                expected = _intended_losses(model, inputs, labels)
                fixed = attempt(model)
                if not callable(fixed):
                    return f"it must return a model, not a {type(fixed).__name__}"
                found = nn.functional.cross_entropy(fixed(inputs), labels, reduction="none")
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
                if size > 1 and not torch.isfinite(found).all():
                    return (
                        "where the model is very sure the loss is no longer finite: the "
                        "logarithm of a softmax that was rounded to 0 cannot be undone"
                    )
                return complaint
    return None


def _intended_losses(model: nn.Sequential, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the losses that the model would have if no last softmax were in the way."""
    ends_in_softmax = isinstance(model[-1], nn.Softmax)
    logits = (model[:-1] if ends_in_softmax else model)(inputs)
    return -log_softmax(logits).gather(1, labels.unsqueeze(1)).squeeze(1)


class _Loud(nn.Module):
    """The digits network behind a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.model, self.factor = digits_classifier(), factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.model(images)
        return logits


@exercise("4.4")
def revive(attempt: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> str | None:
    """`revive(model, images, labels, epsilon)` fools a network whose loss is silent."""
    images, labels = digits().validation[:200]
    epsilon = 0.1
    for factor in (100.0, 1e5):
        model = _Loud(factor).eval()
        changed = attempt(model, images.clone(), labels.clone(), epsilon)
        if not isinstance(changed, Tensor) or changed.shape != images.shape:
            return f"it must return a tensor of shape {tuple(images.shape)}, like its images"
        changed = changed.detach()
        if changed.min() < 0 or changed.max() > 1:
            return "some pixels left [0, 1]"
        if (changed - images).abs().max() > epsilon + 1e-6:
            return "some pixels moved by more than ε"
        with torch.no_grad():
            right = (model(changed).argmax(dim=1) == labels).float().mean().item()
        if right > 0.75:
            still = (changed == images).flatten(1).all(dim=1).float().mean().item()
            reason = (
                f"and {still:.0%} of the images did not move at all: which loss did you climb?"
                if still > 0.1
                else "not much less than under random signs: which loss did you climb?"
            )
            return f"behind a factor of {factor:g} the network is right on {right:.0%}, {reason}"
    return None


def _row(logits: Tensor) -> str:
    """Write a row of logits as one would in a notebook."""
    return "[" + ", ".join(f"{value:.2f}" for value in logits.tolist()) + "]"
