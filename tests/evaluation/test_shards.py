"""The same outcome for the same example: whole, in parts, in any batches and order."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within_epsilon.attacks import noise_control, pgd, square
from within_epsilon.data import digits
from within_epsilon.evaluation import DoubtfulEvaluationWarning, merge, robust_accuracy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

N = 24
MODEL, TEST, BALL = digits_classifier().double(), digits().test, Ball("linf", 0.08)
IMAGES, LABELS = TEST.images[200 : 200 + N].double(), TEST.labels[200 : 200 + N].clone()
IMAGES[5] = torch.nan
LABELS[7] = (LABELS[7] + 1) % 10
STAGES = [noise_control, partial(pgd, steps=2, step_size=0.03), partial(square, queries=8)]


def run(indices, batch_size, **options):
    rows = torch.tensor(indices)
    data = IMAGES[rows], LABELS[rows]
    return robust_accuracy(
        MODEL, data, STAGES, BALL, batch_size=batch_size, indices=indices, diagnose=False, **options
    )


@pytest.fixture(scope="module")
def whole():
    with pytest.warns(DoubtfulEvaluationWarning, match="bad examples"):
        return run(range(N), N)


@pytest.mark.filterwarnings("ignore:bad examples")
@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(N)),
    cuts=st.lists(st.integers(1, N - 1), max_size=4, unique=True),
    batch_size=st.integers(1, N + 3),
)
def test_parts_in_any_order_and_batches_merge_to_the_whole(whole, order, cuts, batch_size):
    ends = [0, *sorted(cuts), N]
    parts = [order[a:b] for a, b in pairwise(ends)]
    merged = merge(run(part, batch_size) for part in parts)
    assert merged == whole
    assert merged.identity == whole.identity
    assert merged.stages[1].gradients == whole.stages[1].gradients


@pytest.mark.filterwarnings("ignore:bad examples")
def test_the_whole_is_worth_comparing(whole):
    assert {*whole.outcomes} >= {"+", "-", "!", "b"}


def test_positions_are_checked():
    for indices, message in (
        ([0, 0], "some twice"),
        ([0, -1], "below 0"),
        ([0], "received 1 for more"),
        ([0, 1, 2], "received 3 for fewer"),
    ):
        with pytest.raises(ValueError, match=f"indices: expected .*{message}"):
            robust_accuracy(MODEL, (IMAGES[:2], LABELS[:2]), pgd, BALL, indices=indices)


@pytest.mark.filterwarnings("ignore:bad examples")
def test_a_seed_is_given_to_every_attack_that_takes_one():
    reports = [run(range(N), 8, seed=seed) for seed in (None, 0, 1)]
    assert [stage.settings["seed"] for stage in reports[2].stages] == [1, 1, 1]
    assert reports[0].outcomes == reports[1].outcomes
    assert reports[1] != reports[2]


class Keeps(nn.Module):
    """A model that writes down something of every pass."""

    def __init__(self):
        super().__init__()
        self.network, self.last = digits_classifier(), 0.0

    def forward(self, images):
        self.last = images.mean().item()
        return self.network(images)


def test_a_model_that_keeps_something_of_a_pass_is_said_to_be_another(tmp_path):
    model, path = Keeps().eval(), tmp_path / "record.json"
    parts = [
        robust_accuracy(model, TEST[rows], noise_control, BALL, indices=rows, diagnose=False)
        for rows in (range(4), range(4, 8))
    ]
    with pytest.raises(ValueError, match=r"differ in model.*build it anew"):
        merge(parts)
    model = Keeps().eval()
    robust_accuracy(model, TEST[:4], noise_control, BALL, resume=path, diagnose=False)
    with pytest.raises(ValueError, match=r"of another model.*build it anew"):
        robust_accuracy(model, TEST[:4], noise_control, BALL, resume=path, diagnose=False)
    again = Keeps().eval()
    robust_accuracy(again, TEST[:4], noise_control, BALL, resume=path, diagnose=False)
