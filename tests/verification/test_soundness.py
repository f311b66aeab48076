"""No input that the threat model allows has a smaller margin than a bound says."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import KINDS, random_network

from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball
from within_epsilon.verification import Box, certify, crown, ibp
from within_epsilon.verification.falsify import falsify
from within_epsilon.verification.objective import objective_rows

RADIUS = {"linf": 1.0, "l2": 2.0, "l1": 4.0}
BOUNDS = {
    "ibp": ibp,
    "crown": crown,
    "published": partial(crown, meet=False),
    "zero": partial(crown, lower_slope="zero"),
    "same": partial(crown, lower_slope="same", intermediate="interval"),
    "optimised": partial(crown, steps=3),
}


def margins(model, points, labels):
    logits = model(points).double()
    return torch.einsum("nsk,nk->ns", objective_rows(labels, *logits.shape), logits)


def least_margins_found(model, images, labels, ball):
    """Return the least margins at random points, corners and an attack's ends, (N, k - 1)."""
    n, copies = len(images), 64
    clean, own = images.repeat(copies, 1, 1, 1), labels.repeat(copies)
    generators = example_generators(range(n * copies), 0)
    points = [clean]
    for boundary in (False, True):
        delta = ball.random(clean, generators, boundary=boundary)
        points.append(ball.perturb(clean, delta))
    found = [margins(model, p, own).view(copies, n, -1).amin(dim=0) for p in points]
    for s in range(found[0].shape[1]):
        rows = objective_rows(labels, n, found[0].shape[1] + 1)[:, s : s + 1]
        worst = falsify(model, images, ball, rows, steps=10)
        assert ball.admits(images, worst.points).all()
        found[0][:, s] = torch.minimum(found[0][:, s], worst.values)
        # Batches of one and of all need not agree to the last bit.
        found.append(margins(model, worst.points, labels))
    return torch.stack(found).amin(dim=0)


def check(kind, seed, norm, share):
    model, shape = random_network(kind, seed)
    images = torch.rand(2, *shape)
    images = torch.where(torch.rand_like(images) < 0.3, images.round(), images)
    ball = Ball(norm, share * RADIUS[norm] * 0.3)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    found = least_margins_found(model, images, labels, ball)
    for name, bound in BOUNDS.items():
        lower = bound(model, images, labels, ball).lower
        assert (lower <= found).all(), (name, (lower - found).max())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.sampled_from(["linf", "l2", "l1"]),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 0.3, 1.0]),
)
def test_no_input_beats_a_bound(kind, seed, norm, share):
    check(kind, seed, norm, share)


@pytest.mark.slow
@settings(deadline=None, max_examples=10_000)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**9),
    st.sampled_from(["linf", "l2", "l1"]),
    st.floats(0, 1, width=32),
)
def test_no_input_beats_a_bound_in_ten_thousand_networks(kind, seed, norm, share):
    check(kind, seed, norm, share)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_nest(kind):
    for seed in range(5):
        model, shape = random_network(kind, seed, torch.float64)
        images = torch.rand(4, *shape, dtype=torch.float64)
        labels, ball = model(images).argmax(dim=1), Ball("linf", 0.05)
        chain = [
            ibp(model, images, labels, ball).lower,
            crown(model, images, labels, ball).lower,
            crown(model, images, labels, ball, steps=10).lower,
            falsify(model, images, ball, objective_rows(labels, 4, 3)).values.unsqueeze(1),
        ]
        assert (chain[0] <= chain[1]).all()
        assert (chain[1] <= chain[2] + 1e-12).all()
        assert (chain[2].amin(dim=1, keepdim=True) <= chain[3]).all()


def test_a_point_has_its_own_margins():
    # With nothing to allow, a bound is the value itself: sound, and no more careful than it says.
    for kind in KINDS:
        model, shape = random_network(kind, 1)
        images = torch.rand(3, *shape)
        labels = torch.tensor([0, 1, 2])
        exact = margins(model.double(), images.double(), labels)
        model.float()
        lower = crown(model, images, labels, Ball("linf", 0.0)).lower
        assert (lower < exact).all()
        assert (exact - lower).max() < 1e-3
        real = crown(model, images, labels, Ball("linf", 0.0), arithmetic="real").lower
        assert (exact - real).abs().max() < 1e-10


def test_float32_beats_the_bounds_of_real_arithmetic_and_not_those_of_its_own():
    # ReLUs are always on here: the network is linear, its bound in real numbers attained.
    torch.manual_seed(0)
    broken = 0
    for seed in range(20):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 50), torch.nn.ReLU(), torch.nn.Linear(50, 2)
        ).eval()
        torch.nn.init.constant_(model[1].bias, 5.0)
        lower, upper = torch.zeros(1, 64), torch.full((1, 64), 0.25)
        box, label = Box(lower, upper), torch.tensor([0])
        with torch.no_grad():
            slopes = (model[3].weight[0] - model[3].weight[1]) @ model[1].weight
            corner = torch.where(slopes > 0, lower, upper)
            value = margins(model, corner, label).item()
        broken += value < crown(model, box, label, arithmetic="real").lower.item()
        assert value >= crown(model, box, label).lower.item()
    assert broken >= 5


def test_certificates_say_what_is_proved_refuted_and_unknown():
    model, shape = random_network("mlp", 3)
    torch.manual_seed(0)
    images = torch.rand(40, *shape)
    labels = model(images).argmax(dim=1)
    seen = set()
    for epsilon in (0.001, 0.05, 0.2):
        ball = Ball("linf", epsilon)
        for i, found in enumerate(certify(model, images, labels, ball)):
            seen.add(found.status)
            assert found.lower <= found.upper
            assert found.arithmetic == "float32"
            assert (found.status == "proved") == (found.lower > 0)
            if found.status == "refuted":
                point = found.counterexample.unsqueeze(0)
                assert ball.admits(images[i : i + 1], point).all()
                assert model(point).argmax().item() != labels[i]
            else:
                assert found.counterexample is None
    assert seen == {"proved", "refuted", "unknown"}
    wrong = certify(model, images[:1], (labels[:1] + 1) % 3, Ball("linf", 0.0))
    assert wrong[0].status == "refuted"
    (real,) = certify(model, images[:1], labels[:1], Ball("linf", 0.0), arithmetic="real")
    assert (real.status, real.arithmetic) == ("proved", "real")
