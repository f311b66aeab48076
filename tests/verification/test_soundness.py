"""No input that the threat model allows has a smaller margin than a bound says."""

from functools import partial
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import KINDS, random_network

from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball
from within_epsilon.verification import Box, branch_and_bound, certify, crown, ibp
from within_epsilon.verification.falsify import falsify, reach_of
from within_epsilon.verification.objective import objective_rows

RADIUS = {"linf": 0.3, "l2": 0.6, "l1": 1.2, "box": 0.3}
SHARES = [0.0, 1e-6, 1e-3, 0.1, 0.3, 1.0]
BOUNDS = {
    "ibp": ibp,
    "crown": crown,
    "published": partial(crown, meet=False),
    "zero": partial(crown, lower_slope="zero"),
    "same": partial(crown, lower_slope="same", intermediate="interval"),
    "optimised": partial(crown, steps=3),
}
COPIES, BATCH = 64, 64
# The long run: 2,000 networks, each with 5 points and their regions, 10,000 in all.
PARTS, NETWORKS, POINTS = 20, 100, 5


def margins(model, points, labels):
    logits = model(points).double()
    return torch.einsum("nsk,nk->ns", objective_rows(labels, *logits.shape), logits)


def in_batches(model, points, labels, batch):
    pairs = zip(points.split(batch), labels.split(batch), strict=True)
    return torch.cat([margins(model, *pair) for pair in pairs])


def least_margins(model, points, labels):
    """Return margins (P, k - 1), the least of all ways to run the network: batches, threads."""
    copies = -(-BATCH // len(points))
    seen, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seen.append(in_batches(model, points, labels, 1))
        many = in_batches(model, points.repeat(copies, 1, 1, 1), labels.repeat(copies), BATCH)
        seen.extend(many.view(copies, len(points), -1))
    torch.set_num_threads(before)
    return torch.stack(seen).amin(dim=0)


def random_points(images, ball, copies):
    """Return allowed points, (3 copies N, ...): the middle, random ones, and the region's edge."""
    every = torch.arange(len(images.lower if ball is None else images)).repeat(copies)
    reach = reach_of(images, ball, torch.float32, every)
    middle = reach.clip(reach.centre)
    if ball is None:
        corners = torch.where(torch.rand_like(middle) < 0.5, reach.lower, reach.upper)
        return torch.cat([middle, reach.random(torch.Generator().manual_seed(0)), corners])
    generators = example_generators(range(len(every)), 0)
    drawn = [ball.random(middle, generators, boundary=edge) for edge in (False, True)]
    return torch.cat([middle, *(ball.perturb(middle, delta) for delta in drawn)])


@torch.no_grad()
def least_margins_found(model, images, labels, ball):
    """Return the least margins at random points, corners and an attack's ends, (N, k - 1)."""
    n = len(labels)
    points = random_points(images, ball, COPIES)
    seen = in_batches(model, points, labels.repeat(3 * COPIES), BATCH)
    found, worst = seen.view(3 * COPIES, n, -1).min(dim=0)
    ends = [points[at * n + torch.arange(n)] for at in worst.T]
    for s in range(found.shape[1]):
        rows = objective_rows(labels, n, found.shape[1] + 1)[:, s : s + 1]
        with torch.enable_grad():
            ends.append(falsify(model, images, ball, rows, steps=10).points)
    reach = reach_of(images, ball, torch.float32, slice(None))
    assert all(reach.admits(end).all() for end in ends)
    # Batches of one and of many need not agree to the last bit, nor one thread and two.
    again = least_margins(model, torch.cat(ends), labels.repeat(len(ends)))
    return torch.minimum(found, again.view(len(ends), n, -1).amin(dim=0))


def random_case(kind, seed, norm, share, n):
    """Return a network, n points or boxes, their labels, and the ball around them."""
    model, shape = random_network(kind, seed)
    images = torch.rand(n, *shape)
    images = torch.where(torch.rand_like(images) < 0.3, images.round(), images)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    if norm != "box":
        return model, images, labels, Ball(norm, share * RADIUS[norm])
    # Wider on one side than on the other, here and there a point, and not of pixels alone.
    down, up = (share * RADIUS[norm] * (torch.rand_like(images) - 0.2).clamp(min=0) for _ in "du")
    images = 2 * images - 0.5
    return model, Box(images - down, images + up), labels, None


def check(kind, seed, norm, share, n=2):
    model, images, labels, ball = random_case(kind, seed, norm, share, n)
    found = least_margins_found(model, images, labels, ball)
    for name, bound in BOUNDS.items():
        lower = bound(model, images, labels, ball).lower
        assert (lower <= found).all(), (name, (lower - found).max())
    split = "relus" if seed % 2 else None
    options = {"split": split, "gap": 0.01 if seed % 3 else None, "time_limit": 0.05}
    makers = {
        "certify": partial(certify, attack_steps=5),
        "branch_and_bound": partial(branch_and_bound, **options),
    }
    for name, maker in makers.items():
        for i, one in enumerate(maker(model, images, labels, ball)):
            assert one.lower <= min(one.upper, found[i].min().item()), (name, i)
            assert (one.status == "proved") == (one.lower > 0), (name, i)
            if one.status == "refuted":
                point, row = one.counterexample.unsqueeze(0), slice(i, i + 1)
                assert reach_of(images, ball, torch.float32, row).admits(point).all(), (name, i)
                assert margins(model, point, labels[row]).min() < 0, (name, i)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.sampled_from([*RADIUS]),
    st.sampled_from(SHARES),
)
def test_no_input_beats_a_bound(kind, seed, norm, share):
    check(kind, seed, norm, share)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_input_beats_a_bound_in_thousands_of_networks(part):
    draw = Random(part)
    for _ in range(NETWORKS):
        share = draw.choice([*SHARES, draw.random()])
        case = draw.choice(KINDS), draw.randrange(10**9), draw.choice([*RADIUS]), share
        try:
            check(*case, n=POINTS)
        except Exception as error:
            error.add_note(f"part {part}: check{case}, n = {POINTS}")
            raise


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
        # (Sums over matrices of another size are rounded otherwise.)
        assert (chain[0] <= chain[1] + 1e-12).all()
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
