"""Jumps are told from slopes, however steep, by halving the gap in which they lie."""

import pytest
import torch

from within_epsilon.evaluation.diagnosis.jumps import jumps

START, END = torch.zeros(6, 1, 2, 2), torch.full((6, 1, 2, 2), 0.1)
ONES = torch.ones(6)


def look(function, start=START, end=END, scale=ONES):
    """Give a function of the mean pixel's share of the way to the search."""
    return jumps(lambda x: function(10 * x.flatten(1).mean(dim=1)), start, end, scale)


@pytest.mark.parametrize("size", [0.01, 1.0, -3.0])
def test_a_jump_is_found_with_its_size_on_a_slope(size):
    largest = max(1.0, abs(2 * 0.4321 + size), abs(2 + size))
    found = look(lambda t: 2 * t + size * (t > 0.4321))
    torch.testing.assert_close(
        found, torch.full((6,), abs(size) / largest).double(), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda t: 0 * t,
        lambda t: 50 * t,
        lambda t: (20 * t).sin(),
        lambda t: (t - 0.37).abs(),
        lambda t: (60 * (t - 0.5)).tanh(),
        lambda t: 1e-3 * (t - 0.41).abs().sqrt(),
        lambda t: 1e30 * t,
    ],
)
def test_a_slope_is_no_jump(function):
    assert (look(function) == 0).all()


def test_each_example_has_its_own():
    sizes = torch.tensor([0.0, 0.1, 0.0, 0.2, 0.5, 0.0])
    found = look(lambda t: t + sizes * (t > 0.7)) > 0
    assert found.tolist() == [False, True, False, True, True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_stairs_of_half_precision_are_none(dtype):
    start, end = START.to(dtype), END.to(dtype)
    assert (look(lambda t: 3 * t, start, end) == 0).all()


def test_what_is_not_a_number_is_no_jump():
    assert (look(lambda t: t / 0 * 0) == 0).all()
    assert (look(lambda t: t > 0.5, scale=0 * ONES) > 0).all()
