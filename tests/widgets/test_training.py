"""The training explorer: it trains in the page, compares, plays records where it cannot."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labs
import pytest
import traitlets

from within_epsilon.widgets import TrainingExplorer
from within_epsilon.widgets.base import FRONTEND
from within_epsilon.widgets.engine import ENGINE
from within_epsilon.widgets.training import RUNS, words
from within_epsilon.wording import percent

OWN = ("training", "training_curves", "training_runs", "models")


def short(**options: Any) -> TrainingExplorer:
    """Return an explorer whose runs take seconds."""
    return TrainingExplorer(**({"epsilon": 0.1, "epochs": 2} | options))


# --- Python ---


def test_refuses_what_it_cannot_do() -> None:
    for wrong in ({"epsilon": 0.12}, {"steps": 4}, {"start": "warm"}, {"epochs": 0}, {"seed": -1}):
        with pytest.raises(traitlets.TraitError):
            TrainingExplorer(**wrong)
    explorer = TrainingExplorer()
    with pytest.raises(traitlets.TraitError):
        explorer.steps = 6
    explorer.epsilon = 0.2
    assert explorer.epsilon == 0.2


def test_records_show_what_the_chapter_claims() -> None:
    """FGSM training ends robust to FGSM and not to PGD; PGD's three steps do not."""
    runs = {(run["steps"], run["start"]): run for run in TrainingExplorer().runs}
    assert all(run["epsilon"] == 0.3 and run["seed"] == 0 for run in runs.values())
    clean, fgsm, pgd = runs[1, "clean"]["points"][-1]
    assert clean > 160
    assert fgsm > 80
    assert pgd <= 4
    clean, _, pgd = runs[3, "random"]["points"][-1]
    assert clean > 160
    assert percent(pgd / 200) == "36%"
    assert all(end[2] >= pgd for end in runs[3, "random"]["others"])
    assert runs[0, "clean"]["points"][-1][2] == 0


def test_words() -> None:
    for steps, start, expected in (
        (0, "noise", "no adversary"),
        (1, "clean", "FGSM"),
        (1, "noise", "N-FGSM"),
        (1, "random", "one step from a random point"),
        (3, "random", "PGD, 3 steps"),
        (3, "clean", "PGD, 3 steps from the clean digit"),
        (3, "noise", "noise and 3 steps"),
    ):
        assert words({"steps": steps, "start": start}) == expected


def test_still_says_how_both_runs_end() -> None:
    explorer = TrainingExplorer()
    still = explorer.still()
    for run in explorer.runs:
        shown = (run["steps"], run["start"]) in ((1, "clean"), (3, "random"))
        clean, fgsm, pgd = (percent(hits / 200) for hits in run["points"][-1])
        said = f"clean {clean}, FGSM {fgsm}, PGD {pgd} of 200 held-out digits, ℓ∞ ε = 0.3"
        assert still.count(said) == 2 * shown  # below the picture, and as its text


def test_little_travels_on_top_of_the_digit_lab() -> None:
    """At most 60 KB, gzipped: modules, digits, and what stands in the page."""
    state = TrainingExplorer().page_state()
    files = [FRONTEND / f"{name}.js" for name in OWN]
    files += [ENGINE / f"{name}.js" for name in ("train", "learn", "random")]
    files += [ENGINE / "digits.bin"]
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in files}
    sizes["state"] = len(gzip.compress(json.dumps(state).encode()))
    assert sum(sizes.values()) <= 60_000, sizes
    assert RUNS.stat().st_size < 20_000


# --- browser ---


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def ended(page: Any, timeout: float = 60_000) -> str:
    """Wait for the end of a run; return the verdict."""
    page.get_by_role("button", name="Train anew").wait_for(timeout=timeout)
    return str(page.locator(".verdict").first.inner_text())


def table(page: Any) -> list[list[str]]:
    """Return the numbers as the table has them, with its head."""
    rows = page.locator("table").first.locator("tr")
    return [row.locator("th, td").all_inner_texts() for row in rows.all()]


VERDICT = r"Epoch 2 of 2: clean (\d+)%, FGSM (\d+)%, PGD (\d+)% of 200 held-out digits, ℓ∞ ε = 0.1"


@pytest.mark.browser
@pytest.mark.parametrize("script", ["", labs.NO_WORKER], ids=["worker", "main thread"])
def test_trains_in_the_page(open_page: Callable[..., Any], script: str) -> None:
    page = open_page(short(), script=script)
    untrained = "Not trained yet: ℓ∞ ε = 0.1, to be trained against FGSM."
    assert page.locator(".verdict").inner_text() == untrained
    lessons = page.locator(".accuracies image")
    assert lessons.count() == 48
    assert page.get_by_text("48 of the 1,197 digits to learn from").count() == 1
    assert "about one digit in ten" in page.locator(".compared").inner_text()
    press(page, "Train")
    found = re.search(VERDICT + ", trained against FGSM", ended(page))
    assert lessons.count() == 0
    assert not page.locator(".compared").inner_text().strip()
    assert found
    clean, fgsm, pgd = map(int, found.groups())
    assert clean > 60  # two epochs are enough for that
    assert clean > fgsm > 0
    assert pgd <= fgsm
    page.get_by_text("The numbers as a table").click()
    head, *rows = table(page)
    assert head == ["epoch", "clean", "FGSM", "PGD"]
    assert [row[0] for row in rows] == ["0", "2"]
    assert int(rows[0][1].rstrip("%")) < clean
    where = r"2 epochs in \d+ s, in this page" + (", on its main thread" if script else "")
    assert re.match(where, page.locator(".notice").first.inner_text())
    assert page.locator(".digits .right, .digits .wrong").count() == 5


@pytest.mark.browser
def test_pauses_goes_on_and_compares(open_page: Callable[..., Any]) -> None:
    page = open_page(short(epochs=6))
    press(page, "Train")
    page.locator(".verdict", has_text=re.compile("Epoch [1-5] of 6")).wait_for()
    press(page, "Pause")
    page.get_by_role("button", name="Go on").wait_for()
    paused = page.locator(".verdict").first.inner_text()
    assert paused.startswith("paused")
    page.wait_for_timeout(700)
    assert page.locator(".verdict").first.inner_text() == paused
    assert page.get_by_role("button", name="Train anew").is_visible()
    page.get_by_role("radio", name="2", exact=True).check()
    press(page, "Go on")
    first = ended(page).partition("Epoch 6 of 6: ")[2]
    assert re.search(
        r"trained against FGSM, from epoch \d PGD, 2 steps from the clean digit", first
    )
    switch = page.locator(".accuracies text", has_text="then PGD-2")
    assert switch.count() == 1
    page.get_by_role("radio", name="3", exact=True).check()
    page.get_by_role("radio", name="a random point").check()
    press(page, "Train anew")
    assert page.get_by_role("slider", name="Size of the perturbation").is_disabled()
    assert "PGD, 3 steps." in ended(page)
    assert page.locator(".compared").inner_text() == f"Pale, the run before: {first}"
    assert page.locator(".accuracies .line.pale").count() == 3
    assert page.locator(".accuracies text", has_text="then").count() == 0
    page.get_by_text("The numbers as a table").click()
    assert table(page)[0][-1] == "PGD, run before"
    press(page, "Reset")
    page.get_by_role("button", name="Train", exact=True).wait_for()
    assert page.locator(".accuracies .line").count() == 0
    assert page.get_by_role("radio", name="1", exact=True).is_checked()


@pytest.mark.browser
def test_what_was_trained_is_attacked_in_the_digit_lab(open_page: Callable[..., Any]) -> None:
    page = open_page(short(epochs=4, epsilon=0.2))
    attack = page.get_by_role("button", name="Attack it in the digit lab")
    assert attack.is_disabled()
    press(page, "Train")
    page.locator(".verdict", has_text=re.compile("Epoch [1-4] of 4")).wait_for()
    assert "Loading" not in page.locator(".notice").first.inner_text()
    ended(page)
    press(page, "Train anew")  # the same again, from another seed
    ended(page)
    attack.click()
    lab = page.get_by_role("group", name="Digit lab")
    slider = lab.get_by_role("slider", name="Size of the perturbation")
    slider.wait_for()
    assert "ε = 0.2" in slider.get_attribute("aria-valuetext")  # the radius of its training
    slider.press("End")
    verdict = lab.locator(".verdict")
    verdict.filter(
        has_text=re.compile(r"0 \([>\d.]+%\) → \d \([>\d.]+%\), ℓ∞ ε = 0.5, PGD, 20 steps")
    ).wait_for()
    assert lab.locator(".tables ul").count() == 2
    assert lab.get_by_role("radio", name="before: FGSM, ε = 0.2").count() == 1


@pytest.mark.browser
def test_runs_differ_by_seed_and_repeat_themselves(open_page: Callable[..., Any]) -> None:
    found = []
    for seed in (0, 0, 1):
        page = open_page(short(seed=seed, epochs=1))
        press(page, "Train")
        ended(page)
        page.get_by_text("The numbers as a table").click()
        found.append(table(page))
    assert found[0] == found[1] != found[2]


BROKEN = {
    "client": lambda path: 404 if path.endswith("client.js") else None,
    "trainer": lambda path: 404 if path.endswith("train.js") else None,
    "digits": lambda path: 404 if path.endswith("digits.bin") else None,
}


@pytest.mark.browser
@pytest.mark.parametrize("rung", BROKEN)
def test_plays_the_record_where_it_cannot_train(
    open_page: Callable[..., Any], site: Path, rung: str
) -> None:
    page = open_page(
        TrainingExplorer(), break_=BROKEN[rung], expected=labs.FAILED, reduced_motion="reduce"
    )
    press(page, "Train")
    run = next(r for r in TrainingExplorer().runs if (r["steps"], r["start"]) == (1, "clean"))
    clean, fgsm, pgd = (percent(hits / 200) for hits in run["points"][-1])
    assert f"Epoch 60 of 60: clean {clean}, FGSM {fgsm}, PGD {pgd} of 200" in ended(page)
    assert "recorded when the book was made" in page.locator(".notice").first.inner_text()
    assert page.get_by_role("button", name="Attack it in the digit lab").count() == 0
    page.get_by_role("radio", name="7").check()
    press(page, "Train anew")
    page.locator(".verdict", has_text="has not recorded this").wait_for()


def asked_for(page: Any) -> tuple[str, str]:
    """Do what chapter 10 asks its reader to do; return how both runs end."""
    press(page, "Train")
    first = ended(page, timeout=300_000)
    page.get_by_role("radio", name="3", exact=True).check()
    page.get_by_role("radio", name="a random point").check()
    page.locator(".go").click()
    page.locator(".compared", has_text="Pale, the run before").wait_for()
    return first, ended(page, timeout=300_000)


def recorded(steps: int, start: str, epochs: int = 60) -> str:
    """Return what the explorer says of the first epochs of a recorded run."""
    runs = TrainingExplorer().runs
    run = next(r for r in runs if (r["steps"], r["start"]) == (steps, start))
    clean, fgsm, pgd = (percent(hits / 200) for hits in run["points"][epochs])
    return f"Epoch {epochs} of {epochs}: clean {clean}, FGSM {fgsm}, PGD {pgd} of 200"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kernel", "epochs"),
    [(False, 3), (True, 60), pytest.param(False, 60, marks=pytest.mark.slow)],
)
def test_what_the_chapter_asks_for_ends_as_it_says(
    open_page: Callable[..., Any], kernel: bool, epochs: int
) -> None:
    """FGSM, then three steps from a random point: a third stand, live and beside a kernel.

    What is trained in the page is what was recorded, to the digit, so a few epochs tell.
    """
    explorer = TrainingExplorer(epochs=epochs)
    if kernel:
        page = open_page(reduced_motion="reduce")
        labs.connect(page, explorer)
    else:
        page = open_page(explorer)
    first, second = asked_for(page)
    assert recorded(1, "clean", epochs) in first
    assert recorded(3, "random", epochs) in second
    assert ("many stand under PGD" in second) == (epochs == 60)


@pytest.mark.browser
def test_plays_the_record_beside_a_kernel(open_page: Callable[..., Any]) -> None:
    explorer = TrainingExplorer(steps=3, start="random")
    page = open_page(reduced_motion="reduce")
    saved = labs.connect(page, explorer)
    assert "Beside a kernel the run is a recording" in page.locator(".notice").inner_text()
    assert page.locator(".verdict").inner_text().startswith("Not trained yet: ℓ∞ ε = 0.3")
    press(page, "Train")
    assert "trained against PGD, 3 steps" in ended(page)
    page.get_by_role("radio", name="2", exact=True).check()
    assert saved[-1]["steps"] == 2
    press(page, "Train anew")
    page.locator(".verdict", has_text="has not recorded this").wait_for()


@pytest.mark.browser
def test_a_record_plays_in_part_too(open_page: Callable[..., Any]) -> None:
    explorer = TrainingExplorer(epochs=5)
    page = open_page(explorer, break_=BROKEN["client"], expected=labs.FAILED)
    press(page, "Train")
    page.get_by_role("button", name="Pause").wait_for()  # it moves, and can be stopped
    verdict = ended(page)
    run = next(r for r in explorer.runs if (r["steps"], r["start"]) == (1, "clean"))
    assert f"Epoch 5 of 5: clean {percent(run['points'][5][0] / 200)}" in verdict
    assert page.locator(".digits .right, .digits .wrong").count() == 5


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_is_sound_once_it_has_trained(
    open_page: Callable[..., Any], assert_sound: Callable[..., None], theme: str, width: int
) -> None:
    page = open_page(short(epochs=1), theme=theme, width=width)
    for _ in range(2):
        page.locator(".go").click()
        ended(page)
    page.get_by_text("The numbers as a table").click()
    assert_sound(page, width)
    chart = page.get_by_role(
        "img", name=re.compile("^Accuracy over epochs. This run: after 1 epoch clean")
    )
    assert chart.count() == 1


@pytest.mark.browser
def test_the_page_stays_free_while_it_trains(open_page: Callable[..., Any]) -> None:
    """An epoch costs the main thread less than half of the 50 ms that a reader might notice.

    Counted in the thread's own time: how long it waits for a processor says nothing of us.
    """
    page = open_page(short(epochs=12))
    line = page.context.new_cdp_session(page)
    press(page, "Train")
    page.locator(".verdict", has_text=re.compile("Epoch [1-4] of 12")).wait_for()
    line.send("Performance.enable", {"timeDomain": "threadTicks"})
    begun = int(re.search(r"Epoch (\d+)", page.locator(".verdict").inner_text())[1])
    before = task_time(line)
    ended(page)
    assert 0 < task_time(line) - before < 0.025 * (12 - begun)


def task_time(line: Any) -> float:
    """Return how many seconds the page's main thread has worked."""
    metrics = line.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))
