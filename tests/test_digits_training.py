"""The shipped digits classifier: its script, its weights and its card agree."""

import importlib.util
import re

import pytest

from within_epsilon import data, models


@pytest.fixture(scope="module")
def script():
    """The training script, as a module."""
    spec = importlib.util.spec_from_file_location(
        "train_digits_cnn", data.shipped("train_digits_cnn.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def card():
    """The accuracies that the card states, by adversary."""
    text = data.shipped("digits_cnn.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| ([\d.]+)% \|$", text, flags=re.MULTILINE)
    return {threat: float(percent) / 100 for threat, percent in rows}


def test_the_card_states_what_the_shipped_weights_do(script, card):
    numbers = script.measure(models.digits_classifier(), data.digits().test)
    # Other processors round otherwise: allow two digits of 400.
    assert numbers == pytest.approx(card, abs=2.01 / 400)
    clean, noise, fgsm, pgd = numbers.values()
    assert clean >= noise > fgsm > pgd


def test_the_script_reproduces_the_accuracy(script, card):
    numbers = script.measure(script.train(), data.digits().test)
    threats = iter(script.THREATS)
    # Training amplifies rounding; six digits of 400 under no adversary, more under one.
    assert numbers[next(threats)] == pytest.approx(card["none"], abs=6 / 400)
    for threat in threats:
        assert numbers[threat] == pytest.approx(card[threat], abs=0.08)


def test_the_table_is_written_as_the_card_has_it(script, card):
    text = data.shipped("digits_cnn.md").read_text(encoding="utf-8")
    assert script.table(card) in text
