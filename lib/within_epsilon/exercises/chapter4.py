"""Checks for chapter 4, Cross-entropy."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import listed, tensor, tensor_like
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.variants import variant
from within_epsilon.exercises.watch import without_autograd
from within_epsilon.losses import cross_entropy, log_softmax, margin

K = 10


@exercise("4.1")
def overconfident(attempt: Callable[[], tuple[Tensor, Tensor]]) -> str | None:
    """`overconfident()` returns logits that are mostly right and cost more than guessing."""
    answer = attempt()
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong("it must return a pair, (logits, labels)")
    logits = tensor(answer[0], (K, K), "logits").detach().double()
    labels = tensor(answer[1], (K,), "labels").detach().double()
    if not torch.isfinite(logits).all():
        return "the logits must be finite: infinity is no answer of a network"
    if (labels != labels.round()).any() or labels.min() < 0 or labels.max() >= K:
        return f"labels must be whole numbers from 0 to {K - 1}"
    margins = margin(logits, labels.long())
    if (margins == 0).any():
        return "in some row the label and another class tie, so that there is no single answer"
    right = int((margins > 0).sum())
    if right < K - 1:
        return f"only {right} of {K} answers are right"
    loss = cross_entropy(logits, labels.long()).mean().item()
    if loss <= math.log(K):
        return (
            f"the mean loss is {loss:.3f}, and a guess costs {math.log(K):.3f}; "
            f"one mistake among {K} must cost {K} times as much"
        )
    return None


@exercise("4.2")
def loss_gradient(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`loss_gradient(logits, labels)` is p - e_y, also where p_y is rounded to 1."""
    generator = torch.Generator().manual_seed(variant(0))
    ordinary = 3 * torch.randn(5, K, generator=generator)
    sure = torch.tensor([[30.0, 0.0, 1.0], [0.0, 20.0, 0.0], [-5.0, 1.0, 40.0], [200.0, 0.0, 0.0]])
    cases = [(ordinary, torch.tensor([0, 3, 9, 3, 5])), (sure, torch.tensor([0, 1, 2, 1]))]
    for logits, labels in cases:
        p = logits.double().softmax(dim=1)
        truth = nn.functional.one_hot(labels, logits.shape[1])
        right = torch.where(truth == 1, 0.0, p)
        right -= truth * right.sum(dim=1, keepdim=True)
        with without_autograd():
            answer = attempt(logits, labels)
        found = tensor_like(answer, right)
        if torch.allclose(found, right, rtol=1e-3, atol=1e-30):
            continue
        mistakes = [
            (-right, "the sign is wrong: raising the label's own logit *lowers* the loss"),
            (p, "that is p alone; what is true, e_y, has to be taken off"),
            (p * (1 - truth), "the label's own logit has a slope, too: p_y - 1"),
            (right / len(labels), "that is the gradient of the mean; give each row its own"),
        ]
        for value, reason in mistakes:
            if torch.allclose(found, value, rtol=1e-3, atol=1e-7):
                return reason
        if torch.allclose(found, right, atol=1e-5):
            row = int(((found - right).abs() / right.abs().clamp(min=1e-30)).amax(dim=1).argmax())
            own = labels[row]
            return (
                f"for logits {listed(logits[row])} and label {own} the label's slope is "
                f"{right[row, own]:.2g}, and yours {found[row, own]:.2g}: p_y - 1 is lost where "
                "p_y is rounded to 1; the other probabilities still know it"
            )
        return f"for {listed(logits[0])} and label {labels[0]} its first entry is " + (
            f"{right[0, 0]:.4f}, not {found[0, 0]:.4f}"
        )
    return None


@exercise("4.3")
def from_logits(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`cross_entropy(logits, labels)` is right at any size of logits, and at both ends."""
    generator = torch.Generator().manual_seed(variant(0))
    logits = 3 * torch.randn(6, K, generator=generator)
    labels = torch.tensor([0, 3, 9, 3, 5, 1])

    def losses(rows: Tensor, classes: Tensor) -> Tensor:
        found = tensor(attempt(rows, classes), tuple(classes.shape), "one loss per row,")
        return found.detach().double()

    found, exact = losses(logits, labels), cross_entropy(logits.double(), labels)
    if torch.allclose(found, -exact, rtol=1e-4):
        return "the sign is wrong: log p_y is at most 0, and a loss at least 0"
    if not torch.allclose(found, exact, rtol=1e-4):
        return f"for {listed(logits[0])} and label 0 the loss is {exact[0]:.4f}, not {found[0]:.4f}"
    if not torch.allclose(losses(logits + 1000, labels), exact, rtol=1e-2, atol=1e-3):
        return "adding 1000 to every logit must not change the loss: take the largest out first"
    sure = torch.tensor([[30.0, 0.0], [400.0, 0.0], [-400.0, 0.0]])
    small, none, large = losses(sure, torch.zeros(3, dtype=torch.int64)).tolist()
    if not abs(large - 400) < 0.1:
        return f"sure and wrong by 400 costs 400, not {large:g}"
    if not abs(none) < 1e-30:
        return f"sure and right by 400 costs nothing, not {none:g}"
    # A softmax in float64 keeps two digits of it, and is not rounded to zero either.
    if not math.isclose(small, math.exp(-30), rel_tol=0.02):
        return (
            f"at margin 30 the loss is {math.exp(-30):.2g}, not {small:.2g}: 1 + x forgets a "
            "small x before the logarithm sees it"
        )
    return _slope_at_margin_30(attempt)


def _slope_at_margin_30(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """Complain unless the gradient in the label's logit, p_y - 1, has survived."""
    logits = torch.tensor([[0.0, 30.0, 0.0]], requires_grad=True)
    loss = tensor(attempt(logits, torch.tensor([1])), (1,), "one loss per row,").sum()
    if not loss.requires_grad:
        return "autograd cannot follow it back to the logits: compute with tensors all the way"
    (weights,) = torch.autograd.grad(loss, logits)
    if not math.isclose(weights[0, 1], -2 * math.exp(-30), rel_tol=0.02):
        return (
            f"the values are right, but at margin 30 the slope in the label's own logit is "
            f"{weights[0, 1]:.2g} instead of {-2 * math.exp(-30):.2g}"
        )
    return None


def _endings() -> list[tuple[list[nn.Module], str]]:
    """Return what may follow a model's linear layer, and what to say if that is mishandled."""
    return [
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
        (
            [nn.Sequential(nn.Linear(K, K), nn.Sequential(nn.Softmax(dim=1)))],
            "the last part of a model may be an `nn.Sequential` itself, with the softmax at *its* "
            "end",
        ),
        (
            [nn.Sequential(nn.Softmax(dim=1), nn.Linear(K, K))],
            "a softmax inside the last part, not at its end, is no fault either",
        ),
    ]


@exercise("4.4")
def repair(attempt: Callable[[nn.Sequential], nn.Module]) -> str | None:
    """`repair(model)` returns logits where the model returned probabilities."""
    generator = torch.Generator().manual_seed(variant(0))
    inputs = torch.rand(40, 64, generator=generator)
    labels = torch.randint(0, K, (40,), generator=generator)
    for ending, complaint in _endings():
        for size in (1.0, 300.0):
            with torch.no_grad():
                torch.manual_seed(variant(0))  # within the sandbox
                linear = nn.Linear(64, K)
                linear.weight *= size  # 300: as sure as can be
                model = nn.Sequential(linear, *copy.deepcopy(ending)).eval()
                expected = _intended_losses(model, inputs, labels)
                fixed = attempt(model)
                if not callable(fixed):
                    return f"it must return a model, not a {type(fixed).__name__}"
                logits = tensor_like(fixed(inputs), torch.empty(40, K), "a model with logits")
                found = nn.functional.cross_entropy(logits, labels, reduction="none")
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
    logits = _without_last_softmax(model)(inputs)
    return -log_softmax(logits).gather(1, labels.unsqueeze(1)).squeeze(1)


def _without_last_softmax(model: nn.Sequential) -> nn.Sequential:
    last = model[-1]
    if isinstance(last, nn.Sequential):
        return nn.Sequential(*model[:-1], _without_last_softmax(last))
    return model[:-1] if isinstance(last, nn.Softmax) else model


def _rows_of_every_loudness() -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, K), labels, and how many halves of PyTorch's gradient float32 loses.

    Margins keep away from 17 and from 87 to 104, where machines may differ.
    """
    margins = [0.5, 10.0, 14.0, 20.0, 50.0, 80.0, 110.0, 3000.0, -20.0, -60.0, -110.0]
    halves = [0, 0, 0, 1, 1, 1, 2, 2, 0, 0, 0]
    labels = torch.arange(len(margins)) % 4
    logits = torch.zeros(len(margins), 4).scatter(
        1, labels[:, None], torch.tensor(margins)[:, None]
    )
    # One rival alone is near, the other two are far below: its weight keeps half of it alive.
    lone = torch.tensor([[30.0, 5.0, -200.0, -200.0], [-200.0, 150.0, -200.0, 20.0]])
    return (
        torch.cat([logits, lone]),
        torch.cat([labels, torch.tensor([0, 1])]),
        torch.tensor([*halves, 1, 2]),
    )


@exercise("4.5")
def halves_lost(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`halves_lost(logits, labels)` says how much of PyTorch's gradient float32 has lost."""
    logits, labels, right = _rows_of_every_loudness()
    found = tensor_like(attempt(logits, labels), right, "one number for each row,").long()
    wrong = (found != right).nonzero().flatten().tolist()
    if not wrong:
        return None
    mistakes = [
        (2 * (right == 2).long(), "where the label's weight alone is 0 it says 0: a row that is "
         "not *all* zero may have lost half"),
        ((right > 0).long(), "the last two differ: 1 where some rival is alive, 2 where none is"),
        (torch.zeros_like(right), "nothing is lost, it says: is it PyTorch's loss, in float32?"),
    ]  # fmt: skip
    for value, reason in mistakes:
        if torch.equal(found, value):
            return reason
    margin = (logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf)
              .amax(dim=1, keepdim=True))[:, 0]  # fmt: skip
    row = wrong[0]
    if all(margin[i] < 0 for i in wrong):
        return (
            f"a *wrong* answer with margin {margin[row]:.0f} has lost nothing: its label's weight "
            "is -1, as loud as can be"
        )
    return (
        f"for {listed(logits[row])} and label {labels[row]}, a margin of {margin[row]:.0f}, it "
        f"says {found[row]}, and {right[row]} is right"
    )
