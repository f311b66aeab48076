"""A universal perturbation fools on images that it has not seen; noise does not."""

import warnings

import pytest
import torch
from torch import nn

from within_epsilon.attacks import random_noise, universal_perturbation
from within_epsilon.data import digits
from within_epsilon.losses import margin, margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALLS = {"linf": Ball("linf", 0.2), "l2": Ball("l2", 1.2), "l1": Ball("l1", 5.0)}
every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)


@pytest.fixture(scope="module")
def model():
    """Return the digits network."""
    return digits_classifier()


def errors(model, images, labels):
    with torch.no_grad():
        return (model(images).argmax(dim=1) != labels).float().mean().item()


@every_ball
def test_it_fools_on_held_out_digits_far_more_than_noise_of_its_size(model, ball):
    train, test = digits().train, digits().test
    delta = universal_perturbation(model, train.images[:500], train.labels[:500], ball, epochs=8)
    assert delta.shape == (1, 1, 8, 8)
    assert not delta.requires_grad
    assert ball.contains(delta).all()
    images_adv = ball.perturb(test.images, delta.expand_as(test.images))
    noisy = random_noise(test.images, ball)
    fooled, chance = (errors(model, images, test.labels) for images in (images_adv, noisy))
    assert fooled > 3 * chance
    assert fooled > chance + 0.15


def test_targeted_it_leads_to_the_target(model):
    train, test = digits().train, digits().test
    ball, target = BALLS["linf"], 8
    delta = universal_perturbation(
        model,
        train.images[:500],
        torch.full((500,), target),
        ball,
        epochs=8,
        targeted=True,
    )
    others = test.images[test.labels != target]
    images_adv = ball.perturb(others, delta.expand_as(others))
    hits, before, noisy = (
        (model(images).argmax(dim=1) == target).float().mean()
        for images in (images_adv, others, random_noise(others, ball))
    )
    assert hits > max(before, noisy) + 0.2


class Unknown(nn.Module):
    """Changes nothing, but for all that one can see its mode might matter."""

    def forward(self, logits):
        return logits.clone() if self.training else logits


@every_ball
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_seed_dtype_mode_and_parameters(model, ball, dtype):
    train = digits().train
    images, labels = train.images[:40].to(dtype), train.labels[:40]
    network = nn.Sequential(digits_classifier().to(dtype), Unknown())
    network.train()
    weights = list(network.parameters())
    weights[0].grad = torch.full_like(weights[0], 7)
    before = images.clone()
    state = torch.random.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, again, other = (
            universal_perturbation(
                network, images.requires_grad_(), labels, ball, epochs=2, batch_size=7, seed=s
            )
            for s in (0, 0, 1)
        )
    assert [str(w.message)[:26] for w in caught] == ["the model is in train mode"] * 3
    assert caught[0].filename == __file__
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == dtype
    assert ball.contains(first).all()
    assert network.training
    assert (weights[0].grad == 7).all()
    assert all(weight.grad is None for weight in weights[1:])
    assert torch.equal(images, before)
    assert not first.requires_grad
    assert images.grad is None


def test_epsilon_zero_and_a_callback(model):
    train, points = digits().train, []
    images, labels = train.images[:30], train.labels[:30]

    def spoil(step, delta, losses):
        points.append((step, len(losses)))
        delta.fill_(1)

    delta = universal_perturbation(
        model, images, labels, Ball("l2", 0), epochs=2, batch_size=20, callback=spoil
    )
    assert (delta == 0).all()
    assert points == [(0, 20), (1, 10), (2, 20), (3, 10)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"step_size": 0.0}, "step_size"),
        ({"loss": margin}, "margin_loss"),
        ({"loss": nn.CrossEntropyLoss()}, "do not average"),
    ],
)
def test_unusable_arguments_are_refused_with_a_remedy(model, options, message):
    train = digits().train
    with pytest.raises(ValueError, match=message):
        universal_perturbation(model, train.images[:9], train.labels[:9], BALLS["linf"], **options)


class TwoSlopes(nn.Module):
    """Two classes: the second's logit rises steeply with x_0 where x_1 is large, and falls else."""

    def forward(self, images):
        first, second = images[:, 0], images[:, 1]
        rival = torch.where(second > 0.5, 10 * first + 5, 0.3 - first)
        return torch.stack([torch.zeros_like(rival), rival], dim=1)


@every_ball
def test_what_has_reached_the_cap_no_longer_outweighs_the_others(ball):
    images = torch.tensor([[0.5, 0.9], [0.5, 0.1]])
    labels, ball = torch.tensor([0, 0]), Ball(ball.norm, 0.2)
    attack = {"epochs": 10, "batch_size": 2, "loss": margin_loss}
    capped = universal_perturbation(TwoSlopes().eval(), images, labels, ball, cap=1.0, **attack)
    greedy = universal_perturbation(TwoSlopes().eval(), images, labels, ball, cap=99.0, **attack)
    assert capped[0, 0] == pytest.approx(-0.2)
    assert greedy[0, 0] == pytest.approx(0.2)
