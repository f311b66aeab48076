"""Checks for chapter 11, Honest evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import unnoticed_margin
from within_epsilon.data import digits
from within_epsilon.defences import Quantised, Saturated, Voting
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.exercises.answers import number, pictures, tensor, tensor_like
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.targets import Probe, cliff, valleys, voters
from within_epsilon.exercises.variants import variant
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)


@exercise("11.1")
def straight_through(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`straight_through(values, images)` has the values of one and the gradient of the other."""
    generator = torch.Generator().manual_seed(variant(0))
    images = torch.rand(3, 1, 4, 4, generator=generator).requires_grad_()
    weights = torch.randn(3, 1, 4, 4, generator=generator)
    values = (7 * images).round() / 7
    found = tensor(attempt(values, images), (3, 1, 4, 4))
    if not torch.allclose(found.detach(), values.detach(), atol=1e-6):
        if torch.allclose(found.detach(), images.detach(), atol=1e-6):
            return "it returns the images themselves: the *values* are what the network must see"
        return "its numbers are not those of `values`"
    if not found.requires_grad:
        return "no gradient leads from it to the images"
    (slope,) = torch.autograd.grad((weights * found).sum(), images, allow_unused=True)
    if slope is None or not slope.any():
        return (
            "its values are right, and its gradient in the images is zero: which part has to be "
            "kept out of the graph?"
        )
    if not torch.allclose(slope, weights, atol=1e-6):
        return "its gradient in the images is not that of the identity, which is 1 everywhere"
    return None


@exercise("11.2")
def mean_answer(attempt: Callable[[Tensor], Tensor]) -> str | None:
    """`mean_answer(draws)` is the logarithm of the mean of the draws' probabilities."""
    generator = torch.Generator().manual_seed(variant(0))
    draws = 3 * torch.randn(5, 4, 3, generator=generator)
    right = draws.log_softmax(dim=2).logsumexp(dim=0).log_softmax(dim=1)
    found = tensor_like(attempt(draws), right, "one row of logits for each image, a tensor")
    if torch.allclose(found.exp(), right.exp(), atol=1e-5) and not torch.allclose(
        found, right, atol=1e-4
    ):
        return "small probabilities have lost their digits"
    means = draws.log_softmax(dim=2).mean(dim=0)
    if torch.allclose(found, means, atol=1e-4):
        return (
            "that is the mean of the logarithms, where one draw that is sure outvotes four that "
            "are not: take the mean before the logarithm"
        )
    if torch.allclose(found.log_softmax(dim=1), means.log_softmax(dim=1), atol=1e-4):
        return "that is the mean of the logits, where one loud draw outvotes four quiet ones"
    if torch.allclose(found, right.exp(), atol=1e-4):
        return "those are the probabilities: take their logarithm, or every loss will flatten them"
    if not torch.allclose(found.log_softmax(dim=1), right, atol=1e-4):
        return "its softmax is not the mean of the draws' probabilities"
    if not torch.allclose(found, right, atol=1e-4):
        total = found.exp().sum(dim=1).mean().item()
        return (
            f"up to a constant it is right, but each row's probabilities shall sum to 1, and yours "
            f"to {total:.3g}: the mean of {len(draws)} draws is asked for, not their sum"
        )
    alone = attempt(1000 * draws[:1])
    loud = tensor_like(alone, right, "one row of logits for each image, a tensor")
    if not loud.isfinite().all():
        return (
            "with logits in the thousands it becomes infinite or NaN: stay with logarithms, "
            "log_softmax and logsumexp, all the way"
        )
    if not torch.allclose(loud, (1000 * draws[0]).log_softmax(dim=1), rtol=1e-3, atol=0.1):
        return "with logits in the thousands, small probabilities are not what they should be"
    return None


@exercise("11.3")
def evading(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`evading(logits, labels)` is above 0 where the model answers, and wrongly."""
    # Rows: logits, the last for "none of these"; label; what it is about.
    cases = [
        ((2.0, 5.0, 1.0, 3.0), 0, "class 1 is above both the label and the refusal"),
        ((2.0, 5.0, 1.0, 7.0), 0, "class 1 is above the label, but the model refuses"),
        ((6.0, 5.0, 1.0, 0.0), 0, "the label wins"),
        ((6.0, 5.0, 1.0, 8.0), 0, "the model refuses what it would read right"),
        ((4.0, 1.0, 3.0, 2.0), 1, "class 0 is above both the label and the refusal"),
        ((-9.0, -4.0, -8.0, -5.0), 2, "class 1 is above both the label and the refusal"),
    ]
    logits = torch.tensor([case[0] for case in cases])
    labels = torch.tensor([case[1] for case in cases])
    right = unnoticed_margin(logits, labels)
    found = tensor_like(attempt(logits, labels), right, "one loss for each image, a tensor")
    for (row, label, about), said, wanted in zip(
        cases, found.tolist(), right.tolist(), strict=True
    ):
        shown = ", ".join(f"{logit:g}" for logit in row)
        if (said > 0) != (wanted > 0):
            return f"logits ({shown}), label {label}: {about}, and you say {said:.3g}"
    if not torch.allclose(found, right, atol=1e-4):
        return (
            "its signs are right, but it is not the distance from the best other class to the "
            "higher of the two barriers"
        )
    return None


_NAMES = ("noise", "one step", "scores", "more steps", "larger ball", "no bound")


@exercise("11.4")
def doubts(attempt: Callable[[Mapping[str, Any]], Any]) -> str | None:
    """`doubts(lost)` names what in an evaluation's counts cannot be."""
    honest = {
        "pgd": 42, "noise": 6, "fgsm": 36, "scores": 44, "by_steps": [36, 41, 42, 42],
        "by_epsilon": [4, 20, 42, 99], "unbounded": 100, "n": 100,
    }  # fmt: skip
    cases: list[tuple[dict[str, Any], set[str], str]] = [
        ({}, set(), "nothing is odd"),
        ({"noise": 47}, {"noise"}, "noise loses more than PGD"),
        ({"fgsm": 50}, {"one step"}, "one step loses more than PGD"),
        ({"fgsm": 46}, set(), "four examples more may be chance"),
        ({"scores": 60}, {"scores"}, "an attack without gradients loses more than PGD"),
        ({"by_steps": [50, 42, 42, 42]}, {"more steps"}, "more steps lose fewer"),
        ({"by_steps": [44, 42, 43, 42]}, set(), "four examples fewer may be chance"),
        ({"by_epsilon": [4, 60, 42, 99]}, {"larger ball"}, "a larger ball loses fewer"),
        ({"unbounded": 61}, {"no bound"}, "without a bound, 39 still stand"),
        (
            {"pgd": 3, "fgsm": 3, "by_steps": [3] * 4, "by_epsilon": [3] * 4, "unbounded": 60},
            {"scores", "no bound"},
            "PGD stands still",
        ),
    ]
    for changes, wanted, about in cases:
        answer = attempt({**honest, **changes})
        if isinstance(answer, str | Mapping) or not isinstance(answer, Iterable):
            return f"it must return the names in a set or a list, got {answer!r}"
        found = set(answer)
        if found - set(_NAMES):
            return f"{sorted(map(str, found - set(_NAMES)))[0]!r} is none of the six names"
        if found - wanted:
            return f"where {about}, it doubts {sorted(found - wanted)[0]!r}: mind more than 4"
        if wanted - found:
            return f"where {about}, it does not say {sorted(wanted - found)[0]!r}"
    return None


def fortress() -> nn.Module:
    """Build the defence of exercise 11.5: dropout in front of a quantiser, and loud logits."""
    network = Saturated(Quantised(digits_classifier().eval()))
    return nn.Sequential(nn.Dropout(0.05), network).train()


@exercise("11.5")
def break_in(attempt: Callable[..., Tensor]) -> str | None:
    """`break_in(model, images, labels, ball)` leaves at most half of the digits standing."""
    data = digits().test[200:300]

    def attack(model: nn.Module, images: Tensor, labels: Tensor, ball: Ball) -> Tensor:
        return pictures(attempt(model, images, labels, ball), images, ball.epsilon)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of train mode: that is the exercise
        report = robust_accuracy(
            fortress(), data, attack, BALL, batch_size=100, diagnose=False, progress=False
        )
    if report.robust <= 0.5 * report.n:
        return None
    hint = (
        "it has not moved: which of the three parts has no gradient, and which loss is flat?"
        if report.robust > 0.87 * report.n
        else "something still hides: look at each of the three parts by itself"
    )
    return (
        f"of {report.n} digits, {report.clean} are right without attack, and {report.robust} "
        f"still stand; at most {report.n // 2} may. {hint}"
    )


@exercise("11.6")
def repaired(attempt: Callable[..., Any]) -> str | None:
    """`repaired(model, images, labels, ball)` is a robust accuracy."""
    grey, labels = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    some = torch.tensor([0, 1]).repeat(10)

    def ask(gain: Callable[[Tensor], Tensor], wanted: Tensor = labels, **options: float) -> float:
        return number(attempt(Probe(gain, **options), grey, wanted, BALL), "a share, a number")

    found = []
    if ask(lambda x: 10 * x.sum(dim=1) - 1, while_training=-5.0) > 0.1:
        found.append(
            "a network that an attack always fools in eval mode, and never in train mode, seems "
            "robust: which of the two is judged?"
        )
    # Within reach, and so certain at first that a float32 probability is 1.
    if ask(lambda x: 400 * x.sum(dim=1) - 200) > 0.1:
        found.append(
            "a network that is sure of itself, with logits 200 apart, seems robust: the attack "
            "climbs a loss that has lost its slope"
        )
    half = ask(lambda x: 1e-3 * x.sum(dim=1) - 1, some)
    if abs(half - 0.5) > 0.02:
        found.append(
            f"of 20 images 10 are wrong without attack and the others cannot be fooled: that is "
            f"robust accuracy 0.5, and you say {half:.3g}"
        )
    elif (carried := ask(cliff, 1 - labels)) > 0.1:
        found.append(
            f"20 images are wrong without attack, and PGD happens to carry them to pictures that "
            f"are right: that is robust accuracy 0, and you say {carried:.3g}"
        )
    if ask(valleys) > 0.25:
        found.append(
            "every second random start fools an image, so that in five runs hardly any stands; "
            "you report the mean of the runs, not what is left after all of them"
        )
    if not found:
        return None
    count = "one of the four mistakes is" if len(found) == 1 else f"{len(found)} of the four are"
    return f"{count} still in: " + "; ".join(found)


@exercise("11.7")
def past_the_vote(attempt: Callable[..., Any]) -> str | None:
    """`past_the_vote(members, images, labels, ball)` fools the vote of three, one of them loud."""
    members = voters(variant(0))
    images, labels = digits().test[200:300]
    given = deepcopy(members), images.clone(), labels.clone(), BALL
    changed = pictures(attempt(*given), images, BALL.epsilon)
    with torch.no_grad():
        standing = int((Voting(*members)(changed).argmax(dim=1) == labels).sum())
        wrong = [int((each(changed).argmax(dim=1) != labels).sum()) for each in members]
    if standing <= 70:
        return None
    said = (
        f"of {len(labels)} digits {standing} still stand, and at most 70 may; the three members "
        f"read {wrong[0]}, {wrong[1]} and {wrong[2]} wrong"
    )
    if standing >= 90:
        return f"{said}. Noise does as much: a vote is rounded and has no slope, but its members do"
    return (
        f"{said}. Is it their own slope that you follow? In a mean of logits the first is heard "
        "alone, for its logits are a hundred times as large, and its cross-entropy is flat"
    )
