"""Numbers as sentences say them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from within_epsilon.wording import percent, radius, with_share


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.857, "86%"),
        (0.5, "50%"),
        (0.125, "13%"),
        (0.9925, "99.3%"),
        (0.99, "99%"),
        (0.994, "99.4%"),
        (0.9949, "99.5%"),
        (0.9994, "99.9%"),
        (0.9996, "100%"),
        (1.0, "100%"),
        (0.0, "0%"),
        (0.0004, "0%"),
        (0.004, "0.4%"),
        (0.01, "1%"),
        (0.014, "1%"),
    ],
)
def test_percent(share, words):
    assert percent(share) == words


def test_a_class_stands_before_its_probability():
    assert with_share("Egyptian cat", 0.857) == "Egyptian cat 86%"
    assert with_share("type 2", 0.9994) == "type 2 99.9%"
    assert with_share("9", 0.9994) == "9 (99.9%)"


@given(st.integers(min_value=0), st.floats(0, 1))
def test_a_numbered_class_is_never_side_by_side_with_another_number(index, share):
    said = with_share(str(index), share)
    assert not re.search(r"\d\s+[\d.]", said)
    assert re.findall(r"[\d.]+%?", said) == [str(index), percent(share)]


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (8 / 255, "8/255"),
        (0.25 / 255, "0.25/255"),
        (1 / 16 / 255, "0.0625/255"),
        (64 / 255, "64/255"),
        (0.1, "0.1"),
        (0.2, "0.2"),
        (0.05, "0.05"),
        (1e-3, "0.001"),
        (2.0, "2"),
        (0, "0"),
        (1 / 3, "85/255"),
        (0.123456789, "0.123457"),
    ],
)
def test_radius(epsilon, words):
    assert radius(epsilon) == words
