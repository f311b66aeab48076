"""The verdicts themselves: three kinds, never an exception."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from within_epsilon.exercises import check, verdict

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"


def _raises_not_implemented(*_arguments):
    raise NotImplementedError


def _breaks(*_arguments):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    "stub", [None, ..., lambda *_: None, lambda *_: ..., _raises_not_implemented]
)
def test_a_stub_is_not_attempted_yet(stub):
    assert verdict("1.1", stub) == "not attempted yet"


def test_an_attempt_that_breaks_is_wrong_and_says_how():
    assert verdict("1.1", _breaks) == "wrong, because it stopped with ZeroDivisionError: oh"


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
