"""APGD against itself written out, its bookkeeping, and its targeted form."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import apgd, count_evaluations, multi_targeted, pgd
from within_epsilon.attacks.core.linear import nearest_first
from within_epsilon.attacks.white_box.apgd_steps import checkpoints
from within_epsilon.losses import cross_entropy, dlr, margin_loss
from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball

BALLS = {"linf": Ball("linf", 0.1), "l2": Ball("l2", 0.4), "l1": Ball("l1", 0.4)}
every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)


def bent(classes=5, inputs=10):
    """Return a small network that is far from linear, with its examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        model = nn.Sequential(*model, nn.Linear(24, classes)).double().eval()
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
        images = torch.rand(30, inputs, dtype=torch.float64)
        with torch.no_grad():
            model[-1].bias -= model(images).mean(dim=0)  # all classes occur
    return model, images, model(images).argmax(dim=1)


def wins(model, images, labels):
    with torch.no_grad():
        return model(images).argmax(dim=1) == labels


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(20) == [0, 5, 9, 12, 14, 16, 18, 19, 20]
    assert checkpoints(1) == [0, 1]


def written_out(model, image, label, ball, steps, generator):
    """Follow Algorithm 1 of Croce and Hein for one example, in its own words."""

    def project(x):
        if ball.norm == "linf":
            return x.clamp(image - ball.epsilon, image + ball.epsilon).clamp(0, 1)
        delta = x - image
        return (image + delta * min(1, ball.epsilon / delta.norm().item())).clamp(0, 1)

    def value_and_step(x):
        x = x.clone().requires_grad_()
        value = nn.functional.cross_entropy(model(x), label)
        (g,) = torch.autograd.grad(value, x)
        return value.item(), g.sign() if ball.norm == "linf" else g / g.norm()

    eta = 2 * ball.epsilon
    x = [ball.perturb(image, ball.random(image, [generator]))]
    f, d = [], []
    value, direction = value_and_step(x[0])
    f.append(value), d.append(direction)
    x.append(project(x[0] + eta * d[0]))
    value, direction = value_and_step(x[1])
    f.append(value), d.append(direction)
    rises = [f[1] > f[0]]
    best = max((0, 1), key=lambda k: f[k])
    x_max, f_max, d_max = x[best], f[best], d[best]
    marks = checkpoints(steps)
    eta_then, f_max_then = eta, f[0]
    for k in range(1, steps):
        if k in marks:
            span = k - marks[marks.index(k) - 1]
            eta_now, f_max_now = eta, f_max
            seldom = sum(rises[k - span : k]) < 0.75 * span
            if seldom or (eta_then == eta_now and f_max_then == f_max_now and k > marks[1]):
                eta, x[k], f[k], d[k] = eta / 2, x_max, f_max, d_max
            eta_then, f_max_then = eta_now, f_max_now
        z = project(x[k] + eta * d[k])
        x.append(project(x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1])))
        value, direction = value_and_step(x[k + 1])
        f.append(value), d.append(direction)
        rises.append(value > f[k])
        if value > f_max:
            x_max, f_max, d_max = x[k + 1], value, direction
    return x_max, f_max


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_agrees_with_the_algorithm_written_out(norm):
    model, images, labels = bent()
    ball, steps = BALLS[norm], 40
    losses = cross_entropy(model(apgd(model, images, labels, ball, steps=steps)), labels)
    for i, generator in enumerate(example_generators(range(30), 0)):
        image, label = images[i : i + 1], labels[i : i + 1]
        _, value = written_out(model, image, label, ball, steps, generator)
        assert losses[i].item() == pytest.approx(value, abs=1e-8)


@every_ball
def test_it_raises_the_loss_further_than_pgd_at_equal_cost(ball):
    model, images, labels = bent()
    with count_evaluations(model) as spent:
        ours = cross_entropy(model(apgd(model, images, labels, ball, steps=40)), labels)
        assert spent.gradients == 40 * 30
    theirs = cross_entropy(model(pgd(model, images, labels, ball, steps=40)), labels)
    assert ours.mean() > theirs.mean()
    assert (ours >= 0.99 * theirs).float().mean() > 0.8


@every_ball
@pytest.mark.parametrize("targeted", [False, True])
def test_the_worst_point_visited_is_returned(ball, targeted):
    model, images, labels = bent()
    labels = (labels + targeted) % 5
    visits = []
    images_adv = apgd(
        model,
        images,
        labels,
        ball,
        steps=12,
        restarts=2,
        targeted=targeted,
        callback=lambda step, *point: visits.append((step, *point)),
    )
    # The wider balls of l1 are visited but not scored.
    inside = [v for v in visits if ball.norm != "l1" or v[0] >= 6]
    assert [step for step, *_ in inside] == [*range(6 if ball.norm == "l1" else 0, 13)] * 2
    for i, label in enumerate(labels):

        def badness(point, i=i, label=label):
            logits = model(point[i : i + 1])
            value = cross_entropy(logits, label.view(1)).item()
            hit = bool(logits.argmax() == label)
            return (hit, -value) if targeted else (not hit, value)

        worst = max((point for _, point, _ in inside), key=badness)
        assert badness(images_adv) == pytest.approx(badness(worst), abs=1e-12)
    for _, point, losses in visits:
        torch.testing.assert_close(losses, cross_entropy(model(point), labels).detach())


@every_ball
def test_stopping_early_saves_gradients_and_fools_the_same(ball):
    model, images, labels = bent()
    settings = {"steps": 30, "restarts": 3}
    with count_evaluations(model) as full:
        thorough = apgd(model, images, labels, ball, **settings)
    visits = []

    def note(step, images_adv, losses):
        images_adv[losses.isnan()] = images[losses.isnan()]
        visits.append((images_adv, losses))

    with count_evaluations(model) as spent:
        early = apgd(model, images, labels, ball, **settings, early_stop=True, callback=note)
    standing = wins(model, thorough, labels)
    assert 0 < standing.sum() < 30
    assert torch.equal(wins(model, early, labels), standing)
    torch.testing.assert_close(early[standing], thorough[standing], rtol=0, atol=1e-12)
    assert full.gradients == 30 * 3 * 30
    # Those that stand pay in full, those that fall for one run at most.
    assert spent.gradients < int(standing.sum()) * 90 + int((~standing).sum()) * 60
    for images_adv, losses in visits:
        assert len(images_adv) == len(losses) == 30


@pytest.mark.parametrize("classes", [2, 3, 5])
@every_ball
def test_every_class_is_tried_on_what_survives(ball, classes):
    model, images, labels = bent(classes)
    labels[:3] = (labels[:3] + 1) % classes  # the model is wrong about three
    asked = []
    hook = model.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    with count_evaluations(model) as spent:
        images_adv = multi_targeted(model, images, labels, ball, steps=15)
    hook.remove()
    assert torch.equal(images_adv[:3], images[:3])
    assert ball.admits(images, images_adv).all()
    standing = wins(model, images_adv, labels)
    # Those that stand pay in full, those that fall do not; no pass takes more than were given.
    assert int(standing.sum()) * 15 * (classes - 1) <= spent.gradients < 27 * 15 * (classes - 1)
    assert max(asked) <= 30
    single = wins(model, multi_targeted(model, images, labels, ball, steps=15, targets=1), labels)
    assert (single | ~standing).all()


@every_ball
def test_of_many_candidates_the_nearest_are_tried(ball):
    """On a linear model the border that is nearest is crossed first, however likely its class."""
    model, weight = linear(6, 12, seed=3)
    images = torch.rand(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = 0.4 + 0.2 * images
    with torch.no_grad():
        model[1].bias -= model(images).mean(dim=0)  # all classes occur
        logits = model(images)
    labels = logits.argmax(dim=1)
    gaps = logits.amax(dim=1, keepdim=True) - logits
    slopes = torch.linalg.vector_norm(weight - weight[labels].unsqueeze(1), DUAL[ball.norm], dim=2)
    distances = (gaps / slopes).scatter(1, labels.unsqueeze(1), torch.inf)
    order = nearest_first(model, images, labels, ball.norm, 9)
    assert torch.equal(order, distances.argsort(dim=1)[:, :5])
    likeliest = logits.scatter(1, labels.unsqueeze(1), -torch.inf).argmax(dim=1)
    assert (order[:, 0] != likeliest).sum() >= 5
    # In a ball that reaches to the nearest border of half of the images, and to no second one.
    ball = Ball(ball.norm, distances.amin(dim=1).median().item() * 1.001)
    fallen = distances.amin(dim=1) < ball.epsilon
    one = partial(multi_targeted, model, images, labels, ball, steps=60, targets=1)
    assert torch.equal(wins(model, one(candidates=5), labels), ~fallen)
    assert wins(model, one(), labels).sum() > (~fallen).sum()


def linear(classes, size, seed):
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).double().eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nn.init.normal_(model[1].weight)
    return model, model[1].weight.detach()


DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
FOLLOWERS = {
    "pgd": partial(pgd, steps=100, step_size=0.2),
    "pgd, momentum": partial(pgd, steps=100, step_size=0.2, momentum=1.0),
    "apgd": partial(apgd, steps=100),
}


@pytest.mark.parametrize("attack", FOLLOWERS.values(), ids=FOLLOWERS)
@pytest.mark.parametrize("shape", [(6,), (3, 4, 4), (1, 12, 12)])
@pytest.mark.parametrize("norm", DUAL)
def test_towards_every_class_of_a_linear_model_the_optimum_is_reached(norm, shape, attack):
    size, classes, n = math.prod(shape), 4, 5
    model, weight = linear(classes, size, seed=size)
    ball = Ball(norm, 0.2)
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(n, *shape, dtype=torch.float64, generator=generator)
    logits = model(images).detach()
    labels = logits.argmax(dim=1)
    for step in range(1, classes):
        targets = (labels + step) % classes

        def gap(logits, labels, step=step):
            pairs = torch.stack([labels, (labels + step) % classes], dim=1)
            return logits.gather(1, pairs).diff(dim=1).squeeze(1)

        highest = torch.full((n,), -torch.inf, dtype=torch.float64)

        def note(_, point, losses, highest=highest):
            inside = ball.admits(images, point)
            highest[inside] = torch.maximum(highest, losses)[inside]

        attack(model, images, labels, ball, loss=gap, callback=note)
        # The ball lies inside [0, 1]: the gap grows by epsilon times the dual norm.
        lengths = torch.linalg.vector_norm(weight[targets] - weight[labels], DUAL[norm], dim=1)
        best = gap(logits, labels) + ball.epsilon * lengths
        torch.testing.assert_close(highest, best, rtol=0, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("norm", DUAL)
def test_a_linear_model_falls_exactly_where_theory_says(norm, classes):
    model, weight = linear(classes, 20, seed=classes)
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(60, 20, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        model[1].bias -= model(images).mean(dim=0)
        logits = model(images)
    labels = logits.argmax(dim=1)
    apart = torch.linalg.vector_norm(weight - weight[labels].unsqueeze(1), DUAL[norm], dim=2)
    radii = (logits.gather(1, labels.unsqueeze(1)) - logits) / apart  # 0 / 0 for the label
    radii = radii.nan_to_num(torch.inf).amin(dim=1)
    ordered = radii.sort().values
    ball = Ball(norm, (ordered[29] + ordered[30]).item() / 2)
    assert ordered[30] > 1.001 * ordered[29]
    falls = radii < ball.epsilon
    images_adv = multi_targeted(model, images, labels, ball, steps=60)
    assert torch.equal(wins(model, images_adv, labels), ~falls)


class Saturated(nn.Module):
    """Multiplies a network's logits, which leaves its decisions as they are."""

    def __init__(self, body, factor):
        super().__init__()
        self.body, self.factor = body.float(), factor
        self.eval()

    def forward(self, images):
        return self.factor * self.body(images)


@every_ball
def test_logits_times_a_thousand_stop_cross_entropy_alone(ball):
    model, images, labels = bent()
    images = images.float()
    plain, saturated = Saturated(model, 1), Saturated(model, 1000)
    rivals = saturated(images).scatter(1, labels.unsqueeze(1), -torch.inf)
    confident = cross_entropy(saturated(images), labels) == 0
    assert confident.sum() > 15
    assert (rivals.amax(dim=1) < saturated(images).amax(dim=1)).all()
    images, labels = images[confident], labels[confident]

    def standing(attack, loss):
        return int(wins(plain, attack(saturated, images, labels, ball, loss=loss), labels).sum())

    for attack in (partial(pgd, random_start=False), partial(apgd, steps=40)):
        assert standing(attack, margin_loss) < 0.8 * len(labels)
        assert standing(attack, dlr) < 0.8 * len(labels)
    # From the clean images, whose gradient is zero, PGD does not move.
    stuck = pgd(saturated, images, labels, ball, random_start=False)
    assert torch.equal(stuck, images)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (apgd, {"steps": 0}, "steps: expected at least 1"),
        (apgd, {"restarts": 0}, "restarts: expected at least 1"),
        (apgd, {"indices": [1, 2]}, "indices: expected 30"),
        (multi_targeted, {"targets": 0}, "targets: expected at least 1"),
        (multi_targeted, {"targets": 3, "candidates": 2}, "at least as many as targets, 3, rec"),
    ],
)
def test_impossible_settings_are_refused(attack, options, message):
    model, images, labels = bent()
    with pytest.raises(ValueError, match=message):
        attack(model, images, labels, BALLS["linf"], **options)
