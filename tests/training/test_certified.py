"""Bounds for training: those of the verifier, with true gradients, and a radius that rises."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from within_epsilon.attacks import pgd
from within_epsilon.data import digits
from within_epsilon.models import Classifier, Residual, mlp, small_cnn
from within_epsilon.threat import Ball
from within_epsilon.training import (
    IBP,
    Adversarial,
    CrownIBP,
    MtlIBP,
    bounded_margins,
    fit,
    standard,
    worst_cross_entropy,
)
from within_epsilon.verification import crown, ibp, rivals

BALL = Ball("linf", 0.1)
TRAIN = digits().train
IMAGES, LABELS = TRAIN.images[:12], TRAIN.labels[:12]


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def all_kinds():
    """A network with every layer that bounds can pass."""
    return Classifier(
        nn.Sequential(
            *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            *(Residual(nn.Conv2d(4, 4, 3, padding=1)), nn.LeakyReLU(0.1), nn.AvgPool2d(2)),
            *(nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 10)),
        ),
        mean=[0.3],
        std=[0.5],
    )


@pytest.mark.parametrize("make", [partial(mlp, 64, 30, 20, 10), small_cnn, all_kinds])
@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.5), Ball("linf", 0.1, TRAIN.images[:1] > 0)])
def test_bounds_for_training_are_the_verifiers(make, ball):
    model = seeded(make)
    # No two pixels alike: where a kink lies in the middle, rounding would choose the slope.
    images = (IMAGES + 0.1 * seeded(lambda: torch.rand(IMAGES.shape))).clamp(max=1)
    found = [bounded_margins(model.train(), images, LABELS, ball, linear=s) for s in (0, 0.5, 1)]
    assert model.training
    model.eval()
    proved = [
        ibp(model, images, LABELS, ball).lower,
        crown(model, images, LABELS, ball, intermediate="interval", meet=False).lower,
    ]
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), proved[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[2].double(), proved[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1], (found[0] + found[2]) / 2)
    adversarial = pgd(model, images, LABELS, ball, steps=10)
    logits = model(adversarial)
    margins = logits.gather(1, LABELS[:, None]) - logits.gather(1, rivals(LABELS, 10))
    assert (found[0] <= margins + 1e-4).all()
    assert (found[2] <= margins + 1e-4).all()


@pytest.mark.parametrize("linear", [0.0, 1.0])
@pytest.mark.parametrize("make", [partial(mlp, 64, 12, 8, 10), all_kinds])
def test_gradients_of_bounds_are_those_of_finite_differences(make, linear):
    model = seeded(make).double().eval()
    images = IMAGES.double()

    def loss():
        margins = bounded_margins(model, images, LABELS, BALL, linear=linear)
        return worst_cross_entropy(margins).sum()

    thetas = [theta for theta in model.parameters() if theta.ndim > 1]
    gradients = torch.autograd.grad(loss(), thetas)
    for theta, gradient in zip(thetas, gradients, strict=True):
        direction = torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).double()
        with torch.no_grad():
            ends = []
            for step in (1e-8, -2e-8):
                theta += step * direction
                ends.append(loss())
            theta += 1e-8 * direction
        slope = (ends[0] - ends[1]) / 2e-8
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_the_losses_are_what_their_formulas_say():
    model, full = seeded(partial(mlp, 64, 20, 10)), partial(bounded_margins, linear=0.0)
    clean = standard(model, IMAGES, LABELS)
    margins = full(model, IMAGES, LABELS, BALL)
    logits = torch.zeros(12, 10).scatter(1, rivals(LABELS, 10), -margins)
    worst = F.cross_entropy(logits, LABELS, reduction="none")
    torch.testing.assert_close(worst_cross_entropy(margins), worst)
    assert (worst >= Adversarial(pgd, BALL)(model, IMAGES, LABELS)).all()
    torch.testing.assert_close(
        IBP(BALL, 0, clean=0.3)(model, IMAGES, LABELS), 0.3 * clean + 0.7 * worst
    )
    linear = worst_cross_entropy(bounded_margins(model, IMAGES, LABELS, BALL, linear=0.8))
    objective = CrownIBP(BALL, 0, clean=0.0, final=0.8)
    torch.testing.assert_close(objective(model, IMAGES, LABELS), linear)

    def attack(model, images, labels, ball):
        return (images + ball.epsilon).clamp(max=1)

    between = MtlIBP(BALL, 0, attack=attack, alpha=0.2)(model, IMAGES, LABELS)
    attacked = standard(model, attack(model, IMAGES, LABELS, BALL), LABELS)
    torch.testing.assert_close(between, 0.8 * attacked + 0.2 * worst)


def test_the_radius_rises_with_the_minibatches_and_a_look_does_not_count():
    model, objective = seeded(partial(mlp, 64, 10)), CrownIBP(BALL, 4, warmup=2)
    met = []
    for _ in range(8):
        met += [objective.now().epsilon, objective.linear]
        with torch.no_grad():
            objective(model, IMAGES, LABELS)
        first = objective(model, IMAGES, LABELS)
    risen = (0, 0, 0, 0.25, 0.5, 0.75, 1, 1)
    assert met == pytest.approx([number for r in risen for number in (0.1 * r, 1 - r)])
    other = CrownIBP(BALL, 4, warmup=2)
    torch.testing.assert_close(other(model, IMAGES, LABELS), standard(model, IMAGES, LABELS))
    other.load_state_dict(objective.state_dict())
    torch.testing.assert_close(other(model, IMAGES, LABELS), first)
    other.reset()
    assert other.now().epsilon == 0
    at_once = IBP(BALL, 0, warmup=2)
    for epsilon in (0, 0, 0.1):
        assert at_once.now().epsilon == epsilon
        at_once.tick()


def test_an_interrupted_run_goes_on_at_the_same_radius(tmp_path):
    runs = []
    for path in (None, tmp_path / "run.pt"):
        model = seeded(partial(mlp, 64, 10, 10))
        settings = {"batch_size": 100, "step_size": 0.1, "checkpoint": path, "seed": 1}
        for epochs in (4,) if path is None else (2, 4):
            objective = IBP(BALL, 30)
            fit(model, TRAIN, objective, epochs=epochs, progress=False, **settings)
        runs.append(model[1].weight)
    assert runs[0].equal(runs[1])
    assert objective.seen == 48


def test_a_schedule_is_what_teaches():
    """Without one, training ends with a constant answer; with one, most digits are certified."""
    shares = []
    for ramp in (0, 300):
        model = seeded(partial(mlp, 64, 50, 50, 10))
        adam = partial(torch.optim.Adam, lr=0.005)
        fit(model, TRAIN, IBP(BALL, ramp), epochs=25, batch_size=64, optimizer=adam)
        images, labels = digits().validation[:]
        shares.append((ibp(model, images, labels, BALL).lower > 0).all(dim=1).double().mean())
    assert shares[0] < 0.2
    assert shares[1] > 0.6
