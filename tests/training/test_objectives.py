"""What each objective returns, against the formula written out, and what it leaves behind."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from within_epsilon.attacks import count_evaluations, fgsm, fmn, noise_control, pgd
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy, log_softmax
from within_epsilon.models import mlp
from within_epsilon.threat import Ball
from within_epsilon.training import (
    IBP,
    Adversarial,
    Atta,
    CrownIBP,
    Free,
    MtlIBP,
    SingleStep,
    Trades,
    fit,
    standard,
)

BALL = Ball("linf", 0.1)
TRAIN = digits().train
IMAGES, LABELS = TRAIN.images[:40], TRAIN.labels[:40]
PGD = partial(pgd, steps=3)
ONE_STEP = {"steps": 1, "step_size": 0.04, "random_start": False}


def network(*extra, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*mlp(64, 20, 10), *extra)


def own(model, images, labels, ball, alpha=0.1):
    return ball.perturb(images, alpha * torch.ones_like(images))


OBJECTIVES = {
    "standard": lambda: standard,
    "adversarial": lambda: Adversarial(PGD, BALL),
    "TRADES": lambda: Trades(PGD, BALL),
    "single step": lambda: SingleStep(BALL),
    "free": lambda: Free(BALL),
    "ATTA": lambda: Atta(BALL),
    "IBP": lambda: IBP(BALL, 40),
    "CROWN-IBP": lambda: CrownIBP(BALL, 40),
    "MTL-IBP": lambda: MtlIBP(BALL, 40, attack=PGD, alpha=0.1),
}
every_objective = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)


@every_objective
def test_an_objective_returns_a_loss_per_image_and_leaves_the_model_as_it_was(make):
    model = network(nn.Dropout(0.1), nn.BatchNorm1d(10))
    model[0].eval()  # a part in another mode than the others
    model[1].bias.requires_grad_(False)
    modes = [part.training for part in model.modules()]
    free = [theta.requires_grad for theta in model.parameters()]
    losses = make()(model, IMAGES, LABELS)
    assert losses.shape == (40,)
    assert losses.requires_grad
    assert [part.training for part in model.modules()] == modes
    assert [theta.requires_grad for theta in model.parameters()] == free
    assert all(theta.grad is None for theta in model.parameters())
    assert IMAGES.equal(TRAIN.images[:40])


@every_objective
def test_every_objective_teaches(make):
    model = network()
    history = fit(model, TRAIN, make(), epochs=4, batch_size=64, step_size=0.05, momentum=0.9)
    assert history.train_losses[-1] < 0.8 * history.train_losses[0]


def test_standard_training_is_on_cross_entropy():
    model = network()
    expected = F.cross_entropy(model(IMAGES), LABELS, reduction="none")
    torch.testing.assert_close(standard(model, IMAGES, LABELS), expected)


def test_adversarial_training_takes_its_losses_where_the_attack_ends():
    model = network()
    images_adv = fgsm(model, IMAGES, LABELS, BALL)
    found = Adversarial(fgsm, BALL)(model, IMAGES, LABELS)
    torch.testing.assert_close(found, cross_entropy(model(images_adv), LABELS))
    assert (found > standard(model, IMAGES, LABELS)).float().mean() > 0.9


def test_an_attack_starts_elsewhere_every_time():
    points = []

    def noted(model, images, labels, ball, seed=0):
        points.append(pgd(model, images, labels, ball, steps=1, seed=seed))
        return points[-1]

    model, objective = network(), Adversarial(noted, BALL)
    for seed in (0, 0):
        torch.manual_seed(seed)
        for _ in range(2):
            objective(model, IMAGES, LABELS)
    assert not points[0].equal(points[1])
    assert points[:2] == [pytest.approx(p) for p in points[2:]]


def test_the_adversary_meets_the_network_in_eval_mode_with_constant_parameters():
    seen = []

    def spy(model, images, labels, ball):
        seen.append((model.training, [theta.requires_grad for theta in model.parameters()]))
        return images

    model = network(nn.Dropout(0.5)).train()
    Adversarial(spy, BALL)(model, IMAGES, LABELS)
    with pytest.raises(RuntimeError, match="out of order"):
        Adversarial(raising, BALL)(model, IMAGES, LABELS)
    assert seen == [(False, [False] * 4)]
    assert model.training
    assert all(theta.requires_grad for theta in model.parameters())


def raising(model, images, labels, ball):
    raise RuntimeError("out of order")


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_trades_is_cross_entropy_and_divergence(beta):
    model, points = network(), []

    def noted(model, images, labels, ball, *, loss, random_start=True):
        points.append(pgd(model, images, labels, ball, steps=3, loss=loss))
        return points[-1]

    found = Trades(noted, BALL, beta)(model, IMAGES, LABELS)
    clean, moved = model(IMAGES), model(points[0])
    divergence = F.kl_div(
        log_softmax(moved), log_softmax(clean), log_target=True, reduction="none"
    ).sum(dim=1)
    torch.testing.assert_close(found, cross_entropy(clean, LABELS) + beta * divergence)
    noisy = model(noise_control(model, IMAGES, LABELS, BALL))
    noise = (log_softmax(clean).exp() * (log_softmax(clean) - log_softmax(noisy))).sum(dim=1)
    assert divergence.mean() > 3 * noise.mean()


def test_trades_pulls_at_the_clean_predictions_too():
    model, points = network(), []

    def noted(model, images, labels, ball, *, loss, random_start=True):
        points.append(pgd(model, images, labels, ball, steps=3, loss=loss))
        return points[-1]

    losses = Trades(noted, BALL, 1.0)(model, IMAGES, LABELS) - standard(model, IMAGES, LABELS)
    found = torch.autograd.grad(losses.sum(), model[-1].weight)[0]
    target = log_softmax(model(IMAGES)).detach()
    held = F.kl_div(log_softmax(model(points[0])), target, log_target=True, reduction="sum")
    one_sided = torch.autograd.grad(held, model[-1].weight)[0]
    assert (found - one_sided).norm() > 0.1 * found.norm()


@pytest.mark.parametrize("attack", [fgsm, partial(pgd, random_start=False)])
def test_trades_refuses_an_attack_that_starts_where_there_is_no_gradient(attack):
    with pytest.raises(ValueError, match="starts at random"):
        Trades(attack, BALL)


def test_a_single_step_without_noise_is_fgsm():
    model = network()
    found = SingleStep(BALL, noise=0.0)(model, IMAGES, LABELS)
    torch.testing.assert_close(found, Adversarial(fgsm, BALL)(model, IMAGES, LABELS))


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_single_step_reaches_as_far_as_noise_and_step_together(noise):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, images):
            seen.append(images.detach())
            return self.body(images)

    with count_evaluations(model := Spy()) as spent:
        SingleStep(BALL, noise)(model, IMAGES, LABELS)
    assert spent.gradients == len(IMAGES)
    assert spent.forwards == 2 * len(IMAGES)
    reach = (seen[-1] - IMAGES).abs().max().item()
    assert BALL.epsilon * (1 + 0.9 * noise) < reach <= BALL.epsilon * (1 + noise) + 1e-6
    assert seen[-1].min() >= 0
    assert seen[-1].max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SingleStep(Ball("l2", 1.0)), "expected linf"),
        (lambda: SingleStep(BALL, noise=-1), "noise"),
        (lambda: Trades(PGD, BALL, beta=-1), "beta"),
        (lambda: Trades(PGD, BALL, beta=float("nan")), "beta"),
        (lambda: Trades(PGD, BALL, beta=float("inf")), "beta"),
        (lambda: SingleStep(BALL, noise=float("inf")), "noise"),
        (lambda: Atta(BALL, step_size=float("inf")), "step_size"),
        (lambda: Free(BALL, replays=0), "replays"),
        (lambda: Atta(BALL, steps=0), "steps"),
        (lambda: Atta(BALL, step_size=0.0), "step_size"),
        (lambda: Atta(BALL, step_size=-0.1), "step_size"),
        (lambda: Adversarial(partial(pgd, step_size=-0.1), BALL), "walks down the loss"),
        (lambda: Adversarial(partial(pgd, step_size=float("nan")), BALL), "step_size > 0"),
        (lambda: Adversarial(partial(own, alpha=-0.1), BALL), "alpha > 0, received -0.1"),
        (lambda: Adversarial(partial(pgd, targeted=True), BALL), "targeted=True"),
        (lambda: Trades(partial(pgd, step_size=-0.1), BALL), "walks down the loss"),
        (lambda: Trades(partial(pgd, targeted=True), BALL), "targeted=True"),
        (lambda: MtlIBP(BALL, 1, attack=partial(pgd, step_size=-1), alpha=0.1), "walks down"),
        (lambda: IBP(BALL, -1), "ramp"),
        (lambda: IBP(BALL, 1, warmup=-1), "warmup"),
        (lambda: IBP(BALL, 1, clean=1.5), "clean"),
        (lambda: CrownIBP(BALL, 1, final=-0.1), "final"),
        (lambda: MtlIBP(BALL, 1, attack=PGD, alpha=float("nan")), "alpha"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        *(Atta, Free, SingleStep, partial(Adversarial, PGD), partial(Trades, PGD)),
        *(partial(IBP, ramp=1), partial(MtlIBP, ramp=1, attack=PGD, alpha=0.5)),
    ],
)
def test_a_radius_alone_is_no_threat_model(make):
    with pytest.raises(TypeError, match="ball"):
        make(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adversarial("pgd", BALL), "attacks.pgd.* received 'pgd'"),
        (lambda: Adversarial(None, BALL), "attacks.pgd.* received None"),
        (lambda: Adversarial(fmn, BALL), "model, images, labels, ball.* received FMN"),
        (lambda: Trades("pgd", BALL), "attacks.pgd.* received 'pgd'"),
        (lambda: MtlIBP(BALL, 1, attack="pgd", alpha=0.5), "attacks.pgd.* received 'pgd'"),
        (lambda: Free(BALL, replays=1.5), "replays: expected a whole number, received 1.5"),
        (lambda: Atta(BALL, steps=2.0), "steps: expected a whole number, received 2.0"),
    ],
)
def test_things_of_another_kind_are_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_free_training_moves_its_perturbation_with_the_gradient_of_the_same_pass():
    model, objective = network(), Free(BALL, replays=3)
    expected = torch.zeros_like(IMAGES)
    for _ in range(3):
        points = BALL.perturb(IMAGES, expected).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(points), LABELS).sum(), points)
        expected = (expected + 0.1 * gradient.sign()).clamp(-0.1, 0.1)
        losses = objective(model, IMAGES, LABELS)
        torch.testing.assert_close(losses, cross_entropy(model(points), LABELS))
        losses.mean().backward()
        torch.testing.assert_close(objective.state_dict()["delta"], expected)
    assert model[1].weight.grad is not None


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 1.0)])
def test_a_free_perturbation_stays_in_the_ball_and_outlives_smaller_minibatches(ball):
    model, objective = network(), Free(ball)
    objective(model, IMAGES, LABELS).mean().backward()
    before = objective.state_dict()["delta"]
    objective(model, IMAGES[:10], LABELS[:10]).mean().backward()
    after = objective.state_dict()["delta"]
    assert ball.contains(after).all()
    assert after[10:].equal(before[10:])
    assert not after[:10].equal(before[:10])
    with torch.no_grad():
        objective(model, IMAGES, LABELS)
    assert objective.state_dict()["delta"] is after


def test_free_training_replays_every_minibatch():
    with count_evaluations(model := network()) as spent:
        fit(model, (IMAGES, LABELS), Free(BALL, 5), epochs=2, batch_size=16, step_size=0.1)
    assert spent.forwards == 2 * 5 * 40


def test_atta_goes_on_from_where_an_example_was_left():
    """Over three epochs it takes the steps that PGD takes against a network that changes."""
    model, objective = network(), Atta(BALL, step_size=0.04)
    expected = IMAGES.clone()
    for order in (torch.arange(40), torch.randperm(40), torch.arange(39, -1, -1)):
        with torch.no_grad():
            model[1].weight.mul_(0.9)
        for rows in order.split(16):
            given = model, IMAGES[rows], LABELS[rows]
            step = pgd(model, expected[rows], LABELS[rows], Ball("linf", 0.04), **ONE_STEP)
            expected[rows] = BALL.within(IMAGES[rows]).clip(step)
            found = objective(*given, indices=rows)
            torch.testing.assert_close(found, cross_entropy(model(expected[rows]), LABELS[rows]))
    delta = objective.state_dict()["delta"]
    torch.testing.assert_close(IMAGES + delta, expected)
    assert delta.abs().max().item() == pytest.approx(0.1)
    with torch.no_grad():
        objective(model, IMAGES, LABELS)
    assert objective.state_dict()["delta"] is delta


def test_fit_tells_an_objective_where_its_examples_stand():
    seen = []

    def noted(model, images, labels, *, indices):
        assert images.equal(IMAGES[indices])
        seen.append(indices)
        return standard(model, images, labels)

    pairs = list(zip(IMAGES, LABELS, strict=True))
    for split in ((IMAGES, LABELS), pairs):
        fit(network(), split, noted, epochs=2, batch_size=16, step_size=0.1)
        orders = torch.cat(seen).view(2, 40)
        assert [order.sort().values.tolist() for order in orders] == [list(range(40))] * 2
        assert not orders[0].equal(orders[1])
        seen.clear()
    loader = torch.utils.data.DataLoader(pairs, batch_size=16)
    with pytest.raises(ValueError, match="received a DataLoader"):
        fit(network(), loader, Atta(BALL), epochs=1, batch_size=16, step_size=0.1)


def test_objectives_say_what_they_are():
    words = [str(OBJECTIVES[name]()) for name in list(OBJECTIVES)[1:]]
    assert words == [
        "PGD, 3 steps, ℓ∞ ε = 0.1",
        "TRADES, β = 6, PGD, 3 steps, ℓ∞ ε = 0.1",
        "one step from noise of 2 ε, ℓ∞ ε = 0.1",
        "free, 4 replays, ℓ∞ ε = 0.1",
        "ATTA, 1 step an epoch, ℓ∞ ε = 0.1",
        "IBP, κ = 0.5, ℓ∞ ε = 0.1",
        "CROWN-IBP, κ = 0.5, ℓ∞ ε = 0.1",
        "MTL-IBP, α = 0.1, PGD, 3 steps, ℓ∞ ε = 0.1",
    ]
    assert str(SingleStep(BALL, 0.0)) == "FGSM, ℓ∞ ε = 0.1"


def test_adversarial_training_makes_robust():
    accuracies = {}
    for name in ("standard", "adversarial", "TRADES", "single step", "free", "ATTA"):
        model = network()
        history = fit(
            model,
            TRAIN,
            OBJECTIVES[name](),
            epochs=4 if name == "free" else 12,
            batch_size=64,
            optimizer=partial(torch.optim.Adam, lr=0.01),
            validation=digits().validation,
            attack=partial(pgd, steps=10),
            ball=BALL,
        )
        accuracies[name] = history.robust_accuracies[-1]
    plain = accuracies.pop("standard")
    assert min(accuracies.values()) > plain + 0.1, accuracies
