"""A class's seed changes what an answer is tried on, never whether a right one is right."""

from __future__ import annotations

import pytest
import torch

from within_epsilon.data import digits
from within_epsilon.exercises import verdict
from within_epsilon.exercises.variants import VARIABLE, drawn, jittered, variant

SEEDS = ["", "0", "1", "2026"]


def _lead(logits, labels):
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def _inputs(seed, monkeypatch):
    """Return the first logits that the check of exercise 0.3 shows, after a right answer to it."""
    monkeypatch.setenv(VARIABLE, seed)
    seen = []

    def watched(logits, labels):
        seen.append(logits.clone())
        return _lead(logits, labels)

    assert verdict("0.3", watched) == "correct"
    return seen[0]


def test_a_class_has_inputs_of_its_own_and_the_same_for_all(monkeypatch):
    book, zero, one, other = (_inputs(seed, monkeypatch) for seed in SEEDS)
    assert torch.equal(book, zero)
    assert torch.equal(one, _inputs("1", monkeypatch))
    assert not torch.equal(book, one)
    assert not torch.equal(one, other)
    assert book.shape == one.shape


def test_an_answer_that_knows_the_books_numbers_fails_in_another_class(monkeypatch):
    known = {}

    def by_heart(logits, labels):
        return known.setdefault(logits.shape, _lead(logits, labels))

    monkeypatch.setenv(VARIABLE, "0")
    assert verdict("0.3", by_heart) == "correct"
    assert verdict("0.3", by_heart) == "correct"
    monkeypatch.setenv(VARIABLE, "1")
    assert verdict("0.3", by_heart).startswith("wrong, because ")


def test_images_are_drawn_and_numbers_moved_by_little(monkeypatch):
    images, _ = drawn(digits().validation, 50)
    assert torch.equal(images, digits().validation.images[:50])
    numbers = torch.tensor([2.0, -1.0, 0.0])
    assert jittered(numbers) is numbers
    monkeypatch.setenv(VARIABLE, "5")
    others, _ = drawn(digits().validation, 50)
    assert others.shape == images.shape
    assert not torch.equal(others, images)
    moved = jittered(numbers)
    assert (moved - numbers).abs().max() <= 0.1
    assert not torch.equal(moved, numbers)
    assert variant(0) != variant(1)


def test_a_seed_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv(VARIABLE, "seven")
    with pytest.raises(ValueError, match=r"WITHIN_EPSILON_SEED: expected .* 'seven'"):
        variant(0)
