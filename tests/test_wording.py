"""Numbers as sentences say them."""

import pytest

from within_epsilon.wording import percent, radius


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
