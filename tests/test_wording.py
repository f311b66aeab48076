"""Numbers as sentences say them."""

import json
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within_epsilon.widgets.base import FRONTEND
from within_epsilon.wording import lower_bound, percent, radius, softmaxed, tenths, with_share


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
        (0.9996, ">99.9%"),
        (1 - 2.0**-52, ">99.9%"),
        (1.0, "100%"),
        (0.0, "0%"),
        (0.0004, "<0.1%"),
        (1e-300, "<0.1%"),
        (0.004, "0.4%"),
        (0.01, "1%"),
        (0.014, "1%"),
    ],
)
def test_percent(share, words):
    assert percent(share) == words


@given(st.floats(0, 1))
def test_only_what_is_certain_reads_as_certain(share):
    assert (percent(share) == "0%") == (tenths(share) == "0.0%") == (share == 0)
    assert (percent(share) == "100%") == (tenths(share) == "100.0%") == (share == 1)
    assert percent(softmaxed(share)) != "100%"


@given(st.floats(-1e6, 1e6))
def test_a_lower_bound_is_rounded_down(bound):
    said = float(lower_bound(bound))
    assert said <= bound
    assert bound - said <= 0.0101 * abs(bound)


def test_a_lower_bound_keeps_three_digits():
    assert [lower_bound(x) for x in (0.1239, -0.1231, 2.5, 0.0)] == ["0.123", "-0.124", "2.5", "0"]


def test_pages_say_shares_as_the_library_does():
    shares = [0, 1e-300, 4e-4, 5.1e-4, 0.003, 0.01, 0.126, 0.857, 0.99, 0.9949, 0.9994, 0.9996]
    shares += [1 - 2.0**-52, 1]
    source = f"""
        import {{ percent, tenths }} from "{(FRONTEND / "shares.js").as_uri()}";
        console.log(JSON.stringify({shares}.map((share) => [percent(share), tenths(share)])));"""
    command = ["node", "--input-type=module", "-e", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[percent(share), tenths(share)] for share in shares]


@given(st.lists(st.floats(-300, 300), min_size=200, max_size=200))
@settings(max_examples=5, deadline=None)
def test_pages_round_a_bound_so_that_it_stays_one(bounds):
    bounds += [-1e-9, 1e-9, 0.1, -0.1, 2.675, -4.361050134529996, 0.2999999999999999]
    source = f"""
        import {{ roundedDown, roundedUp }} from "{(FRONTEND / "rounding.js").as_uri()}";
        console.log(JSON.stringify({bounds}.map((x) => [roundedDown(x, 2), roundedUp(x, 2)])));"""
    command = ["node", "--input-type=module", "-e", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for bound, (low, high) in zip(bounds, json.loads(done.stdout), strict=True):
        assert float(low) <= bound <= float(high)
        assert float(high) - float(low) < 0.0101
        assert "-0.00" not in (low, high)


def test_a_class_stands_before_its_probability():
    assert with_share("Egyptian cat", 0.857) == "Egyptian cat 86%"
    assert with_share("type 2", 0.9994) == "type 2 99.9%"
    assert with_share("9", 0.9994) == "9 (99.9%)"


@given(st.integers(min_value=0), st.floats(0, 1))
def test_a_numbered_class_is_never_side_by_side_with_another_number(index, share):
    said = with_share(str(index), share)
    assert not re.search(r"\d\s+[\d.]", said)
    assert re.findall(r"[<>]?[\d.]+%?", said) == [str(index), percent(softmaxed(share))]


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
