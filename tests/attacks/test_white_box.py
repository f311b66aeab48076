"""FGSM and PGD against the exact worst case, and against themselves written in a few lines."""

import math
import statistics
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from within_epsilon.attacks import fgsm, fmn, input_gradient, pgd, random_noise, starting_points
from within_epsilon.attacks.core.objective import Objective, Strongest, logits_of
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

NORMS = ("linf", "l2", "l1")
BALL = Ball("linf", 0.1)
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}


def linear(shape=(2, 3, 3)):
    """Return a linear classifier of two classes and its weights' difference, flattened."""
    size = math.prod(shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, 2)).double().eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(size)
        nn.init.normal_(model[1].weight)
    return model, (model[1].weight[0] - model[1].weight[1]).detach()


def bent():
    """Return a small network of ten inputs that is far from linear, with its examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        model = nn.Sequential(*model, nn.Linear(24, 3)).double().eval()
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
        images = torch.rand(30, 10, dtype=torch.float64)
        with torch.no_grad():
            model[-1].bias -= model(images).mean(dim=0)  # all classes occur
    return model, images, model(images).argmax(dim=1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 3), (1, 8, 8)])
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_is_fooled_as_far_as_theory_allows(norm, shape, n, targeted):
    model, weights = linear(shape)
    ball = Ball(norm, 0.2)
    generator = torch.Generator().manual_seed(n)
    images = 0.3 + 0.4 * torch.rand(n, *shape, dtype=torch.float64, generator=generator)
    labels = torch.randint(2, (n,), generator=generator)
    # No pixel reaches 0 or 1, so the margin falls by epsilon times the dual norm.
    scores = images.flatten(1) @ weights + (model[1].bias[0] - model[1].bias[1]).detach()
    margins = torch.where(labels == 0, scores, -scores)
    shift = ball.epsilon * torch.linalg.vector_norm(weights, DUAL[norm])
    worst = torch.log1p(torch.exp(-(margins + shift if targeted else margins - shift)))
    results = [
        fgsm(model, images, labels, ball, targeted=targeted),
        pgd(model, images, labels, ball, targeted=targeted, step_size=ball.epsilon, steps=60),
    ]
    for images_adv in results:
        losses = cross_entropy(model(images_adv), labels).detach()
        torch.testing.assert_close(losses, worst, rtol=1e-5, atol=1e-5)


def test_l1_passes_over_pixels_at_the_edge_of_the_range():
    # Two of three pixels cannot move the way that the gradient points.
    model, _ = linear((3,))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0, -2.0, 1.0], [0, 0, 0]]))
    images = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64)
    for attack in (fgsm, pgd):
        images_adv = attack(model, images, torch.tensor([0]), Ball("l1", 0.3))
        torch.testing.assert_close(
            images_adv, torch.tensor([[0, 1, 0.2]]).double(), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_agrees_with_itself_written_out(norm):
    model, images, labels = bent()
    ball, steps = Ball(norm, 0.3), 8
    step_size = 2.5 * ball.epsilon / steps
    delta = torch.zeros_like(images, requires_grad=True)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images + delta), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        with torch.no_grad():
            if norm == "linf":
                delta += step_size * gradient.sign()
                delta.clamp_(-ball.epsilon, ball.epsilon)
            else:
                delta += step_size * gradient / gradient.norm(dim=1, keepdim=True)
                delta *= (ball.epsilon / delta.norm(dim=1, keepdim=True)).clamp(max=1)
            delta.copy_((images + delta).clamp(0, 1) - images)
    images_adv = pgd(model, images, labels, ball, steps=steps, random_start=False)
    torch.testing.assert_close(images_adv, (images + delta).detach(), rtol=0, atol=1e-9)


def test_momentum_agrees_with_itself_written_out():
    model, images, labels = bent()
    ball, steps, momentum = Ball("linf", 0.3), 8, 0.9
    velocity, images_adv = torch.zeros_like(images), images
    for _ in range(steps):
        images_adv = images_adv.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(images_adv), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images_adv)
        velocity = momentum * velocity + gradient / gradient.abs().sum(dim=1, keepdim=True)
        images_adv = images_adv + 2.5 * ball.epsilon / steps * velocity.sign()
        images_adv = images + (images_adv - images).clamp(-ball.epsilon, ball.epsilon)
        images_adv = images_adv.clamp(0, 1).detach()
    settings = {"steps": steps, "random_start": False}
    ours = pgd(model, images, labels, ball, momentum=momentum, **settings)
    torch.testing.assert_close(ours, images_adv, rtol=0, atol=1e-9)
    assert not torch.allclose(ours, pgd(model, images, labels, ball, **settings))


def test_checks_and_bookkeeping_cost_little():
    # A few hundredths; the bound is loose because other tests share the processor.
    model, test = digits_classifier(), digits().test
    images, labels, steps, ball = test.images[:200], test.labels[:200], 10, Ball("linf", 0.1)
    lower, upper = (images - 0.1).clamp(min=0), (images + 0.1).clamp(max=1)

    def bare():
        images_adv = images
        for _ in range(steps):
            images_adv = images_adv.detach().requires_grad_()
            loss = nn.functional.cross_entropy(model(images_adv), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, images_adv)
            images_adv = (images_adv + 0.025 * gradient.sign()).clamp(lower, upper)

    def seconds(run):
        begin = time.process_time()
        run()
        return time.process_time() - begin

    ratios = [
        seconds(lambda: pgd(model, images, labels, ball, steps=steps, random_start=False))
        / seconds(bare)
        for _ in range(10)
    ]
    assert statistics.median(ratios[1:]) < 1.5


@pytest.mark.parametrize("norm", NORMS)
def test_one_whole_step_from_the_clean_image_is_fgsm(norm):
    model, images, labels = bent()
    ball = Ball(norm, 0.2)
    single = pgd(model, images, labels, ball, steps=1, step_size=ball.epsilon, random_start=False)
    assert torch.equal(single, fgsm(model, images, labels, ball))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", [cross_entropy, margin_loss])
def test_the_worst_last_iterate_is_returned(targeted, loss):
    model, images, labels = bent()
    if targeted:
        labels = (labels + 1) % 3
    visits = []
    images_adv = pgd(
        model,
        images,
        labels,
        Ball("linf", 0.03),
        steps=3,
        restarts=4,
        targeted=targeted,
        loss=loss,
        callback=lambda step, *point: visits.append((step, *point)),
    )
    assert [step for step, *_ in visits] == [0, 1, 2, 3] * 4
    for _, point, losses in visits:
        assert not point.requires_grad
        torch.testing.assert_close(losses, loss(model(point), labels).detach())
    ends = [point for step, point, _ in visits if step == 3]
    for i, label in enumerate(labels):

        def badness(end, i=i, label=label):
            logits = model(end[i : i + 1])
            value = loss(logits, label.view(1)).item()
            hit = bool(logits.argmax() == label)
            return (hit, -value) if targeted else (not hit, value)

        worst = max(ends, key=badness)
        torch.testing.assert_close(images_adv[i], worst[i], rtol=0, atol=0)


def test_fooling_comes_before_loss():
    # Logits are the pixels.
    labels, model = torch.tensor([0, 0]), nn.Identity()
    fooled = torch.tensor([0.30, 0.31, 0.0])
    unfooled = torch.tensor([0.9, 0.89, 0.89])  # of larger loss, nevertheless
    more = torch.tensor([0.30, 0.40, 0.0])
    objective, strongest = Objective(labels, cross_entropy), Strongest(torch.zeros(2, 3))

    def offer(*rows):
        logits = logits_of(model, torch.stack(rows))
        losses, achieved = objective.losses(logits), objective.achieved(logits)
        strongest.offer(torch.arange(2), torch.stack(rows), achieved, losses)
        return losses

    losses = offer(fooled, unfooled)
    assert losses[0] < losses[1]
    offer(unfooled, fooled)
    assert torch.equal(strongest.images_adv, torch.stack([fooled, fooled]))
    offer(more, unfooled)
    assert torch.equal(strongest.images_adv, torch.stack([more, fooled]))


def test_more_restarts_fool_more():
    model, images, labels = bent()

    def fooled(restarts):
        ball, short = Ball("linf", 0.03), {"steps": 2, "step_size": 0.015}
        images_adv = pgd(model, images, labels, ball, **short, restarts=restarts)
        return model(images_adv).argmax(dim=1) != labels

    one, ten = fooled(1), fooled(10)
    # The first run is the same, so that what it fools stays fooled.
    assert (ten | ~one).all()
    assert ten.sum() > one.sum() > 0


def test_a_callback_may_write_into_what_it_gets():
    model, images, labels = bent()
    quiet = pgd(model, images, labels, BALL, steps=4)
    spoilt = pgd(model, images, labels, BALL, steps=4, callback=lambda _, x, __: x.zero_())
    assert torch.equal(quiet, spoilt)


@pytest.mark.parametrize(
    ("options", "forwards"),
    [
        ({}, 6),
        ({"restarts": 3}, 3 * 7),
        ({"callback": lambda *_: None}, 7),
    ],
)
def test_no_forward_pass_is_wasted(options, forwards):
    model, images, labels = bent()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    pgd(model, images, labels, BALL, steps=6, **options)
    assert len(calls) == forwards


def test_attacks_work_where_gradients_are_switched_off():
    model, images, labels = bent()
    expected = pgd(model, images, labels, Ball("l2", 0.3), steps=3)
    for weight in model.parameters():
        weight.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(pgd(model, images, labels, Ball("l2", 0.3), steps=3), expected)


def test_autocast_keeps_no_picture_of_earlier_steps():
    shown = []

    class Watched(nn.Conv2d):
        def forward(self, images):
            shown.append(StorageWeakRef(images.untyped_storage()))
            return super().forward(images)

    model = nn.Sequential(Watched(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)).eval()
    images = torch.rand(4, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        pgd(model, images, torch.tensor([0, 1, 2, 0]), BALL, steps=10)
        kept = sum(not picture.expired() for picture in shown)
    assert len(shown) >= 10
    assert kept == 0


def test_inference_mode_is_named_where_it_hides_the_gradient():
    model, images, labels = bent()
    for attack in (partial(pgd, ball=BALL), partial(fmn, norm="l2")):
        with torch.inference_mode(), pytest.raises(ValueError, match=r"inference_mode\(\) around"):
            attack(model, images, labels)


def test_input_gradient_is_that_of_each_example():
    model, images, labels = bent()
    losses, gradient = input_gradient(model, images, labels)
    torch.testing.assert_close(losses, cross_entropy(model(images), labels).detach())
    for i in (0, 17):
        single = images[i : i + 1].clone().requires_grad_()
        cross_entropy(model(single), labels[i : i + 1]).sum().backward()
        torch.testing.assert_close(gradient[i : i + 1], single.grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1"),
        ({"restarts": 0}, "restarts: expected at least 1"),
        ({"step_size": -0.1}, "targeted=True"),
        ({"momentum": -0.5}, "momentum: expected a number >= 0"),
        ({"indices": [1, 2]}, "indices: expected 30"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    model, images, labels = bent()
    with pytest.raises(ValueError, match=message):
        pgd(model, images, labels, BALL, **options)


@pytest.mark.parametrize("norm", NORMS)
def test_noise_is_as_large_as_the_ball_allows(norm):
    images = torch.full((4, 1, 6, 6), 0.5)
    noisy = random_noise(images, Ball(norm, 0.2))
    length = Ball(norm, 0.2).length(noisy - images)
    torch.testing.assert_close(length, torch.full((4,), 0.2).double(), rtol=1e-5, atol=0)
    assert len({tuple(image.flatten().tolist()) for image in noisy}) == 4


@pytest.mark.parametrize("norm", NORMS)
def test_starts_lie_anywhere_between_the_image_and_the_surface(norm):
    images, ball = torch.full((2000, 64), 0.5), Ball(norm, 0.2)
    starts = starting_points(images, ball)
    assert ball.admits(images, starts).all()
    lengths = (ball.length(starts - images) / 0.2).sort().values.numpy()
    if norm == "linf":
        assert (
            lengths[0] > 0.8
        )  # uniform in the ball: some pixel of 64 has nearly its largest change
    else:
        # A uniform share of a length that 64 dimensions leave next to 1.
        shares = np.linspace(0, 1, 2000)
        assert np.abs(lengths - shares).max() < 0.06
    assert torch.equal(starting_points(images[5:7], ball, indices=[5, 6]), starts[5:7])
    assert not torch.equal(starting_points(images, ball, restart=1), starts)
    run = pgd(
        nn.Linear(64, 2).eval(), images[:3], torch.zeros(3).long(), ball, steps=1, step_size=1e-9
    )
    torch.testing.assert_close(run, starts[:3], rtol=0, atol=1e-6)
