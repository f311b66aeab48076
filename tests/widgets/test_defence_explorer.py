"""The defence explorer: what is recorded, and that it keeps the answer to itself until a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from within_epsilon.attacks import pgd
from within_epsilon.data import digits
from within_epsilon.defences import Saturated
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.losses import margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets import Case, DefenceExplorer, digit_rounds, record_case
from within_epsilon.widgets.defences import STOPS

LOST = {"epsilon": tuple(range(0, 100, 10)), "steps": tuple(range(7)), "restarts": (9,) * 5}
HONEST = Case("an honest network", 100, 0.1, LOST)
FAKE = Case("a fake", 100, 0.1, LOST, "a better attack", "Look at it.", tuple(range(10, 110, 10)))


def test_a_case_records_what_the_library_measures() -> None:
    data, model = digits().test[:20], Saturated(digits_classifier())
    tool = partial(pgd, steps=20, loss=margin_loss)
    case = record_case("saturated", model, data, 0.2, tool=tool, called="margin", why="flat")
    options: dict[str, Any] = {"seed": 0, "diagnose": False, "progress": False}
    for view, stops in STOPS.items():
        assert len(case.lost[view]) == len(stops)
    ball, place = Ball("linf", 0.2), STOPS["epsilon"].index(0.2)
    long = robust_accuracy(model, data, partial(pgd, steps=50), ball, **options)
    assert case.lost["steps"][STOPS["steps"].index(50)] == 20 - long.robust
    better = robust_accuracy(model, data, tool, ball, **options)
    assert case.broken[place] == 20 - better.robust > case.lost["epsilon"][place]
    assert (case.n, case.epsilon, case.tool) == (20, 0.2, "margin")
    with pytest.raises(ValueError, match="epsilon: expected one of"):
        record_case("saturated", model, data, 0.25)


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([], "received none"),
        ([[FAKE]], "2 to 4 cases"),
        ([[HONEST, HONEST]], "received 2 with 0"),
        ([[FAKE, HONEST], [FAKE, FAKE, HONEST]], "received 3 with 2"),
        ([[FAKE, replace(HONEST, epsilon=0.2)]], "one radius"),
        ([[FAKE, replace(HONEST, n=50)]], "one number of examples"),
    ],
)
def test_rounds_that_cannot_be_played_are_refused(rounds: list[list[Case]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DefenceExplorer(rounds)


def climb(case: Case, view: str) -> int:
    """Return how many more examples are lost at a curve's end than at its beginning."""
    return case.lost[view][-1] - case.lost[view][0]


def test_each_round_of_the_chapter_has_a_fake_that_its_curves_give_away() -> None:
    rounds = digit_rounds(60)
    fakes = [next(case for case in cases if case.tool) for cases in rounds]
    honest = [case for cases in rounds for case in cases if not case.tool]
    saturated, one_step, winners = fakes
    # Over epsilon: an attack that is free to show any image and still fails.
    assert saturated.lost["epsilon"][-1] < 45
    assert all(case.lost["epsilon"][-1] == 60 for case in honest)
    # Over steps: robust to one, and to nothing else.
    assert climb(one_step, "steps") >= 12
    assert all(climb(case, "steps") <= 6 for case in rounds[1] if case is not one_step)
    # At the claim's radius, the tool finds more than plain PGD did.
    for case in fakes:
        place = STOPS["epsilon"].index(case.epsilon)
        assert case.broken[place] > case.lost["epsilon"][place], case
    # Over restarts: honest networks lose no more; the winners do.
    beside = [case for case in rounds[2] if case is not winners]
    assert climb(winners, "restarts") > max(climb(case, "restarts") for case in beside)


# --- browser ---


@pytest.mark.browser
def test_names_come_after_a_guess(open_page: Callable[..., Any]) -> None:
    page = open_page(DefenceExplorer([[HONEST, FAKE], [FAKE, HONEST]]))
    shown, verdict = page.locator(".card"), page.locator(".verdict")
    reveal = page.get_by_role("button", name="Reveal")
    assert reveal.is_disabled()
    slider = page.get_by_role("slider", name="Attack with ε")
    slider.press("End")
    assert "ε = 1: of 100 digits are lost A 90, B 90" in verdict.inner_text()
    for word in ("honest", "a fake", "a better attack", "Look at it"):
        assert word not in shown.inner_text()
    page.get_by_role("radio", name="A", exact=True).check()
    assert "a fake" not in shown.inner_text()
    reveal.click()
    assert verdict.inner_text().startswith("not that one")
    assert "It is B. Look at it. At ε = 0.1, where plain PGD makes it lose 20, a better attack" in (
        verdict.inner_text()
    )
    assert "makes it lose 30" in verdict.inner_text()
    assert "an honest network" in shown.inner_text()
    page.get_by_role("button", name="Next round").click()
    assert "Round 2 of 2" in shown.inner_text()
    assert "a fake" not in shown.inner_text()
    page.get_by_role("radio", name="A", exact=True).check()
    page.get_by_role("button", name="Reveal").click()
    assert verdict.inner_text().startswith("spotted")
    page.get_by_role("button", name="From the start").click()
    assert "Round 1 of 2" in shown.inner_text()


@pytest.mark.browser
def test_curves_are_drawn_as_far_as_one_has_dragged(open_page: Callable[..., Any]) -> None:
    page = open_page(DefenceExplorer([[HONEST, FAKE]]))
    line = page.locator(".line").first
    assert line.get_attribute("d").count("L") == 0
    slider = page.get_by_role("slider", name="Attack with ε")
    for _ in range(3):
        slider.press("ArrowRight")
    assert line.get_attribute("d").count("L") == 3
    slider.press("Home")
    assert line.get_attribute("d").count("L") == 3
    page.get_by_role("radio", name="steps").check()
    assert line.get_attribute("d").count("L") == 0
    assert "PGD, 1 step, ℓ∞ ε = 0.1" in page.locator(".verdict").inner_text()
    box = page.locator(".plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 15, box["y"] + 60)
    assert "PGD, 100 steps" in page.locator(".verdict").inner_text()
    page.get_by_role("button", name="Reset").click()
    assert line.get_attribute("d").count("L") == 0


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_chart_and_slider_stand_on_the_first_screen(
    open_page: Callable[..., Any], width: int, height: int
) -> None:
    page = open_page(DefenceExplorer([[HONEST, FAKE]]), width=width)
    top = page.locator(".card").bounding_box()["y"]
    for what in (".plot", "input[type=range]:visible", ".verdict"):
        box = page.locator(what).bounding_box()
        assert box["y"] + box["height"] - top < height - 300, what  # 300 for the chapter's lead


@pytest.mark.browser
def test_without_script_the_answer_is_folded(open_page: Callable[..., Any]) -> None:
    page = open_page(DefenceExplorer([[HONEST, FAKE]]), java_script_enabled=False)
    answer = page.locator("details p")
    assert not answer.is_visible()
    page.locator("summary").click()
    assert answer.inner_text().startswith("B, a fake. Look at it. At ℓ∞ ε = 0.1 a better attack")
