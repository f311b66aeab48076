"""Models wrapped for attacks: a random one averaged, a quantiser given a slope."""

import math

import pytest
import torch
from torch import nn

from within_epsilon.attacks import REGISTRY, fgsm, pgd, takes
from within_epsilon.attacks.core.objective import input_gradient
from within_epsilon.attacks.wrappers import Averaged, BackwardAs
from within_epsilon.data import digits
from within_epsilon.defences import RandomlyTransformed
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)


class InTurn(nn.Module):
    """Answers with one of several linear models, the next at every call."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.calls = nn.Parameter(weights), 0
        self.eval()

    def forward(self, images):
        self.calls += 1
        return images.flatten(1) @ self.weights[self.calls % len(self.weights)].T


def noisy_models(draws, noise):
    """Return linear models of 3 classes and 16 pixels that differ by noise; images, labels."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 16, dtype=torch.float64, generator=generator)
    shape = draws, 3, 16
    draws = weights + noise * torch.randn(shape, dtype=torch.float64, generator=generator)
    images = torch.rand(200, 1, 4, 4, dtype=torch.float64, generator=generator)
    return InTurn(draws), images, (images.flatten(1) @ weights.T).argmax(dim=1)


def test_the_mean_is_that_of_the_probabilities():
    model, images, _ = noisy_models(draws=4, noise=1.0)
    logits = Averaged(model, samples=4)(images)
    answers = [(images.flatten(1) @ weights.T).softmax(dim=1) for weights in model.weights]
    torch.testing.assert_close(logits.exp(), torch.stack(answers).mean(dim=0))
    # Neither overflow nor underflow: the logits of confident draws keep their differences.
    loud = InTurn(1000 * model.weights.detach())
    assert Averaged(loud, samples=4)(images).isfinite().all()


def test_the_gradient_of_the_mean_fools_a_random_model_where_one_draw_s_does_not():
    model, images, labels = noisy_models(draws=64, noise=2.0)
    everybody = Averaged(model, samples=64)
    with torch.no_grad():
        right = everybody(images).argmax(dim=1) == labels
    assert right.float().mean() > 0.6

    def standing(attacked):
        images_adv = fgsm(attacked, images, labels, BALL)
        assert BALL.admits(images, images_adv).all()
        return (right & (everybody(images_adv).argmax(dim=1) == labels)).sum()

    assert 0 < standing(everybody) < 0.7 * standing(model)


def test_one_sample_of_a_fixed_model_changes_no_decision_and_no_loss():
    model, images, labels = noisy_models(draws=1, noise=0.0)
    wrapped = Averaged(model, samples=3)
    for ours, theirs in zip(
        input_gradient(wrapped, images, labels), input_gradient(model, images, labels), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert not wrapped.training
    with pytest.raises(ValueError, match="samples: expected at least 1, received 0"):
        Averaged(model, samples=0)


def quantise(images):
    return (7 * images).round() / 7


@pytest.fixture(scope="module")
def quantised():
    """Return the digits network behind a quantiser of 8 levels, and digits that it gets right."""
    body, test = digits_classifier(), digits().test
    model = nn.Sequential(BackwardAs(quantise), body).eval()
    images, labels = test.images[:100], test.labels[:100]
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    return body, model, images[right], labels[right]


def test_a_slope_for_the_stairs_lets_an_attack_through(quantised):
    body, model, images, labels = quantised

    class Hidden(nn.Module):
        def forward(self, images):
            return body(quantise(images))

    with torch.no_grad():
        hidden = Hidden().eval()
        assert torch.equal(hidden(images), model(images))  # bit for bit the same model
    counts = []
    for attacked in (hidden, model):
        images_adv = pgd(attacked, images, labels, Ball("linf", 0.15), steps=20)
        counts.append((hidden(images_adv).argmax(dim=1) == labels).sum())
    assert counts[0] > 0.7 * len(images)
    assert counts[1] < 0.5 * counts[0]


def test_the_backward_pass_is_the_substitute_s_at_the_same_point():
    points = torch.linspace(0, 1, 9, dtype=torch.float64).requires_grad_()
    module = BackwardAs(torch.round, lambda x: torch.sin(x))
    values = module(points)
    assert torch.equal(values, points.round())
    (3 * values).sum().backward()
    torch.testing.assert_close(points.grad, 3 * torch.cos(points.detach()))
    with pytest.raises(ValueError, match=r"shape of forward's, \(9,\), received \(3,\)"):
        BackwardAs(torch.round, lambda x: x[:3])(points)
    assert math.isclose(BackwardAs(torch.floor)(torch.tensor(0.7)).item(), 0)


# Every attack that follows a gradient within a ball, and the ensemble of them; steps where few.
FOLLOWING = [
    (name, norm)
    for name, entry in REGISTRY.items()
    for norm in entry.norms
    if entry.kind in ("white box", "minimal norm", "ensemble") and norm in ("linf", "l2")
]
STEPS = {"carlini_wagner": 50}


def changed(name, norm, model, images, labels):
    """Run an attack of the registry, and bring what it finds into the ball."""
    attack, ball = REGISTRY[name].function, Ball(norm, {"linf": 0.12, "l2": 0.6}[norm])
    options = {"steps": STEPS.get(name, 8), "queries": 40, "binary_search_steps": 3}
    options = {key: value for key, value in options.items() if takes(attack, key)}
    if takes(attack, "ball"):
        found = attack(model, images, labels, ball, **options)
    else:
        own = {"norm": norm} if takes(attack, "norm") else {}
        found = ball.within(images).clip(attack(model, images, labels, **own, **options).images_adv)
    assert ball.admits(images, found).all()
    return found


@pytest.mark.parametrize(("name", "norm"), FOLLOWING)
def test_stairs_with_a_slope_fall_to_every_attack_that_follows_one(quantised, name, norm):
    body, model, images, labels = quantised
    images, labels = images[:30], labels[:30]

    class Hidden(nn.Module):
        def forward(self, images):
            return body(quantise(images))

    counts = []
    for attacked in (Hidden().eval(), model):
        found = changed(name, norm, attacked, images, labels)
        counts.append((model(found).argmax(dim=1) == labels).sum().item())
    hidden, opened = counts
    assert opened < hidden - 3, counts
    assert opened <= 0.8 * len(images), counts


@pytest.mark.parametrize(("name", "norm"), FOLLOWING)
def test_no_attack_that_follows_a_gradient_finds_less_on_the_mean_of_draws(name, norm):
    model, (images, labels) = RandomlyTransformed(digits_classifier()).eval(), digits().test[:30]
    counts = []
    for attacked in (model, Averaged(model, samples=4)):
        torch.manual_seed(0)
        found = changed(name, norm, attacked, images, labels)
        with torch.no_grad():
            hits = [(model(found).argmax(dim=1) == labels).sum().item() for _ in range(20)]
        counts.append(sum(hits) / len(hits))
    alone, averaged = counts
    assert averaged <= alone + 1, counts
    assert averaged < 0.9 * len(images), counts
