"""The margin explorer: exact numbers, and those of float32 probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from within_epsilon.widgets import MarginExplorer
from within_epsilon.widgets.margin import losses_at


def numbers(page: Any) -> list[list[float]]:
    """Return loss, probability and gradient: [from logits, from float32 probabilities]."""
    texts = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    clean = {"∞": "inf"}
    return [
        [float(clean.get(t, t).replace("−", "-")) for t in (x.removesuffix(", wrong") for x in row)]
        for row in texts
    ]


def by_way_of_probabilities(margin: float, classes: int) -> tuple[float, float, float]:
    logits = torch.zeros(1, classes)
    logits[0, 0] = margin
    logits.requires_grad_()
    probability = logits.softmax(-1)[0, 0]
    loss = -probability.log()
    loss.backward()
    assert logits.grad is not None
    return loss.item(), probability.item(), abs(logits.grad[0, 0].item())


def test_losses_are_torchs() -> None:
    margins = np.array([-50.0, 0.0, 12.5, 50.0])
    logits = torch.zeros(4, 10, dtype=torch.float64)
    logits[:, 0] = torch.from_numpy(margins)
    labels = torch.zeros(4, dtype=torch.int64)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(losses_at(margins, 10), expected, rtol=1e-6, atol=1e-15)


def test_refuses_what_it_cannot_show() -> None:
    for change in ({"margin": 61}, {"classes": 3}, {"view": "sideways"}):
        with pytest.raises(traitlets.TraitError):
            MarginExplorer(**change)


@pytest.mark.browser
@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("margin", [-60, -5, 0, 3, 12])
def test_numbers_are_those_of_torch(
    open_page: Callable[..., Any], margin: float, classes: int
) -> None:
    page = open_page(MarginExplorer(margin, classes, "far"))
    loss, probability, gradient = numbers(page)
    exact = losses_at(np.array([margin], dtype=float), classes)[0]
    assert loss[0] == pytest.approx(exact, rel=6e-3)
    assert probability[0] == pytest.approx(np.exp(-exact), rel=6e-3)
    assert gradient[0] == pytest.approx(-np.expm1(-exact), rel=6e-3)
    for shown, expected in zip(
        (loss, probability, gradient), by_way_of_probabilities(margin, classes), strict=True
    ):
        assert shown[1] == pytest.approx(expected, rel=0.02, abs=3e-7)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("margin", "word", "mark"), [(40, "rounds to 1", "right"), (-115, "rounds to 0", "wrong")]
)
def test_float32_probabilities_fail_as_in_torch(
    open_page: Callable[..., Any], margin: int, word: str, mark: str
) -> None:
    page = open_page(MarginExplorer(margin, 10, "far"))
    sentence = page.locator(".verdict").inner_text()
    assert word in sentence
    assert sentence.startswith(mark)
    shown = [row[1] for row in numbers(page)]
    assert shown == pytest.approx(by_way_of_probabilities(margin, 10), nan_ok=True)
    assert page.locator("td.wrong").count() >= 2


@pytest.mark.browser
def test_chart_and_slider_move_together(open_page: Callable[..., Any]) -> None:
    page = open_page(MarginExplorer())
    box = page.locator(".plot").bounding_box()
    page.mouse.click(box["x"] + 14, box["y"] + 60)
    slider = page.locator("input[type=range]:visible")
    assert slider.get_attribute("aria-valuetext") == "−10.0"
    page.get_by_role("radio", name="1000").check()
    assert "1000 classes: loss 16.91" in page.locator(".verdict").inner_text()
    slider.press("End")
    page.get_by_role("radio", name="as far as float32 goes").check()
    assert page.locator("input[type=range]:visible").get_attribute("aria-valuetext") == "20"
