"""Chapter 10's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import fgsm, input_gradient, pgd
from within_epsilon.data import digits
from within_epsilon.exercises import verdict
from within_epsilon.exercises.registry import CHECKS
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, Trades, fit


def _step(
    model, images, labels, attack, ball, step_size, *, clear="after", at="adv", sign=1, mean=True
):
    if clear == "before":
        model.zero_grad()
    points = attack(model, images, labels, ball)
    losses = cross_entropy(model(points if at == "adv" else images), labels)
    loss = losses.mean() if mean else losses.sum()
    if clear == "after":
        model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for theta in model.parameters():
            theta -= sign * step_size * theta.grad
    return losses.mean().item()


def _unattacked(model, images, labels, attack, ball, step_size):
    return _step(model, images, labels, lambda m, x, y, b: x, ball, step_size)


def _idle(model, images, labels, attack, ball, step_size):
    return cross_entropy(model(attack(model, images, labels, ball)), labels).mean()


def _in_place(model, images, labels, attack, ball, step_size):
    images.copy_(attack(model, images, labels, ball))
    return _step(model, images, labels, lambda m, x, y, b: x, ball, step_size)


def _silent(*given):
    _step(*given)


def _clean_loss(model, images, labels, *rest):
    loss = cross_entropy(model(images), labels).mean().item()
    _step(model, images, labels, *rest)
    return loss


def _gradient(w, b, images, labels, epsilon, *, hold=True, factor=1.0, mean=True):
    signs = (2 * labels - 1).double()
    points = images - epsilon * signs.view(-1, 1) * (w.sign() if hold else 0)
    p = torch.sigmoid(-signs * (points @ w + b))
    rows = -(p * signs).view(-1, 1) * points
    return factor * (rows.mean(dim=0) if mean else rows.sum(dim=0))


def _without_signs(w, b, images, labels, epsilon):
    return _gradient(w, b, images + epsilon * w.sign(), labels, 0.0)


def _noisy(
    model, images, labels, epsilon, noise, *, at="noisy", project=False, clip=True, draw="uniform"
):
    eta = noise * epsilon * (2 * torch.rand_like(images) - 1)
    if draw == "one side":
        eta = eta.abs()
    if draw == "sign":
        eta = noise * epsilon * eta.sign()
    if draw == "normal":
        eta = (noise * epsilon / 3 * torch.randn_like(images)).clamp(
            -noise * epsilon, noise * epsilon
        )
    points = images + eta
    if clip:
        points = points.clamp(0, 1)
    _, gradient = input_gradient(model, points if at == "noisy" else images, labels)
    points = points + epsilon * gradient.sign()
    if project:
        points = points.clamp(images - epsilon, images + epsilon)
    return points.clamp(0, 1)


def _downhill(model, images, labels, epsilon, noise):
    points = (images + noise * epsilon * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    _, gradient = input_gradient(model, points, labels)
    return (points - epsilon * gradient.sign()).clamp(0, 1)


def _half_the_noise(model, images, labels, epsilon, noise):
    return _noisy(model, images, labels, epsilon, noise / 2)


def _too_long(model, images, labels, epsilon, noise):
    return _noisy(model, images, labels, 2 * epsilon, noise)


def _always_the_same(*given):
    torch.manual_seed(0)
    return _noisy(*given)


def _unclipped(*given):
    points = _noisy(*given, clip=False)
    return points - 0.2


def _collapse(f, p, *, half=0.5, so_far=True, strict=True, look=True):
    for epoch in range(1, len(p)):
        history = p[:epoch] if so_far else p
        best = history.index(max(history))
        low = p[epoch] < half * p[best] if strict else p[epoch] <= half * p[best]
        if low and (f[epoch] >= f[best] or not look):
            return epoch
    return None


def _against_the_best_of_all(f, p):
    best = p.index(max(p))
    epochs = [e for e in range(len(p)) if p[e] < p[best] / 2 and f[e] >= f[best]]
    return epochs[0] if epochs else None


def _train(attack, ball, epochs=20):
    torch.manual_seed(0)
    model = mlp(64, 100, 10)
    objective = Adversarial(attack, ball)
    optimizer = partial(torch.optim.Adam, lr=0.005)
    fit(model, digits().train, objective, epochs=epochs, batch_size=64, optimizer=optimizer)
    return model


def _robust():
    return _train(partial(pgd, steps=5), Ball("linf", 0.12))


def _cost(standard, robust, images, labels, epsilon, *, norm=1, share=False, how="means"):
    right, rise = [], []
    for model in (standard, robust):
        right.append((model(images).argmax(dim=1) == labels).sum().item())
        _, slopes = input_gradient(model, images, labels)
        rise.append(epsilon * slopes.flatten(1).norm(norm, dim=1))
    cost = (right[0] - right[1]) / (len(labels) if share else 1)
    if how == "quotients":
        return cost, (rise[0] / rise[1]).mean()
    if how == "medians":
        return cost, rise[0].median() / rise[1].median()
    return cost, rise[0].mean() / rise[1].mean()


def _swapped_cost(standard, robust, *given):
    return -_cost(robust, standard, *given)[0], _cost(robust, standard, *given)[1]


def _kl(first, second):
    p, q = first.log_softmax(dim=1), second.log_softmax(dim=1)
    return (p.exp() * (p - q)).sum(dim=1)


def _trades(
    model, images, labels, attack, ball, beta, *, raised="kl", hold="", second="kl", first="clean",
    weigh=None, reduce=torch.mean,
):  # fmt: skip
    """Compute the TRADES loss, right or with one mistake."""
    clean = model(images)
    if hold == "all":
        clean = clean.detach()
    before = clean.detach()
    climb = {
        "kl": lambda logits, _: _kl(before, logits),
        "turned": lambda logits, _: _kl(logits, before),
        "down": lambda logits, _: -_kl(before, logits),
        "label": cross_entropy,
        "far": lambda logits, _: logits.square().sum(dim=1),
        "mean": lambda logits, _: _kl(before, logits).mean(),
        "soft": lambda logits, _: -(before.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1),
    }
    options = {} if raised is None else {"loss": climb[raised]}
    moved = model(attack(model, images, labels, ball, **options))
    if second == "unattacked":
        moved = model(images)
    p, q = (clean.detach() if hold == "clean" else clean), moved
    q = q.detach() if hold == "moved" else q
    apart = _kl(q, p) if second == "turned" else _kl(p, q)
    if second == "over classes":
        apart = apart / 10
    entropy = cross_entropy(moved if first == "moved" else clean, labels)
    for_entropy, for_apart = weigh or (1, beta)
    return reduce(for_entropy * entropy + for_apart * apart)


def _by_torch(model, images, labels, attack, ball, beta):
    """Write it as the authors do."""
    kl = nn.KLDivLoss(reduction="none")
    with torch.no_grad():
        before = model(images).softmax(dim=1)
    images_adv = attack(
        model,
        images,
        labels,
        ball,
        loss=lambda logits, y: kl(logits.log_softmax(dim=1), before).sum(dim=1),
    )
    natural, adversarial = model(images), model(images_adv)
    robust = nn.KLDivLoss(reduction="batchmean")(
        adversarial.log_softmax(dim=1), natural.softmax(dim=1)
    )
    return nn.functional.cross_entropy(natural, labels) + beta * robust


def _of_the_library(model, images, labels, attack, ball, beta):
    def settled(m, x, y, b, *, loss=cross_entropy, random_start=True):
        return attack(m, x, y, b, loss=loss)

    return Trades(settled, ball, beta)(model, images, labels).mean()


def _backward_already(*given):
    loss = _trades(*given)
    loss.backward()
    return loss


def _free(
    model, images, labels, delta, ball, step_size,
    *, clear=True, at="moved", descend=1, ascend=1, move="right", reduce=torch.mean,
):  # fmt: skip
    points = (images + (delta if at == "moved" else 0)).clamp(0, 1).requires_grad_()
    loss = reduce(cross_entropy(model(points), labels))
    if clear:
        model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for theta in model.parameters():
            theta -= descend * step_size * theta.grad
    step = ascend * ball.epsilon * points.grad.sign()
    if move == "fresh":
        return step
    return delta + step if move == "out" else (delta + step).clamp(-ball.epsilon, ball.epsilon)


def _free_through_the_clipping(model, images, labels, delta, ball, step_size):
    delta.requires_grad_()
    model.zero_grad()
    cross_entropy(model((images + delta).clamp(0, 1)), labels).mean().backward()
    with torch.no_grad():
        for theta in model.parameters():
            theta -= step_size * theta.grad
        return (delta + ball.epsilon * delta.grad.sign()).clamp(-ball.epsilon, ball.epsilon)


def _free_in_two_passes(model, images, labels, delta, ball, step_size):
    _, uphill = input_gradient(model, (images + delta).clamp(0, 1), labels)
    _free(model, images, labels, delta, ball, step_size)
    return (delta + ball.epsilon * uphill.sign()).clamp(-ball.epsilon, ball.epsilon)


def _free_back_twice(model, images, labels, delta, ball, step_size):
    points = (images + delta).clamp(0, 1).requires_grad_()
    loss = cross_entropy(model(points), labels).mean()
    (uphill,) = torch.autograd.grad(loss, points, retain_graph=True)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for theta, slope in zip(model.parameters(), slopes, strict=True):
            theta -= step_size * slope
    return (delta + ball.epsilon * uphill.sign()).clamp(-ball.epsilon, ball.epsilon)


def _free_within_the_pixels(model, images, *given):
    return (images + _free(model, images, *given)).clamp(0, 1) - images


class _Masked(nn.Module):
    """The standard network with huge logits, whose cross-entropy is flat."""

    def __init__(self):
        super().__init__()
        self.model = digits_classifier()

    def forward(self, images):
        return 1000 * self.model(images)


RIGHT = {
    "10.1": _step,
    "10.2": _gradient,
    "10.3": _noisy,
    "10.4": _collapse,
    "10.5": _robust,
    "10.6": _cost,
    "10.7": _trades,
    "10.8": _free,
}


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_pass(number):
    assert verdict(number, RIGHT[number]) == "correct"


@pytest.mark.parametrize(
    "attempt",
    [_by_torch, _of_the_library, partial(_trades, raised="soft")],
    ids=["torch's own", "the library's", "without the constant"],
)
def test_trades_may_be_written_in_several_ways(attempt):
    assert verdict("10.7", attempt) == "correct"


def test_every_check_has_a_right_answer():
    verdict("10.1", None)
    assert {name for name in CHECKS if name.startswith("10.")} == set(RIGHT)


@pytest.mark.parametrize("number", RIGHT)
@pytest.mark.parametrize("stub", [None, ..., lambda *given: ..., lambda *given: None])
def test_stubs_are_not_attempted(number, stub):
    assert verdict(number, stub) == "not attempted yet"


@pytest.mark.parametrize(
    ("number", "attempt", "reason"),
    [
        ("10.1", _unattacked, "never calls"),
        ("10.1", _idle, "stay where they were"),
        ("10.1", _in_place, "changed the `images`"),
        ("10.1", partial(_step, at="clean"), "loss of the clean images: give"),
        ("10.1", partial(_step, clear="before"), "adds them to its own"),
        ("10.1", partial(_step, clear="never"), "adds them to its own"),
        ("10.1", partial(_step, clear="before", at="clean"), "are in the step, too"),
        ("10.1", partial(_step, mean=False), "not the mean"),
        ("10.1", partial(_step, sign=-1), "it climbs"),
        ("10.1", _silent, "returns nothing"),
        ("10.1", _clean_loss, "mean loss under attack was"),
        ("10.2", partial(_gradient, hold=False), "at the clean images"),
        ("10.2", partial(_gradient, factor=-1.0), "points downhill"),
        ("10.2", partial(_gradient, mean=False), "is their mean"),
        ("10.2", _without_signs, "off by"),
        ("10.3", lambda m, x, y, e, k: x, "never asks"),
        ("10.3", _always_the_same, "new noise"),
        ("10.3", partial(_noisy, project=True), "brought back into the ball"),
        ("10.3", partial(_noisy, at="clean"), "at the noisy image"),
        ("10.3", _downhill, "step uphill"),
        ("10.3", partial(_noisy, draw="one side"), "leans to one side"),
        ("10.3", _half_the_noise, "the noise reaches"),
        ("10.3", _too_long, "noise and step reach"),
        ("10.3", partial(_noisy, draw="sign"), "not uniform"),
        ("10.3", partial(_noisy, draw="normal"), "not uniform|the noise reaches"),
        ("10.3", partial(_noisy, clip=False), "outside"),
        ("10.3", _unclipped, "left|moved"),
        ("10.4", partial(_collapse, half=0.25), "the answer is 2"),
        ("10.4", partial(_collapse, look=False), "stumbled"),
        ("10.4", _against_the_best_of_all, "the answer is 3, not 0: \\*so far"),
        ("10.4", partial(_collapse, strict=False), "less"),
        ("10.4", partial(_collapse, half=0.75), "more than half"),
        ("10.4", lambda f, p: True, "an epoch"),
        ("10.4", lambda f, p: 0, "the answer is 2, not 0"),
        ("10.6", lambda *given: 3, "two numbers"),
        ("10.6", partial(_cost, share=True), ": a number, not a share"),
        (
            "10.6",
            lambda a, b, *given: (_cost(b, a, *given)[0], 1),
            "not -4: it is the other way round",
        ),
        ("10.6", _swapped_cost, "standard network's mean stands above"),
        ("10.6", partial(_cost, norm=2), "is ℓ2"),
        ("10.6", partial(_cost, how="quotients"), "mean of quotients"),
        ("10.6", partial(_cost, how="medians"), "medians"),
        ("10.6", lambda *given: (_cost(*given)[0], 9.0), "not 9"),
        ("10.7", lambda m, x, y, *rest: cross_entropy(m(x), y).mean(), "never calls"),
        ("10.7", lambda m, x, y, a, b, k: _trades(m, 1 - x, y, a, b, k), "other images"),
        ("10.7", partial(_trades, raised=None), "raises its own loss, the cross-entropy"),
        ("10.7", partial(_trades, raised="label"), "raises the cross-entropy with the label"),
        ("10.7", partial(_trades, raised="turned"), "raises KL.attacked ‖ clean"),
        ("10.7", partial(_trades, raised="down"), "lowers the divergence"),
        ("10.7", partial(_trades, raised="far"), "something else"),
        ("10.7", partial(_trades, raised="mean"), "one number for each image"),
        ("10.7", partial(_trades, hold="clean"), "clean image is a constant in"),
        ("10.7", partial(_trades, hold="all"), "a constant everywhere"),
        ("10.7", partial(_trades, hold="moved"), "attacked image is a constant"),
        ("10.7", partial(_trades, second="turned"), "has KL.attacked ‖ clean"),
        ("10.7", partial(_trades, second="over classes"), "number of classes"),
        ("10.7", partial(_trades, second="unattacked"), "second term is 0"),
        ("10.7", partial(_trades, first="moved"), "the cross-entropy of the clean ones"),
        ("10.7", partial(_trades, weigh=(0, 3.0)), "is missing"),
        ("10.7", partial(_trades, weigh=(1, 1)), "β is missing"),
        ("10.7", partial(_trades, weigh=(3.0, 1)), "not of the cross-entropy"),
        ("10.7", partial(_trades, weigh=(1, -3.0)), "falls as the divergence grows"),
        ("10.7", partial(_trades, weigh=(2, 1)), "the mean loss is"),
        ("10.7", partial(_trades, reduce=torch.sum), "the sum over the images"),
        ("10.7", partial(_trades, reduce=lambda losses: losses), "the mean loss of shape"),
        ("10.7", lambda *given: _trades(*given).item(), "no gradient leads"),
        ("10.7", _backward_already, "used up"),
        ("10.8", partial(_free, clear=False), "clear them"),
        ("10.8", partial(_free, at="clean"), "that of the clean images"),
        ("10.8", partial(_free, descend=0), "have not moved"),
        ("10.8", partial(_free, descend=-1), "training descends"),
        ("10.8", partial(_free, descend=3), "not by one step of SGD"),
        ("10.8", partial(_free, reduce=torch.sum), "the sum of the losses"),
        ("10.8", partial(_free, ascend=0), "δ has not moved"),
        ("10.8", partial(_free, ascend=-1), "δ went downhill"),
        ("10.8", partial(_free, ascend=10), "its step is longer than ε"),
        ("10.8", partial(_free, ascend=0.5), "the old one plus ε along the signs"),
        ("10.8", partial(_free, move="out"), "leaves the ball"),
        ("10.8", partial(_free, move="fresh"), "does not go on"),
        ("10.8", _free_through_the_clipping, "not through the clipping"),
        ("10.8", _free_in_two_passes, "more than once"),
        ("10.8", _free_back_twice, "goes back through the model twice"),
        ("10.5", lambda: 3, "the trained network"),
        ("10.5", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "90% are asked"),
        ("10.5", digits_classifier, "75% are asked"),
        ("10.5", _Masked, "it has learnt to answer one attack"),
    ],
)
def test_wrong_answers_are_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because "), said
    assert re.search(reason, said), said


def test_a_free_step_may_keep_its_perturbation_within_the_pixels():
    assert verdict("10.8", _free_within_the_pixels) == "correct"


def test_fgsm_is_no_way_to_a_large_radius():
    model = _train(fgsm, Ball("linf", 0.1), epochs=1)  # too few epochs for anything
    assert verdict("10.5", lambda: model).startswith("wrong")
