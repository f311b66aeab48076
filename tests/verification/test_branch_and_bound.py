"""Cases against enumeration and exact programs; what is known when the time is over."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from enumeration import least_value
from random_networks import KINDS, random_network
from test_exact import tiny
from torch import nn

from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball
from within_epsilon.verification import Box, branch_and_bound, crown, exact
from within_epsilon.verification.domain import Domain, domain_of
from within_epsilon.verification.falsify import reach_of
from within_epsilon.verification.input_splitting import ByInput
from within_epsilon.verification.leaves import bound
from within_epsilon.verification.network import read_network
from within_epsilon.verification.passes import Bounds


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "settings", [{"refine": True}, {"refine": False}, {"split": "inputs"}], ids=str
)
def test_cases_agree_with_enumeration(seed, settings):
    model, box, label = tiny(seed)
    truth = least_value(model, box.lower, box.upper, np.array([1.0, -1.0]) * (1 - 2 * label.item()))
    settings = {"split": "relus", "arithmetic": "real", **settings}
    # Where the margin is flat, halving takes long to come close.
    gap = 0.1 if settings["split"] == "inputs" else 1e-6
    (whole,) = branch_and_bound(model, box, label, gap=gap, **settings)
    assert truth - 2 * gap <= whole.lower <= truth + 1e-9
    assert truth - 1e-9 <= whole.upper <= truth + 2 * gap
    assert whole.upper - whole.lower <= gap
    (sign,) = branch_and_bound(model, box, label, **settings)
    assert sign.status == ("proved" if truth > 0 else "refuted")
    assert sign.lower <= truth + 1e-9
    assert sign.upper >= truth - 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_layer_can_be_split_and_agrees_with_exact_programs(kind, norm):
    model, shape = random_network(kind, 7)
    images, ball = torch.rand(1, *shape), Ball(norm, 0.07 if norm == "linf" else 0.2)
    labels = model(images).argmax(dim=1)
    (one,) = branch_and_bound(model, images, labels, ball, gap=0.01, time_limit=3)
    low = crown(model, images, labels, ball).lower.min().item()
    assert low <= one.lower + 1e-9
    assert one.lower <= one.upper
    assert one.arithmetic == "float32"
    if norm == "linf":
        (other,) = exact(model, images, labels, ball)
        # However far either has come, both brackets hold the truth.
        assert max(one.lower, other.lower) <= min(one.upper, other.upper) + 1e-5


def test_a_prefix_of_the_search_holds_and_the_bracket_only_closes():
    model, box, label = tiny(1)
    truth = least_value(model, box.lower, box.upper, np.array([1.0, -1.0]) * (1 - 2 * label.item()))
    seen = []
    branch_and_bound(
        model, box, label, gap=1e-6, split="relus", batch=1, steps=3, arithmetic="real",
        callback=lambda i, progress: seen.append(progress),
    )  # fmt: skip
    assert len(seen) > 5
    for before, after in pairwise(seen):
        assert before.lower <= after.lower + 1e-12
        assert before.upper >= after.upper
        assert before.seconds <= after.seconds
    assert all(p.lower <= truth + 1e-9 <= p.upper + 2e-9 for p in seen)
    assert seen[-1].open == 0


def test_no_time_leaves_what_linear_bounds_know():
    model = digits_classifier()
    torch.manual_seed(0)
    images = torch.rand(1, 1, 8, 8)
    labels, ball = model(images).argmax(dim=1), Ball("linf", 0.02)
    (found,) = branch_and_bound(model, images, labels, ball, gap=0.0, time_limit=0.0)
    low = crown(model, images, labels, ball).lower.min().item()
    assert found.lower == pytest.approx(low, abs=1e-6)
    assert found.lower < found.upper


def test_a_case_without_any_input_is_closed():
    # One ReLU is on above 0.5, the other above 0.6: the first off and the second on is no case.
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[0].bias.copy_(torch.tensor([-0.5, -0.6]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.05, 0.0]))
    box = Box(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    (found,) = branch_and_bound(
        model, box, torch.tensor([0]), split="relus", gap=1e-9, arithmetic="real"
    )
    assert found.lower == pytest.approx(0.05, abs=1e-6)
    assert (found.status, len(read_network(model, (1,)).taken)) == ("proved", 1)


def test_cases_hold_at_points_that_satisfy_them():
    from within_epsilon.verification import leaves as cases
    from within_epsilon.verification.domain import domain_of
    from within_epsilon.verification.passes import Bounds
    from within_epsilon.verification.rounding import Arithmetic
    from within_epsilon.verification.slopes import start_slopes
    from within_epsilon.verification.tightening import bound_all

    torch.manual_seed(3)
    for seed in range(4):
        model, box, _ = tiny(seed)
        network = read_network(model, (2,))
        bounds = Bounds(network, domain_of(box, None, exactly=True), Arithmetic(None))
        bound_all(bounds)
        rows = torch.randn(1, 2, dtype=torch.float64)
        start = start_slopes(bounds, len(network.nodes) - 1, 1)
        some = cases.root(bounds, rows, torch.full((1,), -torch.inf).double(), start)
        for _ in range(4):
            score = cases.scores(bounds, some)
            free = (score.amax(dim=1) > -torch.inf).nonzero()[:, 0]
            some = some.split(network.taken, score.argmax(dim=1)[free], free)
            bound(bounds, some, steps=3, refine=seed % 2 == 0, enough=torch.inf)
        values = network.forward(torch.rand(4000, 2, dtype=torch.float64) * 2 - 1)
        goal = values[-1] @ rows[0]
        covered = torch.zeros(4000, dtype=torch.bool)
        for m in range(len(some)):
            fits = torch.ones(4000, dtype=torch.bool)
            for node, signs in some.signs.items():
                fits &= (values[node] * signs[m] >= 0).all(dim=1)
            covered |= fits
            assert (goal[fits] >= some.lower[m]).all()
        # Cases without a ReLU in doubt are not split further, so not all need be there.
        assert covered.any()


@pytest.mark.parametrize("digit", [18, pytest.param(119, marks=pytest.mark.slow)])
def test_the_shipped_networks_hardest_digits_are_settled(digit):
    images, labels = (
        part[digit : digit + 1] for part in (digits().test.images, digits().test.labels)
    )
    seen = []
    (found,) = branch_and_bound(
        digits_classifier(), images, labels, Ball("linf", 0.05), time_limit=120,
        callback=lambda i, progress: seen.append(progress),
    )  # fmt: skip
    assert found.status == "proved"
    # By many cases and by good choices: with poor ones there are ten times as many.
    assert 100 < seen[-1].closed < 2000


def halving(model, box, rows):
    """Return a search that halves a box, whose whole is bounded."""
    whole = Bounds(
        read_network(model, box.lower.shape[1:]), domain_of(box, None, exactly=True), None
    )

    def reach(copies):
        return reach_of(box, None, torch.float32, torch.zeros(copies, dtype=torch.int64))

    return ByInput(model, whole, reach, rows, float("inf"), None)


@pytest.mark.parametrize(("halves", "cut"), [([-1.0, -0.99], 1), ([-0.5, -1.0], 0)])
def test_where_no_cut_gains_by_itself_the_widest_input_is_cut(monkeypatch, halves, cut):
    """Else parts are cut along one input for ever, where it takes cuts of two to gain."""
    box = Box(torch.zeros(1, 2), torch.tensor([[1.0, 4.0]]))
    search = halving(nn.Sequential(nn.Linear(2, 1)), box, torch.ones(1, 1, 1).double())
    lower, upper = torch.zeros(1, 2).double(), torch.tensor([[0.25, 2.0]]).double()
    bounds = search._bounds(lower, upper)
    bounded = iter(halves)

    def linear(parts):
        return torch.full((len(parts.domain),), next(bounded)).double(), None

    monkeypatch.setattr(search, "_linear", linear)
    # The first input has the larger slope, so it is tried first.
    steepest = torch.tensor([[100.0, 1.0]]).double()
    least, left = torch.tensor([-1.0]).double(), torch.tensor([0])
    assert search._by_trial(bounds, least, steepest, left).tolist() == [cut]


def test_steps_are_taken_down_from_the_middle_of_every_part():
    """A dip between corners and middles is found in the part where it is."""
    first, last = nn.Linear(1, 2), nn.Linear(2, 1)
    for parameter, value in zip(
        [*first.parameters(), *last.parameters()],
        [[[1.0], [-1.0]], [-0.65, 0.65], [[1.0, 1.0]], [-0.1]],
        strict=True,
    ):
        parameter.data = torch.tensor(value)
    model, box = nn.Sequential(first, nn.ReLU(), last), Box(torch.zeros(1, 1), torch.ones(1, 1))
    search = halving(model, box, torch.ones(1, 1, 1).double())
    search._descend(Domain(torch.tensor([[0.0], [0.5]]), torch.tensor([[0.5], [1.0]])))
    assert search.upper == pytest.approx(abs(search.worst.points.item() - 0.65) - 0.1, abs=1e-6)
    assert search.upper < 0
