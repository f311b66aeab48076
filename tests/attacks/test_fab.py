"""FAB: where its runs begin, end and stop early; beside attacks of the same task."""

from functools import partial

import pytest
import torch

from within_epsilon.attacks import autoattack, count_evaluations, fab, fmn, settings, stages_of
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball


@pytest.fixture(scope="module")
def some_digits():
    """Return the digits network and 20 digits that it gets right."""
    model, test = digits_classifier(), digits().test
    with torch.no_grad():
        right = model(test.images).argmax(dim=1) == test.labels
    return model, test.images[right][:20], test.labels[right][:20]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_comes_as_close_as_fmn(some_digits, norm):
    model, images, labels = some_digits
    theirs = fmn(model, images, labels, norm=norm).distances
    for nearest in (False, True):
        ours = fab(model, images, labels, norm=norm, nearest=nearest, steps=40).distances
        assert ours.isfinite().all()
        assert (ours / theirs).median() < 1.01
    each = fab(model, images, labels, norm=norm, steps=20)
    first = fab(model, images, labels, norm=norm, steps=20, targets=1)
    assert (each.distances <= first.distances).all()  # more classes, none of them lost
    assert (each.distances < 0.99 * first.distances).any()


def test_what_is_near_enough_costs_nothing_more(some_digits):
    model, images, labels = some_digits
    with count_evaluations(model) as whole:
        full = fab(model, images, labels, norm="linf", steps=20)
    reach = full.distances.median().item()
    with count_evaluations(model) as spent:
        short = fab(model, images, labels, norm="linf", steps=20, near_enough=reach)
    assert whole.gradients == 20 * 9 * 20
    assert spent.gradients < 0.7 * whole.gradients
    # Whoever is too far at the end has been followed to the end.
    assert torch.equal(short.distances <= reach, full.distances <= reach)
    far = full.distances > reach
    assert torch.equal(short.distances[far], full.distances[far])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_restarts_begin_at_half_the_radius_or_half_of_what_was_found(some_digits, norm):
    model, images, labels = some_digits
    options = {"norm": norm, "steps": 4, "targets": 1}
    found, seen, starts = [], [], {}
    watch = lambda step, points, distances: found.append(distances)  # noqa: E731
    fab(model, images, labels, **options, callback=watch)
    radius = found[-1].quantile(0.3).item()
    handle = model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for seed in (0, 1):
        seen.clear()
        fab(model, images, labels, **options, restarts=2, epsilon=radius, seed=seed)
        # Two passes to begin with and two for each step; next is the second run's start.
        starts[seed] = seen[2 + 2 * 4]
    handle.remove()
    assert not torch.equal(starts[0], starts[1])
    lengths = Ball(norm, 1.0).length(starts[0] - images)
    wanted = found[-1].clamp(max=radius) / 2
    assert (lengths <= wanted * (1 + 1e-6)).all()
    assert (lengths > 0.4 * wanted).all()  # black and white pixels have lost a part


def test_impossible_settings_are_refused(some_digits):
    for name, value in (("steps", 0), ("targets", 0), ("restarts", 0), ("epsilon", 0.0)):
        with pytest.raises(ValueError, match=name):
            fab(*some_digits, **{name: value})
    with pytest.raises(ValueError, match="near_enough"):
        fab(*some_digits, near_enough=-0.1)
    with pytest.raises(ValueError, match="norm: expected linf or l2 or l1, received 'l0'"):
        fab(*some_digits, norm="l0")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_is_the_third_attack_of_the_standard_version(some_digits, norm):
    model, images, labels = some_digits
    found = fab(model, images, labels, norm=norm, steps=20)
    ball = Ball(norm, 1.001 * found.distances.median().item())
    attack = stages_of(partial(autoattack, version="standard", steps=20), ball)[2]
    assert settings(attack)["near_enough"] == ball.epsilon
    images_adv = attack(model, images, labels, ball)
    assert ball.admits(images, images_adv).all()
    fooled = model(images_adv).argmax(dim=1) != labels
    assert fooled[found.distances <= ball.epsilon].all()
    assert torch.equal(images_adv[fooled], attack.search(model, images, labels, norm)[0][fooled])
