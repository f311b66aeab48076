"""σ-zero: on models for which the fewest changes that suffice are known."""

import pytest
import torch
from torch import nn

from within_epsilon.attacks import sigma_zero
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier


def fewest(model, images, labels):
    """Return how many values must change, two classes being told apart by a linear model.

    The best are those that can raise the other class most, each going to 0 or 1.
    """
    weights = model[1].weight.detach()
    slopes = weights[1 - labels] - weights[labels]
    rows = images.flatten(1)
    gains = torch.where(slopes > 0, slopes * (1 - rows), -slopes * rows)
    gaps = model(images).detach()
    margins = (gaps[:, 0] - gaps[:, 1]).abs()
    sums = gains.sort(dim=1, descending=True).values.cumsum(dim=1)
    return (sums <= margins[:, None]).sum(dim=1) + 1


def test_on_a_linear_model_it_changes_hardly_more_values_than_it_must():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 2)).double().eval()
    images = torch.rand(40, 2, 5, 5, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    labels = model(images).argmax(dim=1)
    least = fewest(model, images, labels)
    assert 2 <= least.double().mean() <= 8
    found = sigma_zero(model, images, labels, steps=500)
    counts = (found.images_adv != images).flatten(1).sum(dim=1)
    assert torch.equal(found.distances, counts.double())
    assert (found.distances >= least).all()
    assert found.distances.mean() <= 1.1 * least.double().mean()


def test_more_steps_need_fewer_pixels_and_targets_more():
    model, test = digits_classifier(), digits().test
    with torch.no_grad():
        right = model(test.images).argmax(dim=1) == test.labels
    images, labels = test.images[right][:40], test.labels[right][:40]
    few, many = (sigma_zero(model, images, labels, steps=n).distances for n in (20, 300))
    assert many.isfinite().all()
    assert many.mean() < few.mean()
    assert many.mean() < 3  # of 64
    targets = (labels + 1) % 10
    there = sigma_zero(model, images, targets, steps=300, targeted=True)
    reached = there.distances.isfinite()
    assert reached.float().mean() > 0.9
    assert (model(there.images_adv).argmax(dim=1) == targets)[reached].all()
    assert there.distances[reached].mean() > 1.3 * many.mean()


def test_impossible_settings_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    arguments = model, torch.rand(3, 1, 2, 2), torch.zeros(3).long()
    for name in ("steps", "step_size", "sigma"):
        with pytest.raises(ValueError, match=name):
            sigma_zero(*arguments, **{name: 0})
