"""Votes, their bounds, and whether the bounds keep what they promise."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from torch import nn

from within_epsilon.models import digits_classifier
from within_epsilon.verification import (
    certify_smoothed,
    clopper_pearson_lower,
    count_votes,
    radius_of,
)


class Half(nn.Module):
    """Two classes, by the sign of the mean less a half."""

    def forward(self, images):
        score = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([score, -score], dim=1)


@pytest.mark.parametrize("n", [1, 10, 1000, 100_000])
def test_the_bound_is_the_one_sided_exact_one(n):
    for successes in {0, 1, n // 2, n - 1, n}:
        for alpha in (0.001, 0.05, 0.5):
            test = binomtest(successes, n, alternative="greater")
            theirs = test.proportion_ci(1 - alpha).low
            assert clopper_pearson_lower(successes, n, alpha) == pytest.approx(theirs, rel=1e-9)


def test_unanimous_votes_certify_no_infinite_radius():
    assert clopper_pearson_lower(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert radius_of(clopper_pearson_lower(1000, 1000, 0.001), 0.25) == pytest.approx(
        0.616, abs=1e-3
    )
    most = clopper_pearson_lower(100_000, 100_000, 0.001)
    assert radius_of(most, 0.25) == pytest.approx(0.953, abs=1e-3)
    with pytest.raises(ValueError, match="no bound"):
        radius_of(1.0, 0.25)


def test_the_bound_is_above_the_probability_as_rarely_as_it_says():
    generator = np.random.default_rng(0)
    for n, probability, alpha in ((100, 0.6, 0.05), (100, 0.97, 0.05), (1000, 0.8, 0.01)):
        bounds = np.array([clopper_pearson_lower(k, n, alpha) for k in range(n + 1)])
        # Exactly, by summing over all outcomes, and in a simulation.
        chance = binom.pmf(np.arange(n + 1), n, probability)[bounds > probability].sum()
        assert chance <= alpha
        assert chance > alpha / 3
        drawn = bounds[generator.binomial(n, probability, size=20_000)]
        assert (drawn > probability).mean() <= alpha + 3 * math.sqrt(alpha / 20_000)


def test_certified_radii_hold_at_their_confidence():
    # Smoothing leaves a linear classifier as it is, so its radius is known.
    alpha, runs, model = 0.1, 600, Half()
    image = torch.full((1, 1, 2, 2), 0.55)
    truth = 0.05 * 2  # the mean's gradient has length 1/2
    found = certify_smoothed(
        model, image.expand(runs, 1, 2, 2), 0.25, n=100, n_selection=10, alpha=alpha
    )
    radii = torch.tensor([one.radius for one in found])
    assert len({one.votes for one in found}) > 5  # every image has noise of its own
    wrong = sum(one.radius > (truth if one.category == 0 else 0.0) for one in found)
    assert wrong <= alpha * runs + 3 * math.sqrt(alpha * runs)
    assert (radii > 0).any()


def test_abstentions_are_answers_and_stay_in_the_list():
    images = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 0.9)])
    found = certify_smoothed(Half(), images, 0.25, n=200, n_selection=20)
    assert [one.abstained for one in found] == [True, False]
    assert (found[0].category, found[0].radius) == (-1, 0.0)
    assert found[1].category == 0
    assert 0 < found[1].radius < 0.8


def test_votes_depend_on_the_seed_and_memory_on_the_batch():
    model, image = (
        digits_classifier(),
        torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    seen = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))

    def votes(batch):
        generator = torch.Generator().manual_seed(1)
        return count_votes(model, image, 0.25, 1000, batch=batch, generator=generator)

    assert votes(64).sum() == 1000
    assert max(seen) == 64
    assert torch.equal(votes(64), votes(64))
    # Other batches draw other numbers, of the same kind.
    assert (votes(1000) - votes(64)).abs().max() < 150


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 3, 7), (1, 8, 8)])
def test_votes_are_those_of_the_plain_loop(shape):
    torch.manual_seed(0)
    model, image = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)), torch.rand(shape)
    own, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    counted = count_votes(model, image, 0.3, 1000, batch=300, generator=own)
    plain = torch.zeros(3, dtype=torch.int64)
    for size in (300, 300, 300, 100):
        noise = torch.randn(size, *shape, generator=theirs)
        plain += torch.bincount(model(0.3 * noise + image).argmax(dim=1), minlength=3)
    assert torch.equal(counted, plain)


def test_infinite_logits_are_answers():
    class Sure(nn.Module):
        def forward(self, images):
            column = torch.full((len(images),), torch.inf)
            column[::2] = -torch.inf  # the sum of the largest logits is NaN, none of them is
            return torch.stack([column, column], dim=1)

    generator = torch.Generator().manual_seed(0)
    assert count_votes(Sure(), torch.rand(1, 2, 2), 0.25, 10, generator=generator).sum() == 10


@pytest.mark.parametrize(
    "settings", [{"sigma": 0.0}, {"n": 0}, {"alpha": 0.0}, {"alpha": 1.0}, {"batch": 0}]
)
def test_impossible_settings_are_refused(settings):
    chosen = {"sigma": 0.25, "n": 10, **settings}
    with pytest.raises(ValueError, match="expected"):
        certify_smoothed(Half(), torch.rand(1, 1, 2, 2), **chosen)


def test_a_network_without_an_answer_is_an_error():
    class Nothing(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 2), torch.nan)

    with pytest.raises(ValueError, match="NaN"):
        certify_smoothed(Nothing(), torch.rand(1, 1, 2, 2), 0.25, n=10)
