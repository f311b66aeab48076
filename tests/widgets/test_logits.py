"""The logits explorer: its probabilities, and where the plain formula breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from within_epsilon.widgets import LogitsExplorer

LOGITS = [9.2, 7.3, -1.0]


def explorer(**options: Any) -> LogitsExplorer:
    return LogitsExplorer(torch.tensor(LOGITS), ["cat", "dog", "hen"], **options)


def shares(page: Any) -> list[float]:
    texts = page.locator(".share").all_inner_texts()
    exact = {"<0.1%": "0", ">99.9%": "100"}
    return [float(exact.get(text, text).removesuffix("%")) / 100 for text in texts]


@pytest.mark.parametrize(
    ("logits", "message"),
    [([1.0], "2 to 8"), ([0.0] * 9, r"topk\(5\)"), ([0.0, float("nan")], "finite")],
)
def test_refuses(logits: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogitsExplorer(logits)


def test_probabilities_are_torchs() -> None:
    widget = explorer(temperature=2.5, shift=80)
    expected = (torch.tensor(LOGITS, dtype=torch.float64) / 2.5).softmax(0)
    torch.testing.assert_close(widget.probabilities(), expected)


@pytest.mark.browser
def test_page_shows_the_softmax_of_what_was_dragged(open_widget: Callable[..., Any]) -> None:
    page = open_widget(explorer())
    dog = page.get_by_role("slider", name="dog")
    dog.press("PageUp")
    dog.press("ArrowRight")
    temperature = page.get_by_role("slider", name="Temperature")
    temperature.press("Home")
    for _ in range(25):
        temperature.press("ArrowUp")
    now = page.evaluate("({ logits: model.get('logits'), T: model.get('temperature') })")
    assert now["logits"][1] > LOGITS[1]
    assert dog.get_attribute("aria-valuetext") == f"z = {now['logits'][1]:.1f}"
    assert now["T"] == pytest.approx(10**0.25, rel=1e-5)
    expected = (torch.tensor(now["logits"]) / now["T"]).softmax(0).tolist()
    assert shares(page) == pytest.approx(expected, abs=0.00051)


@pytest.mark.browser
@pytest.mark.parametrize(("key", "outcome"), [("End", "∞/∞ = nan"), ("Home", "0/0 = nan")])
def test_shift_breaks_the_plain_formula_alone(
    open_page: Callable[..., Any], key: str, outcome: str
) -> None:
    page = open_page(explorer())
    before = shares(page)
    page.get_by_role("slider", name="Shift").press(key)
    assert shares(page) == before
    assert outcome in page.locator(".sums").inner_text()
    assert "breaks" in page.locator(".verdict").inner_text()
    # torch agrees that the formula, as it is written, has no value there in float32.
    weights = (torch.tensor(LOGITS) + (120 if key == "End" else -120)).exp()
    assert (weights / weights.sum()).isnan().any()
