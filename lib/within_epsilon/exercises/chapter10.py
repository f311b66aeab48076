"""Checks for chapter 10, Adversarial training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.exercises.answers import describe, number, pictures, plain, tensor_like
from within_epsilon.exercises.hills import Bowl, Tilt, wrong_quotient
from within_epsilon.exercises.loops import Leaky, replay
from within_epsilon.exercises.registry import Wrong, exercise
from within_epsilon.exercises.trades import Noting, complaint
from within_epsilon.exercises.variants import drawn, variant
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import mlp
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
Attack = Callable[[nn.Module, Tensor, Tensor, Ball], Tensor]


def _student() -> tuple[nn.Module, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant(0))
        model = mlp(64, 20, 10).double()
    images, labels = drawn(digits().train, 30)
    return model, images.double(), labels


def _moved(at: str, *, leak: bool = False, factor: float = 1.0) -> list[Tensor]:
    """Return the student's parameters after one step of 0.5 on clean or attacked images."""
    model, images, labels = _student()
    points = Leaky()(model, images, labels, BALL)
    points = images if at == "clean" else points
    if not leak:
        model.zero_grad()
    (factor * cross_entropy(model(points), labels).mean()).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for theta in model.parameters():
            if theta.grad is not None:
                theta.sub_(0.5 * theta.grad)
    return [theta.detach() for theta in model.parameters()]


def _close(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in pairs)


@exercise("10.1")
def robust_step(attempt: Callable[..., Any]) -> str | None:
    """`robust_step(model, images, labels, attack, ball, step_size)` descends where it hurts."""
    model, images, labels = _student()
    attack = Leaky()
    before = [theta.detach().clone() for theta in model.parameters()]
    loss = attempt(model, images, labels, attack, BALL, 0.5)
    found = [theta.detach() for theta in model.parameters()]
    unmoved = _close(found, before)
    if not attack.calls:
        raise Wrong("it never calls `attack(model, images, labels, ball)`", attempted=not unmoved)
    if unmoved:
        raise Wrong("the parameters stay where they were", attempted=True)
    mistakes = [
        (_moved("clean"), "it steps on the loss of the clean images: give the model the attacked"),
        (_moved("adversarial", leak=True), "the attack leaves gradients in the parameters, and "
         "your step adds them to its own: clear them after the attack, before the backward pass"),
        (_moved("clean", leak=True), "it steps on the loss of the clean images, and the attack's "
         "gradients are in the step, too"),
        (_moved("adversarial", factor=30.0), "it descends the sum of the 30 losses, not the mean"),
        (_moved("adversarial", factor=-1.0), "it climbs: the attack has raised the loss, training "
         "lowers it"),
    ]  # fmt: skip
    if not _close(found, _moved("adversarial")):
        for wrong, reason in mistakes:
            if _close(found, wrong):
                return reason
        return "the parameters are not those of one step of SGD on the mean loss under attack"
    if loss is None or loss is ...:
        raise Wrong("it returns nothing; the mean loss before the step is wanted", attempted=True)
    model, images, labels = _student()
    with torch.no_grad():
        points = Leaky()(model, images, labels, BALL)
        wanted = cross_entropy(model(points), labels).mean().item()
    if abs(number(loss) - wanted) > 1e-4:
        return f"it returned {number(loss):.4f}; the mean loss under attack was {wanted:.4f}"
    return None


def _worst_loss(w: Tensor, b: Tensor, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    margins = (2 * labels - 1) * (images @ w + b)
    return F.softplus(epsilon * w.abs().sum() - margins).mean()


@exercise("10.2")
def worst_gradient(attempt: Callable[..., Any]) -> str | None:
    """`worst_gradient(w, b, images, labels, epsilon)` is the worst loss's gradient in w."""
    generator = torch.Generator().manual_seed(variant(0))
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    w, b, images = draw(12) / 3, draw(()), draw(9, 12)
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    for epsilon in (0.0, 0.2):
        slopes = []
        for coordinate in torch.eye(12, dtype=torch.float64) * 1e-6:
            ends = (_worst_loss(w + s * coordinate, b, images, labels, epsilon) for s in (1, -1))
            slopes.append((next(ends) - next(ends)) / 2e-6)
        wanted = torch.stack(slopes)
        found = tensor_like(attempt(w, b, images, labels, epsilon), w, "the gradient, a tensor")
        if torch.allclose(found, wanted, atol=1e-6):
            continue
        if torch.allclose(found, 9 * wanted, atol=1e-5):
            return "it adds the gradients of the nine images; the loss is their mean"
        if torch.allclose(found, -wanted, atol=1e-6):
            return "it points downhill; the gradient points uphill"
        start = w.clone().requires_grad_()
        (clean,) = torch.autograd.grad(_worst_loss(start, b, images, labels, 0.0), start)
        if epsilon and torch.allclose(found, clean, atol=1e-6):
            return "that is the gradient at the clean images: take it at x + δ*, with δ* held fixed"
        off = (found - wanted).norm() / wanted.norm()
        return (
            f"at ε = {epsilon:g} it is off by {off:.0%} from finite differences of the exact loss"
        )
    return None


@exercise("10.3")
def noisy_step(attempt: Callable[..., Any]) -> str | None:
    """`noisy_step(model, images, labels, epsilon, noise)` is the image that N-FGSM trains on."""
    grey, labels = torch.full((40, 1, 4, 4), 0.5), torch.zeros(40, dtype=torch.int64)
    model, epsilon, noise = Bowl(), 0.05, 2.0
    torch.manual_seed(variant(0))
    first = pictures(attempt(model, grey, labels, epsilon, noise), grey)
    if not model.asked:
        return "it never asks the model: the step follows a gradient"
    again = pictures(attempt(model, grey, labels, epsilon, noise), grey)
    if torch.equal(first, again):
        return "two calls give the same images: draw new noise in every call"
    moved = (first - grey).abs()
    if moved.max() <= epsilon + 1e-6 and moved.min() > epsilon - 1e-6:
        return (
            f"no pixel moves by more than ε = {epsilon:g}: neither the noise, which reaches "
            "noise · ε, nor the step after it is brought back into the ball"
        )
    if moved.min() < epsilon - 1e-6:
        return (
            "some pixels moved by less than ε, on a loss that rises away from grey: take the "
            "gradient at the noisy image, and step uphill from there"
        )
    if moved.max() > (1 + noise) * epsilon + 1e-6:
        return f"a pixel moved by {moved.max():.3f}; noise and step reach {(1 + noise) * epsilon:g}"
    if not 0.9 * noise * epsilon < moved.max() - epsilon:
        return f"the noise reaches {moved.max() - epsilon:.3f}, not noise · ε = {noise * epsilon:g}"
    if abs((moved - epsilon).mean() - noise * epsilon / 2) > 0.1 * noise * epsilon:
        return "the noise is not uniform: every size up to noise · ε is as likely as any other"
    if abs((first > grey).double().mean() - 0.5) > 0.1:  # four standard deviations
        return "the noise leans to one side: as much of it is below 0 as above"
    dark = torch.rand((40, 1, 4, 4), generator=torch.Generator().manual_seed(variant(0))) * 0.05
    edge = pictures(attempt(model, dark, labels, epsilon, noise), dark)  # complains outside [0, 1]
    if (edge == dark).all():
        return "dark pictures stay as they are"
    if any(asked.min() < 0 or asked.max() > 1 for asked in model.asked):
        return "it shows the model pixels outside [0, 1]: clip after the noise, too"
    return None


@exercise("10.4")
def first_collapse(attempt: Callable[..., Any]) -> str | None:
    """`first_collapse(fgsm_accuracies, pgd_accuracies)` is the epoch of the collapse, or None."""
    cases: list[tuple[list[float], list[float], int | None, str]] = [
        ([0.2, 0.3, 0.4, 0.6], [0.2, 0.3, 0.1, 0.0], 2,
         "PGD's accuracy has fallen to a third of its best there, and FGSM's rises"),
        ([0.2, 0.3, 0.4, 0.5], [0.2, 0.3, 0.3, 0.4], None, "nothing falls"),
        ([0.2, 0.4, 0.1, 0.4], [0.2, 0.3, 0.1, 0.3], None,
         "FGSM's accuracy falls with PGD's in epoch 2: training has stumbled, not collapsed"),
        ([0.3, 0.4, 0.5, 0.6], [0.3, 0.4, 0.25, 0.1], 3,
         "in epoch 2 more than half of the best, 0.4, is left"),
        ([0.3, 0.4, 0.5, 0.4], [0.3, 0.4, 0.2, 0.4], None,
         "in epoch 2 exactly half of the best is left, and *less* than half is asked for"),
        ([0.4, 0.3, 0.4, 0.5], [0.3, 0.1, 0.1, 0.1], 2,
         "in epoch 1 FGSM's accuracy was lower than when PGD's was best, in epoch 2 as high again"),
        ([0.5, 0.6, 0.6], [0.1, 0.4, 0.1], 2, "the best *so far* is that of epoch 1"),
        ([0.6, 0.6, 0.6, 0.6], [0.1, 0.3, 0.5, 0.2], 3, "*so far* nothing was better in epoch 0"),
    ]  # fmt: skip
    for fgsm_accuracies, pgd_accuracies, wanted, reason in cases:
        found = plain(attempt(list(fgsm_accuracies), list(pgd_accuracies)))
        if isinstance(found, Tensor) and found.numel() == 1:
            found = found.item()
        if isinstance(found, bool) or not isinstance(found, int | float | type(None)):
            raise Wrong(f"it must return an epoch, counted from 0, or None, got {describe(found)}")
        if found != wanted:
            # A stub returns nothing, and two cases want just that.
            raise Wrong(
                f"for FGSM {fgsm_accuracies} and PGD {pgd_accuracies} the answer is {wanted}, not "
                f"{found}: {reason}",
                attempted=found is not None,
            )
    return None


@exercise("10.5")
def robust_network(attempt: Callable[..., Any]) -> str | None:
    """`robust_network()` trains a network that keeps 75% of the digits at linf 0.1."""
    model = attempt()
    if not isinstance(model, nn.Module):
        raise Wrong(f"it must return the trained network, not {describe(model)}")
    images, labels = digits().validation[:]
    model.eval()
    strong = partial(pgd, steps=20, restarts=2)
    judges: dict[str, Attack] = {"FGSM": fgsm, "PGD": strong}
    judges["margin"] = partial(strong, loss=margin_loss)
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    clean = right.double().mean().item()
    if clean < 0.9:
        return f"it reads {clean:.0%} of the clean validation digits; 90% are asked for"
    shares = {}
    for name, judge in judges.items():
        images_adv = judge(model, images, labels, BALL)
        with torch.no_grad():
            right &= model(images_adv).argmax(dim=1) == labels
        shares[name] = right.double().mean().item()
    if right.double().mean() >= 0.75:
        return None
    if shares["FGSM"] > right.double().mean() + 0.2:
        return (
            f"it keeps {shares['FGSM']:.0%} under FGSM, but {right.double().mean():.0%} under PGD: "
            "it has learnt to answer one attack"
        )
    return (
        f"at {BALL} it keeps {right.double().mean():.0%} of the validation digits; 75% are asked "
        "for: more steps in the attack, more epochs, or a longer step of training"
    )


@exercise("10.6")
def cost_and_gain(attempt: Callable[..., Any]) -> str | None:
    """`cost_and_gain(standard, robust, images, labels, epsilon)`: digits lost, and a ratio."""
    draw = torch.Generator().manual_seed(variant(0))
    images = torch.rand((40, 1, 2, 2), generator=draw, dtype=torch.float64)
    steep, gentle = Tilt([6.0, -4.0, 3.0, 1.0], 0.4), Tilt([1.0, -0.5, 0.7, 0.1], 0.55)
    labels = (steep(images)[:, 1] > 0).long()
    labels[:4] = 1 - labels[:4]
    for standard, robust, epsilon in ((steep, gentle, 0.1), (gentle, steep, 0.2)):
        found = plain(attempt(standard, robust, images.clone(), labels.clone(), epsilon))
        if isinstance(found, Tensor) and found.numel() == 2:
            found = tuple(found.flatten().tolist())
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong(f"it must return two numbers, not {describe(found)}")
        cost, gain = (float(number(part)) for part in found)
        right = [model.right(images, labels) for model in (standard, robust)]
        wanted = right[0] - right[1]
        if abs(cost - wanted) > 1e-6:
            why = ": a number, not a share" if abs(cost * len(labels) - wanted) < 1e-6 else ""
            why = ": it is the other way round" if abs(cost + wanted) < 1e-6 else why
            return (
                f"the standard network reads {right[0]} of 40 images right and the robust "
                f"one {right[1]}: the first number is {wanted}, not {cost:g}{why}"
            )
        rises = [model.rises(images, labels) for model in (standard, robust)]
        in_l2 = [model.rises(images, labels, norm=2) for model in (standard, robust)]
        right_gain = (rises[0].mean() / rises[1].mean()).item()
        if abs(gain / right_gain - 1) < 1e-4:
            continue
        why = wrong_quotient(gain, rises, (in_l2[0].mean() / in_l2[1].mean()).item())
        return f"the second number is {right_gain:.4g} here, not {gain:.4g}{why}"
    return None


@exercise("10.7")
def trades_loss(attempt: Callable[..., Any]) -> str | None:
    """`trades_loss(model, images, labels, attack, ball, beta)`: clean, and moved away from it."""
    model, images, labels = _student()
    attack = Noting()
    found = attempt(model, images, labels, attack, BALL, 3.0)
    return complaint(found, attack, model, images, labels, BALL, 3.0)


@exercise("10.8")
def free_step(attempt: Callable[..., Any]) -> str | None:
    """`free_step(model, images, labels, delta, ball, step_size)`: a gradient used twice."""
    model, images, labels = _student()
    return replay(attempt, model, images, labels, BALL)
