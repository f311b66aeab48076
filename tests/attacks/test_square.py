"""Square Attack: what it asks, when it stops, how it searches."""

import math

import pytest
import torch
from torch import nn

from within_epsilon.attacks import pgd, square
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALLS = {"linf": Ball("linf", 0.1), "l2": Ball("l2", 0.6), "l1": Ball("l1", 2.5)}
every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)


@pytest.fixture(scope="module")
def some_digits():
    """Return the digits network with the first fifty test digits that it knows."""
    model, test = digits_classifier(), digits().test
    with torch.no_grad():
        right = model(test.images).argmax(dim=1) == test.labels
    return model, test.images[right][:50], test.labels[right][:50]


class Steps(nn.Module):
    """A model without gradient: its logits are rounded sums, computed in NumPy."""

    def forward(self, images):
        sums = images.detach().flatten(1).numpy().sum(axis=1)
        scores = torch.from_numpy(sums).round(decimals=1)
        return torch.stack([scores, torch.full_like(scores, 6)], dim=1)


@every_ball
def test_no_gradient_is_needed(ball):
    images = torch.full((3, 1, 4, 4), 0.4)
    with torch.no_grad():
        # The sum is 6.4; below 6 class 1 takes over.
        images_adv = square(Steps().eval(), images, torch.zeros(3).long(), ball, queries=400)
    assert (Steps()(images_adv).argmax(dim=1) == 1).all()


@every_ball
def test_only_examples_that_stand_are_asked_about_and_only_so_often(some_digits, ball):
    model, images, labels = some_digits
    asked, points = [], []
    hook = model.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    square(model, images, labels, ball, queries=60, callback=lambda *point: points.append(point))
    hook.remove()
    assert len(asked) == len(points) <= 60
    fallen = [int((model(x).argmax(dim=1) != labels).sum()) for _, x, _ in points]
    assert asked == [50, *(50 - n for n in fallen[:-1])]
    assert [count for count, *_ in points] == list(range(len(points)))


@every_ball
def test_what_fools_the_model_is_kept_whatever_its_loss(some_digits, ball):
    model, images, labels = some_digits
    asked = []
    hook = model.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    # No change raises this loss: every point proposed is one square away from the start.
    images_adv = square(
        model, images, labels, ball, queries=200, loss=lambda logits, _: 0 * logits[:, 0]
    )
    hook.remove()
    fooled = int((model(images_adv).argmax(dim=1) != labels).sum())
    assert asked[1] > asked[-1]
    assert fooled >= 50 - asked[-1]


@every_ball
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", [margin_loss, cross_entropy])
def test_the_loss_never_falls_and_is_that_of_the_point(some_digits, ball, targeted, loss):
    model, images, labels = some_digits
    images, labels = images[:20], (labels[:20] + targeted) % 10
    points = []
    options = {"queries": 40, "targeted": targeted, "loss": loss}
    images_adv = square(
        model, images, labels, ball, **options, callback=lambda *point: points.append(point[1:])
    )
    best = None
    for point, losses in points:
        assert ball.admits(images, point).all()
        logits = model(point).detach()
        torch.testing.assert_close(losses, loss(logits, labels), rtol=1e-4, atol=1e-5)
        fooled = (logits.argmax(dim=1) == labels) == targeted
        if best is not None:
            worse = losses <= best if targeted else losses >= best
            assert (worse | fooled).all()
        best = losses
    assert torch.equal(images_adv, points[-1][0])


@pytest.mark.parametrize(("norm", "slack"), [("linf", 0.03), ("l2", 0.2), ("l1", 0.15)])
def test_scores_alone_find_what_gradients_find(some_digits, norm, slack):
    model, images, labels = some_digits
    ball = BALLS[norm]
    left = [
        (model(attack).argmax(dim=1) == labels).float().mean()
        for attack in (
            square(model, images, labels, ball, queries=1000),
            pgd(model, images, labels, ball, steps=50),
        )
    ]
    assert left[0] <= left[1] + slack


def test_a_linear_model_is_fooled_as_far_as_theory_allows():
    # With one channel and squares of one pixel at last, every corner of the box is in reach.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double().eval()
    images = 0.3 + 0.4 * torch.rand(5, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        model[1].bias += torch.tensor([9.0, 0])  # never fooled, so the search goes on
    weights = (model[1].weight[0] - model[1].weight[1]).detach()
    labels = torch.zeros(5).long()
    images_adv = square(model, images, labels, Ball("linf", 0.2), queries=1000)
    torch.testing.assert_close(
        (images_adv - images).flatten(1), -0.2 * weights.sign().expand(5, 16), rtol=0, atol=1e-12
    )


@every_ball
@pytest.mark.parametrize("shape", [(7,), (5, 9), (3, 1, 1), (2, 12, 3), (2, 3, 4, 5)])
def test_images_of_any_shape(ball, shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, *shape, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)).eval()
    labels = model(images).argmax(dim=1)
    images_adv = square(model, images, labels, ball, queries=200)
    assert images_adv.shape == images.shape
    assert ball.admits(images, images_adv).all()
    # A single pixel leaves the l2 and l1 searches no second place to move anything to.
    if ball.norm == "linf" or images[0].numel() > math.prod(shape[:-2]):
        before, after = (margin_loss(model(batch), labels).mean() for batch in (images, images_adv))
        assert after > before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries: expected at least 1"),
        ({"p_init": 0.0}, r"p_init: expected a share in \(0, 1\]"),
        ({"p_init": 1.5}, "p_init"),
        ({"indices": [1, 2]}, "indices: expected 20"),
    ],
)
def test_impossible_settings_are_refused(some_digits, options, message):
    model, images, labels = some_digits
    with pytest.raises(ValueError, match=message):
        square(model, images[:20], labels[:20], BALLS["linf"], **options)
