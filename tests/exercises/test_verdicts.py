"""The verdicts themselves: three kinds, never an exception."""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.exercises import check, verdict
from within_epsilon.exercises.registry import CHECKS
from within_epsilon.threat import Ball

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"


def _raises_not_implemented(*_arguments):
    raise NotImplementedError


@pytest.mark.parametrize(
    "stub", [None, ..., lambda *_: None, lambda *_: ..., _raises_not_implemented]
)
def test_a_stub_is_not_attempted_yet(stub):
    assert verdict("1.1", stub) == "not attempted yet"


def test_an_attempt_that_breaks_is_wrong_and_shows_its_line_and_its_input():
    def divide(logits, temperature, dim):
        return [row / 0 for row in logits.tolist()]

    first, line, given = verdict("3.1", divide).split("\n")
    assert first == "wrong, because it stopped with ZeroDivisionError: float division by zero" or (
        "unsupported operand" in first
    )
    assert line.endswith("return [row / 0 for row in logits.tolist()]")
    assert given == (
        "  called with logits = float32 of shape (3, 3), -2 to 3; temperature = 1.0; dim = 1"
    )


def test_an_error_inside_a_library_is_shown_at_the_readers_line():
    def add(logits, labels):
        return logits + torch.zeros(99)

    said = verdict("0.1", add)
    assert "must match the size" in said or "do not line up" in said
    said = verdict("3.2", lambda p, temperature: p @ torch.zeros(99))
    assert "RuntimeError" in said
    assert "p @ torch.zeros(99)" in said
    assert "p = float32 [0.7, 0.2, 0.1]; temperature = 1.0" in said


def test_what_cannot_be_converted_is_named():
    assert verdict("3.2", lambda *_: "hot").endswith("got str ('hot')")
    assert verdict("3.5", lambda *_: torch.ones(2, 2)).endswith("got shape (2, 2)")
    assert verdict("3.2", lambda *_: [[1, 2], [3]]).startswith("wrong, because it must return")


def test_only_the_stubs_own_error_counts_as_not_attempted():
    class Unfinished(nn.Module):
        pass

    said = verdict("3.2", lambda p, temperature: Unfinished()(p))
    assert "NotImplementedError" in said


def test_nothing_is_left_behind():
    def careless(clean, changed, epsilon):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        clean += 1
        return True

    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert "changed the `clean`" in verdict("1.1", careless)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_a_verdict_does_not_depend_on_the_state_that_it_finds():
    def unseeded(images, epsilon, seed):
        return (images + epsilon * torch.randn(images.shape).sign()).clamp(0, 1)

    torch.manual_seed(5)
    with torch.no_grad():
        first = verdict("1.3", unseeded)
    torch.manual_seed(6)
    assert verdict("1.3", unseeded) == first
    with torch.no_grad():  # an answer that needs gradients has them
        assert verdict("0.2", _slopes) == "correct"


EXERCISES = [
    name
    for chapter in range(11)
    if importlib.import_module(f"within_epsilon.exercises.chapter{chapter}")
    for name in CHECKS
    if name.startswith(f"{chapter}.")
]
GARBAGE = ["hot", {"x": 1}, object(), torch.ones(3), np.array(["a"]), float("nan")]


@pytest.mark.parametrize("number", EXERCISES)
def test_garbage_is_wrong_in_a_sentence_whatever_is_asked(number):
    for thing in GARBAGE:
        said = verdict(number, lambda *_, thing=thing, **__: thing)
        assert said.startswith("wrong, because "), (thing, said)
        assert "could not be judged" not in said, (thing, said)
        assert "stopped with" not in said, (thing, said)


def test_a_value_where_a_function_belongs_is_told_so():
    said = verdict("1.1", True)
    assert said == "wrong, because the check wants the function itself, not True"
    assert "must be a dictionary" in verdict("2.1", lambda: 3)


@pytest.mark.parametrize("number", EXERCISES)
def test_numbers_that_are_none_are_never_correct(number):
    """Whatever shape is asked for, NaN does not fill it."""

    def poison(value):
        if isinstance(value, torch.Tensor):
            return torch.full(value.shape, torch.nan)
        return float("nan")

    for place in range(5):  # the argument whose shape the answer takes

        def attempt(*given, place=place, **_):
            return poison(given[place]) if place < len(given) else None

        assert verdict(number, attempt) != "correct"


@pytest.mark.filterwarnings("error")
def test_the_checks_own_models_give_the_library_nothing_to_warn_of():
    def least(model, image, label):
        for k in range(1, 1601):
            ball = Ball("linf", k / 100 / 255)
            if model(fgsm(model, image, label, ball)).argmax(dim=1) != label:
                return ball.epsilon
        return float("inf")

    def towards(model, images, targets, epsilon):
        return fgsm(model, images, targets, Ball("linf", epsilon), targeted=True)

    assert verdict("1.4", towards) == "correct"
    assert verdict("1.6", least) == "correct"
    assert verdict("9.3", pgd) == "correct"


def test_a_reader_who_quits_does_not_end_the_notebook():
    assert "SystemExit" in verdict("1.1", lambda *_: sys.exit(1))


def _slopes(function, images):
    images.requires_grad_()
    return torch.autograd.grad(function(images).sum(), images)[0]


@pytest.mark.parametrize("number", ["1.99", "99.1", "", "nonsense", 99.1, 7, None])
def test_an_unknown_exercise_gets_a_sentence(number, capsys):
    check(number, None)
    assert f"there is no exercise '{number}'; that chapter has" in capsys.readouterr().out


def test_a_number_will_do_and_other_chapters_exercises_are_not_listed():
    assert verdict(3.1, None) == verdict("3.1", None) == "not attempted yet"
    assert verdict("1.1", None) == "not attempted yet"
    listed = verdict("3.99", None).partition("that chapter has ")[2].split(", ")
    assert "3.1" in listed
    assert all(number.startswith("3.") for number in listed)


def _checked_cells():
    """Yield (chapter, exercise, is the solution, printed text) for every check in the book."""
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            number = re.search(r'exercises\.check\(\s*"([\d.]+)"', source)
            if number and cell["cell_type"] == "code":
                text = "".join("".join(out.get("text", "")) for out in cell["outputs"])
                yield path.name, number[1], source.startswith("# Solution"), text


def test_every_exercise_of_the_book_has_a_stub_and_a_solution_that_is_correct():
    seen: dict[str, set[bool]] = {}
    for chapter, number, is_solution, text in _checked_cells():
        wanted = "correct" if is_solution else "not attempted yet"
        assert f"Exercise {number}: {wanted}" in text, (chapter, number)
        assert number.split(".")[0] == str(int(chapter[:2])), (chapter, number)
        seen.setdefault(number, set()).add(is_solution)
    assert seen, "no chapter has exercises"
    assert all(kinds == {True, False} for kinds in seen.values()), seen
    for number in seen:
        verdict(number, None)  # which reads its chapter's checks
    assert sorted(CHECKS) == sorted(seen), "a check that no chapter asks for"
