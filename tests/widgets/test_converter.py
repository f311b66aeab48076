"""The ε converter: against the arithmetic of normalising and of 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import traitlets

from within_epsilon.models import Classifier
from within_epsilon.widgets import EpsilonConverter
from within_epsilon.widgets.converter import SCALES


def rows(page: Any) -> list[list[float]]:
    """Return pixels, levels, normalised and stored levels of each channel."""
    return [
        [float(text) for text in row.locator("td").all_inner_texts()]
        for row in page.locator("tbody tr").all()
    ]


@pytest.mark.parametrize("unit", ["pixels", "normalised"])
def test_readings_are_what_normalising_does(unit: str) -> None:
    deviations = list(SCALES["ImageNet"].values())
    layer = Classifier(torch.nn.Identity(), mean=[0.485, 0.456, 0.406], std=deviations)
    image = torch.full((1, 3, 1, 1), 100 / 255, dtype=torch.float64)
    layer = layer.double()
    for level in (0.25, 0.75, 2.0, 8.0):
        epsilon = level / 255
        readings = EpsilonConverter(epsilon, unit).readings().values()
        before = (image - layer.mean) / layer.std
        if unit == "pixels":
            moved = image + epsilon
            after = (moved - layer.mean) / layer.std
        else:
            after = before + epsilon
            moved = after * layer.std + layer.mean
        stored = (moved * 255).round() - 100
        for i, reading in enumerate(readings):
            assert reading.pixels == pytest.approx((moved - image)[0, i].item(), abs=1e-6)
            assert reading.normalised == pytest.approx((after - before)[0, i].item(), abs=1e-6)
            assert reading.levels == pytest.approx(255 * reading.pixels)
            assert reading.stored == stored[0, i].item()


def test_every_number_is_a_stop() -> None:
    widget = EpsilonConverter(0.05, epsilons=(0.1, 0.2))
    assert (widget.epsilon, widget.epsilons) == (0.05, [0.05, 0.1, 0.2])
    widget.epsilon = 0.17
    assert widget.epsilon == 0.2  # what the page shows


def test_refuses_what_is_no_scale() -> None:
    for numbers in ({"epsilon": -3}, {"epsilon": 0}, {"epsilons": [0.1, float("nan")]}):
        with pytest.raises(ValueError, match="expected numbers > 0"):
            EpsilonConverter(**numbers)
    with pytest.raises(traitlets.TraitError, match="ImageNet"):
        EpsilonConverter(data="imagenet")
    with pytest.raises(ValueError, match="positive"):
        EpsilonConverter(data="mine", scales={"mine": {"grey": 0.0}})


@pytest.mark.browser
def test_page_agrees_at_every_stop(open_widget: Callable[..., Any]) -> None:
    widget = EpsilonConverter()
    page = open_widget(widget)
    slider = page.get_by_role("slider")
    for unit, name in (("pixels", "in [0, 1]"), ("normalised", "normalised")):
        page.get_by_role("radio", name=name).check()
        for data in SCALES:
            page.get_by_role("radio", name=data).check()
            for key in ("Home", "ArrowRight", "PageUp", "PageUp", "PageUp", "End"):
                slider.press(key)
                widget.epsilon = page.evaluate("model.get('epsilon')")
                widget.unit, widget.data = unit, data
                readings = widget.readings().values()
                for shown, expected in zip(rows(page), readings, strict=True):
                    assert shown == pytest.approx(expected, rel=0.06)


@pytest.mark.browser
def test_verdict_tells_what_becomes_of_it(open_page: Callable[..., Any]) -> None:
    page = open_page(EpsilonConverter(0.25 / 255))
    verdict = page.locator(".verdict")
    assert "rounds it to nothing" in verdict.inner_text()
    page.get_by_role("slider").press("PageUp")
    page.get_by_role("slider").press("PageUp")
    assert "0.75/255" in verdict.inner_text()
    assert "up to 1 level, out of the ball" in verdict.inner_text()
    page.get_by_role("slider").press("PageUp")
    page.get_by_role("radio", name="normalised").check()
    assert "times less than claimed" in verdict.inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 360, 1280])
def test_a_rulers_name_stays_clear_of_lines(open_page: Callable[..., Any], width: int) -> None:
    page = open_page(EpsilonConverter(), width=width)
    slider = page.get_by_role("slider")

    def boxes(selector: str) -> list[dict[str, float]]:
        return [each.bounding_box() for each in page.locator(f".rule {selector}").all()]

    for unit in ("in [0, 1]", "normalised"):
        page.get_by_role("radio", name=unit).check()
        for key in ("Home", "PageUp", "PageUp", "End"):
            slider.press(key)
            names, lines = boxes(".named"), boxes(".cursor") + boxes(".claimed")
            assert max(line["x"] + line["width"] for line in lines) < min(box["x"] for box in names)
            assert max(box["x"] + box["width"] for box in names) <= width
