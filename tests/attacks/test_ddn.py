"""DDN: on models whose nearest border is known."""

import pytest
import torch
from torch import nn

from within_epsilon.attacks import ddn, fmn
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier


@pytest.mark.parametrize("gamma", [0.05, 0.01])
def test_on_a_linear_model_the_sphere_is_as_exact_as_gamma(gamma):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 2)).double().eval()
    images = 0.4 + 0.2 * torch.rand(20, 2, 3, 3, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
        model[1].bias -= model(images).mean(dim=0)
        logits = model(images)
    labels = logits.argmax(dim=1)
    slope = (model[1].weight[0] - model[1].weight[1]).norm().detach()
    least = (logits[:, 0] - logits[:, 1]).abs() / slope
    inside = least > 1e-3
    distances = ddn(model, images, labels, steps=600, gamma=gamma, epsilon=0.1).distances
    assert (distances >= least * (1 - 1e-9)).all()
    assert (distances[inside] <= least[inside] * (1 + 2 * gamma)).all()
    assert inside.sum() > 15


def test_it_comes_as_close_as_fmn():
    model, test = digits_classifier(), digits().test
    images, labels = test.images[:60], test.labels[:60]
    ours, theirs = ddn(model, images, labels), fmn(model, images, labels, norm="l2")
    assert ours.distances.isfinite().all()
    assert ours.distances.median() < 1.03 * theirs.distances.median()


def test_impossible_settings_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    arguments = model, torch.rand(3, 1, 2, 2), torch.zeros(3).long()
    for name, value in (("steps", 0), ("gamma", 1.0), ("epsilon", 0.0)):
        with pytest.raises(ValueError, match=name):
            ddn(*arguments, **{name: value})
