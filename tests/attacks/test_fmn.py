"""FMN's distances against attacks that are told how far they may go."""

import pytest
import torch

from within_epsilon.attacks import deepfool, fmn, pgd
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball


@pytest.fixture(scope="module")
def some_digits():
    """Return the digits network with test digits that it knows."""
    model, test = digits_classifier(), digits().test
    with torch.no_grad():
        right = model(test.images).argmax(dim=1) == test.labels
    return model, test.images[right][:120], test.labels[right][:120]


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5), ("l1", 1.2)])
def test_it_fools_within_epsilon_what_pgd_fools(some_digits, norm, epsilon):
    model, images, labels = some_digits
    distances = fmn(model, images, labels, norm=norm).distances
    assert distances.isfinite().all()
    images_adv = pgd(model, images, labels, Ball(norm, epsilon), steps=100)
    fooled = (model(images_adv).argmax(dim=1) != labels).float().mean()
    assert 0.2 < fooled < 0.8
    assert (distances <= epsilon).float().mean() >= fooled - 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_comes_closer_than_deepfool(some_digits, norm):
    model, images, labels = some_digits
    near = fmn(model, images, labels, norm=norm).distances
    far = deepfool(model, images, labels, norm=norm).distances
    assert near.median() < far.median() < 1.2 * near.median()
